//! `allOf`, `anyOf`, `oneOf` and `not`: inside of them values may be restricted, and nothing else may be said.

use super::{broken, schema::fields};
use crate::{custom::pattern, doc::Doc, status::FieldError};

/// What says more about a place than which values it may have.
const STRUCTURE: [&str; 11] = [
    "type",
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

/// What is wrong with the combinations at a place of the schema.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Doc, path: &str) {
    let is_int_or_string = schema.get("x-kubernetes-int-or-string").and_then(Doc::as_bool) == Some(true);
    for (rule, path) in combined(schema, path) {
        if !(is_int_or_string && says_int_or_string(rule)) {
            below(errors, rule, schema, &path);
        }
    }
}

/// The parts of all combinations.
fn combined<'d>(schema: &'d Doc, path: &str) -> Vec<(&'d Doc, String)> {
    let mut found = Vec::new();
    for name in ["allOf", "anyOf", "oneOf"] {
        let rules = schema.get(name).map_or(&[][..], Doc::items).iter().enumerate();
        found.extend(rules.map(|(place, rule)| (rule, format!("{path}.{name}[{place}]"))));
    }
    found.extend(schema.get("not").filter(|rule| !rule.is_null()).map(|rule| (rule, format!("{path}.not"))));
    found
}

/// `{"type": "integer"}`, `{"type": "string"}`, or a list of both: how that shape is spelled out.
fn says_int_or_string(rule: &Doc) -> bool {
    let plain = |rule: &Doc| {
        matches!(rule.str_at(&["type"]), "integer" | "string")
            && rule.as_object().is_some_and(|fields| fields.len() == 1)
    };
    let listed = rule.get("anyOf").map_or(&[][..], Doc::items);
    plain(rule) || !listed.is_empty() && listed.iter().all(plain)
}

fn below(errors: &mut Vec<FieldError>, rule: &Doc, structure: &Doc, path: &str) {
    for field in STRUCTURE.into_iter().filter(|field| rule.get(field).is_some_and(|value| !value.is_null())) {
        errors.push(FieldError::forbidden(format!("{path}.{field}"), "must be empty to be structural"));
    }
    if let Some(written) = rule.get("pattern").and_then(Doc::as_str)
        && let Err(why) = pattern::compile(written)
    {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(broken(&format!("{path}.pattern"), &format!("{written:?}"), &detail));
    }
    for (name, property) in fields(rule, "properties") {
        let path = format!("{path}.properties[{name}]");
        match structure.at(&["properties", name]).or_else(|| structure.get("additionalProperties")) {
            Some(structure @ Doc::Object(_)) => below(errors, property, structure, &path),
            _ if name == "metadata" => {}
            _ => {
                let detail = format!("because it is defined in {path}");
                errors.push(FieldError::required(missing(&path, name), detail));
            }
        }
    }
    if let (Some(items @ Doc::Object(_)), Some(structure)) = (rule.get("items"), structure.get("items")) {
        below(errors, items, structure, &format!("{path}.items"));
    }
    for (rule, path) in combined(rule, path) {
        below(errors, rule, structure, &path);
    }
}

/// Where a field would have to be specified: beside the combination, not in it.
fn missing(path: &str, name: &str) -> String {
    let starts = [".allOf[", ".anyOf[", ".oneOf[", ".not."];
    let outside = starts.iter().filter_map(|start| path.find(start)).min().map_or(path, |at| &path[..at]);
    format!("{outside}.properties[{name}]")
}
