//! The rules about single fields: required, permitted values, ranges, lengths, immutability.

use super::{is_zero, path::Path};
use crate::{
    doc::{Doc, Map},
    schema::{Kind, Node, Rules, Schema, Struct},
    status::{FieldError, FieldErrorKind},
};

/// The broken field rules of an object that has passed [`super::check`]; `old` is its former state on updates.
///
/// Patterns and named formats of custom kinds are not among them: they need a regular expression engine, and are
/// checked where custom kinds are.
pub fn validate_fields(schema: &Schema, doc: &Doc, old: Option<&Doc>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema.root(), doc, old, &Path::ROOT, true, &mut errors);
    errors
}

fn walk(node: Node<'_>, doc: &Doc, old: Option<&Doc>, path: &Path<'_>, typed: bool, errors: &mut Vec<FieldError>) {
    value_rules(node, doc, path, typed, errors);
    match (node.kind(), doc) {
        (Kind::Object(fields), Doc::Object(map)) => {
            field_rules(fields, map, old, path, errors);
            for (key, value) in map.iter() {
                let known = fields.field(key).map(|field| field.node()).or_else(|| fields.additional());
                if let Some(node) = known {
                    let old = old.and_then(|old| old.get(key));
                    walk(node, value, old, &path.field(key), fields.is_typed(), errors);
                }
            }
        }
        (Kind::Map(values), Doc::Object(map)) => {
            for (key, value) in map.iter() {
                walk(values, value, old.and_then(|old| old.get(key)), &path.key(key), typed, errors);
            }
        }
        (Kind::List(item), Doc::Array(items)) => {
            for (place, value) in items.iter().enumerate() {
                // An item has no old self to compare with: places move.
                walk(item, value, None, &path.index(place), typed, errors);
            }
        }
        _ => {}
    }
}

/// What only the object around a field can tell: that it is missing, or was changed.
fn field_rules(fields: Struct<'_>, map: &Map, old: Option<&Doc>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in fields.required_or_immutable() {
        let value = map.get(field.name()).filter(|value| !value.is_null());
        if field.required() && is_missing(fields, field.node(), value) {
            errors.push(FieldError::required(path.field(field.name()).dotted(), ""));
        }
        if field.node().rules().immutable
            && let Some(old) = old
        {
            let before = old.get(field.name()).filter(|value| !value.is_null());
            if before != value {
                let shown = value.map_or_else(|| "null".to_owned(), Doc::to_string);
                let path = path.field(field.name()).dotted();
                errors.push(FieldError::new(FieldErrorKind::Invalid, path, shown, "field is immutable"));
            }
        }
    }
}

fn is_missing(fields: Struct<'_>, node: Node<'_>, value: Option<&Doc>) -> bool {
    let Some(value) = value else { return true };
    if !fields.is_typed() {
        return false;
    }
    match node.kind() {
        Kind::String | Kind::Bytes => is_zero(value),
        // Zero is out of the range that these have, and is reported as such.
        Kind::Integer(_) => is_zero(value) && node.rules().min.is_none(),
        Kind::List(_) => value.items().is_empty(),
        Kind::Map(_) => value.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

fn value_rules(node: Node<'_>, doc: &Doc, path: &Path<'_>, typed: bool, errors: &mut Vec<FieldError>) {
    let rules = node.rules();
    let unset = typed && is_zero(doc);
    if !unset && !rules.allowed.is_empty() && !rules.allowed.contains(doc) {
        errors.push(unsupported(rules, doc, path));
    }
    if let Doc::Number(number) = doc
        && let Some(detail) = out_of_range(rules, number.as_f64())
    {
        errors.push(FieldError::new(FieldErrorKind::Invalid, path.dotted(), number.to_string(), detail));
    }
    if let Some(length) = length(doc) {
        lengths(rules, doc, length, path, errors);
    }
}

fn unsupported(rules: &Rules, doc: &Doc, path: &Path<'_>) -> FieldError {
    let mut supported: Vec<&str> = rules.allowed.iter().filter_map(Doc::as_str).collect();
    supported.sort_unstable();
    match doc.as_str() {
        Some(text) if supported.len() == rules.allowed.len() => {
            FieldError::not_supported(path.dotted(), text, &supported)
        }
        _ => {
            let listed: Vec<String> = rules.allowed.iter().map(Doc::to_string).collect();
            let detail = format!("supported values: {}", listed.join(", "));
            FieldError::new(FieldErrorKind::NotSupported, path.dotted(), doc.to_string(), detail)
        }
    }
}

fn out_of_range(rules: &Rules, value: f64) -> Option<String> {
    let low = rules.min.is_some_and(|min| if rules.exclusive_min { value <= min } else { value < min });
    let high = rules.max.is_some_and(|max| if rules.exclusive_max { value >= max } else { value > max });
    if low || high {
        return Some(match (rules.min, rules.max) {
            (Some(min), Some(max)) if !rules.exclusive_min && !rules.exclusive_max => {
                format!("must be between {min} and {max}, inclusive")
            }
            (Some(min), _) if low => {
                format!("must be greater than {}{min}", if rules.exclusive_min { "" } else { "or equal to " })
            }
            (_, Some(max)) => {
                format!("must be less than {}{max}", if rules.exclusive_max { "" } else { "or equal to " })
            }
            (_, None) => return None,
        });
    }
    let unit = rules.multiple_of.filter(|unit| *unit != 0.0)?;
    let times = value / unit;
    (times.fract() != 0.0).then(|| format!("must be a multiple of {unit}"))
}

/// The length that length rules speak of.
fn length(doc: &Doc) -> Option<u64> {
    match doc {
        Doc::String(text) => Some(text.chars().count() as u64),
        Doc::Array(items) => Some(items.len() as u64),
        Doc::Object(map) => Some(map.len() as u64),
        _ => None,
    }
}

fn lengths(rules: &Rules, doc: &Doc, length: u64, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (what, kind) = match doc {
        Doc::String(_) => ("characters", FieldErrorKind::TooLong),
        Doc::Array(_) => ("items", FieldErrorKind::TooMany),
        _ => ("fields", FieldErrorKind::TooMany),
    };
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        let detail = format!("must have at most {max} {what}");
        errors.push(FieldError::new(kind, path.dotted(), length.to_string(), detail));
    }
    if let Some(min) = rules.min_length.filter(|min| length < *min) {
        let detail = format!("must have at least {min} {what}");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path.dotted(), length.to_string(), detail));
    }
}
