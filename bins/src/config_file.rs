//! `--config FILE`: a component's configuration, read strictly.
//!
//! A field that nobody knows, a wrong type, a key that is there twice, or a field of upstream's that this program does
//! not act on is one line that names the file and the field. A field that is not acted on may say what holds anyway.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::program::Failure;

/// What a file must say of itself, and which of upstream's fields are not acted on.
pub struct Form {
    /// Such as `kubelet.config.k8s.io/v1beta1`.
    pub api_version: &'static str,
    /// Such as `KubeletConfiguration`.
    pub kind: &'static str,
    /// Fields of upstream's that are not acted on.
    pub refused: &'static [RefusedField],
}

/// A field of upstream's that is not acted on: its path (`[]` stands for every item of a list), the values that say
/// what holds anyway, as JSON, and what holds.
pub type RefusedField = (&'static str, &'static [&'static str], &'static str);

/// Reads a file.
pub fn load<T: DeserializeOwned>(path: &Path, form: &Form) -> Result<T, Failure> {
    let wrong = |why: String| Failure::from(format!("{}: {}", path.display(), why.replace('\n', " ")));
    let text = std::fs::read_to_string(path).map_err(|why| wrong(why.to_string()))?;
    parse(&text, form).map_err(wrong)
}

fn parse<T: DeserializeOwned>(text: &str, form: &Form) -> Result<T, String> {
    let mut value: Value = serde_saphyr::from_str(text).map_err(|why| first_line(&why.to_string()))?;
    let Some(fields) = value.as_object_mut() else { return Err("it is no YAML mapping".into()) };
    for (field, expected) in [("apiVersion", form.api_version), ("kind", form.kind)] {
        match fields.remove(field) {
            Some(Value::String(found)) if found == expected => {}
            Some(found) => return Err(format!("{field}: it is {found}, and must be {expected:?}")),
            None => return Err(format!("{field}: it is missing, and must be {expected:?}")),
        }
    }
    for (field, accepted, instead) in form.refused {
        let steps: Vec<&str> = field.split('.').collect();
        let accepted: Vec<Value> = accepted.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        refuse(&mut value, &steps, "", &accepted, instead)?;
    }
    serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string() {
        path if path == "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })
}

/// Takes a field that says what holds anyway out of `value`, wherever it is; fails where it says anything else.
fn refuse(value: &mut Value, steps: &[&str], at: &str, accepted: &[Value], instead: &str) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    let (name, is_list) = step.strip_suffix("[]").map_or((*step, false), |name| (name, true));
    let Some(fields) = value.as_object_mut() else { return Ok(()) };
    let at = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    if rest.is_empty() {
        let Some(found) = fields.remove(name) else { return Ok(()) };
        if found.is_null() || accepted.contains(&found) {
            return Ok(());
        }
        return Err(format!("{at}: {found} is not supported: {instead}"));
    }
    match fields.get_mut(name) {
        Some(Value::Array(items)) if is_list => {
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(index, item)| refuse(item, rest, &format!("{at}[{index}]"), accepted, instead))
        }
        Some(inner) if !is_list => refuse(inner, rest, &at, accepted, instead),
        _ => Ok(()),
    }
}

/// What is wrong with YAML comes with a picture of it and with advice to programmers; the rest of the first line says it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.split(", set DuplicateKeyPolicy").next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Default, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase", default)]
    struct Sample {
        port: Option<u16>,
        inner: Inner,
        items: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, Default, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        name: Option<String>,
    }

    const FORM: Form = Form {
        api_version: "example/v1",
        kind: "Sample",
        refused: &[
            ("qps", &["50", "50.0"], "requests are not slowed down"),
            ("items[].weight", &["1"], "all are equal"),
        ],
    };

    fn read(fields: &str) -> Result<Sample, String> {
        parse(&format!("apiVersion: example/v1\nkind: Sample\n{fields}"), &FORM)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        assert_eq!(read("port: 1\nqps: 50\nitems: [{name: a, weight: 1}]").unwrap().port, Some(1));
        let cases = [
            ("prt: 1", "prt: unknown field `prt`"),
            ("port: high", "port: invalid type"),
            ("inner: {nam: x}", "inner.nam: unknown field `nam`"),
            ("qps: 7", "qps: 7 is not supported: requests are not slowed down"),
            ("items: [{}, {weight: 2}]", "items[1].weight: 2 is not supported: all are equal"),
            ("items: [{name: 1}]", "items[0].name: invalid type"),
        ];
        for (fields, expected) in cases {
            let error = read(fields).unwrap_err();
            assert!(error.starts_with(expected), "{fields}: {error}");
        }
        let twice = read("port: 1\nport: 2").unwrap_err();
        assert_eq!(twice, "line 4 column 1: duplicate mapping key: port");
        let other = parse::<Sample>("{apiVersion: example/v2, kind: Sample}", &FORM).unwrap_err();
        assert_eq!(other, "apiVersion: it is \"example/v2\", and must be \"example/v1\"");
        assert!(parse::<Sample>("[]", &FORM).is_err());
    }
}
