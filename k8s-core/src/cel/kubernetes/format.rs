//! `format.dns1123Label()` and its like: named formats that say what is wrong with a text.

use super::{Answer, Budget, EvalError, Opaque, Value, text};
use crate::{
    cel::{
        kubernetes::url::Url,
        time::{Span, Timestamp},
    },
    names,
};

/// A named format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(&'static str);

/// Their names, which are names of functions too.
pub(in crate::cel) const NAMES: [&str; 14] = [
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "dns1035Label",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
    "duration",
];

impl Format {
    pub(in crate::cel) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|known| **known == name).map(|known| Self(known))
    }

    /// What is wrong with a text; nothing if it has the format.
    fn problems(self, text: &str) -> Vec<String> {
        // What a name is prefixed to may end in a dash.
        let unmasked = |text: &str| match text.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => format!("{rest}a"),
            _ => text.to_owned(),
        };
        match self.0 {
            "dns1123Label" => names::dns_label(text),
            "dns1123LabelPrefix" => names::dns_label(&unmasked(text)),
            "dns1123Subdomain" => names::dns_subdomain(text),
            "dns1123SubdomainPrefix" => names::dns_subdomain(&unmasked(text)),
            "dns1035Label" => names::dns_1035_label(text),
            "dns1035LabelPrefix" => names::dns_1035_label(&unmasked(text)),
            "qualifiedName" => names::qualified_name(text),
            "labelValue" => names::label_value(text),
            "uri" => Url::parse(text).err().into_iter().collect(),
            "uuid" => one(is_uuid(text), "does not match the UUID format"),
            "byte" => one(is_base64(text), "invalid base64"),
            "date" => one(Timestamp::parse(&format!("{text}T00:00:00Z")).is_some(), "invalid date"),
            "datetime" => one(Timestamp::parse(text).is_some(), "invalid datetime"),
            _ => one(Span::parse(text).is_some(), "invalid duration"),
        }
    }
}

fn one(right: bool, problem: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![problem.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

/// `format.named(name)`
pub(in crate::cel) fn named<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(match Format::named(text(args, 0)?) {
        Some(format) => Value::some(Opaque::Format(format).into()),
        None => Value::Optional(None),
    })
}

/// `f.validate(text)`: none, or the list of what is wrong.
pub(in crate::cel) fn validate<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let Value::Opaque(Opaque::Format(format)) = &args[0] else { return Err(EvalError::no_overload()) };
    let problems = format.problems(text(args, 1)?);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(problems.into_iter().map(Value::text).collect())))
}
