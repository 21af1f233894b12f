//! Values on their way out: as text for people, as documents for mutations.

use super::{Doc, Number, Opaque, Value};
use crate::{cel::EvalError, doc};

impl Value<'_> {
    /// The value as a document; what has no JSON (types, functions' own values) fails.
    pub fn to_doc(&self) -> Result<Doc, EvalError> {
        Ok(match self {
            Self::Null => Doc::Null,
            Self::Bool(value) => Doc::Bool(*value),
            Self::Int(value) => Doc::Number((*value).into()),
            Self::Uint(value) => Doc::Number((*value).into()),
            Self::Double(value) => {
                let number = Number::from_f64(*value);
                Doc::Number(number.ok_or_else(|| EvalError::new("a float that is not finite has no JSON"))?)
            }
            Self::String(text) => Doc::String(text.as_str().into()),
            Self::Bytes(bytes) => {
                use base64::Engine;
                Doc::String(base64::engine::general_purpose::STANDARD.encode(bytes).into())
            }
            Self::Timestamp(at) => Doc::String(at.to_string().into()),
            Self::Duration(span) => Doc::String(span.to_string().into()),
            Self::List(list) => Doc::Array(list.iter().map(|item| item.to_doc()).collect::<Result<_, _>>()?),
            Self::Map(map) => {
                let mut out = doc::Map::new();
                for (key, value) in map.iter() {
                    let key = key.as_str().ok_or_else(|| EvalError::new("only text can be a key of JSON"))?.to_owned();
                    out.insert(key, value.to_doc()?);
                }
                Doc::Object(out)
            }
            Self::Made(made) => {
                let mut out = doc::Map::new();
                for (name, value) in &made.fields {
                    out.insert(*name, value.to_doc()?);
                }
                Doc::Object(out)
            }
            Self::Optional(Some(inner)) => inner.to_doc()?,
            Self::Opaque(Opaque::Quantity(quantity)) => Doc::String(quantity.to_string().into()),
            Self::Opaque(Opaque::Ip(ip)) => Doc::String(ip.to_string().into()),
            Self::Optional(None) | Self::Type(_) | Self::Fields(_) | Self::Opaque(_) => {
                return Err(EvalError::new(format!("a value of type {} has no JSON", self.type_name())));
            }
        })
    }

    /// The value as `%s` of `format` and messages show it.
    pub(in crate::cel) fn show(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Double(value) => crate::cel::number::show_double(*value),
            Self::String(text) => text.as_str().to_owned(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Timestamp(at) => at.to_string(),
            Self::Duration(span) => span.to_string(),
            Self::List(list) => {
                let items: Vec<String> = list.iter().map(|item| item.show()).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(map) => {
                let mut entries: Vec<String> =
                    map.iter().map(|(key, value)| format!("{}: {}", key.show(), value.show())).collect();
                entries.sort();
                format!("{{{}}}", entries.join(", "))
            }
            Self::Type(name) => name.to_string(),
            Self::Optional(None) => "optional.none()".into(),
            Self::Optional(Some(inner)) => format!("optional({})", inner.show()),
            Self::Made(made) => {
                let fields: Vec<String> =
                    made.fields.iter().map(|(name, value)| format!("{name}: {}", value.show())).collect();
                format!("{}{{{}}}", made.name, fields.join(", "))
            }
            Self::Opaque(Opaque::Quantity(quantity)) => quantity.to_string(),
            Self::Opaque(Opaque::Ip(ip)) => ip.to_string(),
            Self::Opaque(Opaque::Cidr(cidr)) => cidr.to_string(),
            Self::Opaque(Opaque::Url(url)) => url.text().to_owned(),
            Self::Opaque(Opaque::Semver(version)) => version.to_string(),
            Self::Fields(_) | Self::Opaque(_) => self.type_name().to_owned(),
        }
    }
}
