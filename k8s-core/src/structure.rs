//! Whether a document has the structure of its schema, and the rules about single fields.
//!
//! [`check`] is what decoding into types is elsewhere: unknown fields are found and pruned, wrong types are errors, and
//! values take the form in which a typed server writes them (no explicit nulls, canonical quantities and times).
//! [`validate_fields`] applies the rules of the overlay (required, permitted values, ranges, immutability). What
//! relates several fields is the business of the kind's strategy.

mod canonical;
pub(crate) mod path;
mod rules;

pub use rules::validate_fields;

use crate::{
    doc::{Doc, Map},
    schema::{IntFormat, Kind, Node, Schema, Struct},
    status::{ApiError, FieldError, FieldErrorKind},
};
use path::Path;

/// How many unknown fields and how many wrong types are reported; the rest is handled all the same.
pub const MAX_REPORTED: usize = 100;

/// What [`check`] does besides reporting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole object: unknown fields are pruned, values take their canonical form.
    Whole,
    /// A part of one, such as an applied configuration, whose nulls and empty values mean something: nothing changes.
    Partial,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The paths of fields that the schema does not know, at most [`MAX_REPORTED`].
    pub unknown: Vec<String>,
    /// The places where the wrong type stands, at most [`MAX_REPORTED`].
    pub wrong: Vec<TypeError>,
}

impl Report {
    /// The unknown fields as upstream's warnings and strict errors name them: `unknown field "spec.x"`.
    pub fn unknown_messages(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|path| format!("unknown field {path:?}"))
    }
}

/// A value of the wrong type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeError {
    /// Where, such as `spec.containers[0].name`.
    pub path: String,
    /// What belongs there, with its article: `an integer`.
    pub expected: &'static str,
    /// What was there, such as `string` or a message about the value.
    pub found: String,
    /// Whether it is part of a built-in struct, such as the metadata of a custom object.
    pub is_typed: bool,
}

impl std::fmt::Display for TypeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.path.is_empty() { "the object" } else { &self.path };
        write!(f, "{place}: expected {}, found {}", self.expected, self.found)
    }
}

impl TypeError {
    /// 400, as a built-in kind answers it.
    pub fn to_api_error(&self, version: &str, kind: &str) -> ApiError {
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {self}"))
    }

    /// One cause of a 422, as a custom kind answers it.
    pub fn to_field_error(&self) -> FieldError {
        let detail = format!("expected {}", self.expected);
        FieldError::new(FieldErrorKind::TypeInvalid, self.path.clone(), self.found.clone(), detail)
    }
}

/// Checks `doc` against its schema and, in [`Mode::Whole`], prunes and canonicalises it.
///
/// The document of a wrong type is left in an unspecified form; throw it away.
pub fn check(schema: &Schema, doc: &mut Doc, mode: Mode) -> Report {
    let mut checker = Checker { report: Report::default(), change: mode == Mode::Whole, is_typed: true };
    checker.value(schema.root(), doc, &Path::ROOT);
    checker.report
}

struct Checker {
    report: Report,
    change: bool,
    /// Whether the walk is inside of a built-in struct.
    is_typed: bool,
}

impl Checker {
    fn value(&mut self, node: Node<'_>, doc: &mut Doc, path: &Path<'_>) {
        match (node.kind(), &mut *doc) {
            (Kind::Any, _) => {}
            (_, Doc::Null) if node.rules().nullable => {}
            (Kind::Object(fields), Doc::Object(map)) => self.fields(fields, map, path),
            (Kind::Map(values), Doc::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    self.element(values, value, &path.field(key));
                }
            }
            (Kind::List(item), Doc::Array(items)) => {
                for (place, value) in items.iter_mut().enumerate() {
                    self.element(item, value, &path.index(place));
                }
            }
            (Kind::AnyObject, Doc::Object(_)) | (Kind::Boolean, Doc::Bool(_)) | (Kind::String, Doc::String(_)) => {}
            (Kind::IntOrString, Doc::String(_)) => {}
            _ => self.scalar(node, doc, path),
        }
    }

    /// A list item or map value: `null` stands for the zero value, as a typed server reads it.
    fn element(&mut self, node: Node<'_>, doc: &mut Doc, path: &Path<'_>) {
        if doc.is_null()
            && self.change
            && self.is_typed
            && let Some(zero) = zero(node)
        {
            *doc = zero;
        }
        self.value(node, doc, path);
    }

    fn fields(&mut self, fields: Struct<'_>, map: &mut Map, path: &Path<'_>) {
        let (change, outside) = (self.change, self.is_typed);
        self.is_typed = fields.is_typed();
        map.retain(|key, value| {
            let path = path.field(key);
            let known = fields.field(key).map(|field| field.node()).or_else(|| fields.additional());
            match known {
                Some(node) => !self.field(fields, node, value, &path),
                None if fields.preserves_unknown() => true,
                None => {
                    if self.report.unknown.len() < MAX_REPORTED {
                        self.report.unknown.push(path.dotted());
                    }
                    !change
                }
            }
        });
        self.is_typed = outside;
    }

    /// Checks a field's value; whether it is to be dropped, being the same as absence.
    fn field(&mut self, of: Struct<'_>, node: Node<'_>, value: &mut Doc, path: &Path<'_>) -> bool {
        let rules = node.rules();
        if value.is_null() && !rules.nullable && !matches!(node.kind(), Kind::Any) {
            let droppable = of.is_typed() || rules.default.is_some();
            if !droppable {
                self.wrong(path, expectation(node), "null");
            }
            return droppable && self.change;
        }
        self.value(node, value, path);
        self.change && of.is_typed() && is_absence(node, value)
    }

    fn scalar(&mut self, node: Node<'_>, doc: &mut Doc, path: &Path<'_>) {
        let verdict = match (node.kind(), &*doc) {
            (Kind::Integer(format), Doc::Number(number)) => canonical::integer(format, number),
            (Kind::Number, Doc::Number(number)) if number.as_f64().is_finite() => Ok(None),
            (Kind::IntOrString, Doc::Number(number)) => canonical::integer(IntFormat::Int32, number),
            (Kind::Quantity, Doc::String(text)) => canonical::quantity(text),
            (Kind::Quantity, Doc::Number(number)) => canonical::quantity_number(number),
            (Kind::Time, Doc::String(text)) => canonical::time(text, false),
            (Kind::MicroTime, Doc::String(text)) => canonical::time(text, true),
            (Kind::Bytes, Doc::String(text)) => canonical::bytes(text),
            (_, Doc::Number(number)) => Err(format!("number {:.40}", number.as_str())),
            (_, other) => Err(other.type_name().to_owned()),
        };
        match verdict {
            Ok(Some(canonical)) if self.change => *doc = canonical,
            Ok(_) => {}
            Err(found) => self.wrong(path, expectation(node), found),
        }
    }

    fn wrong(&mut self, path: &Path<'_>, expected: &'static str, found: impl Into<String>) {
        if self.report.wrong.len() < MAX_REPORTED {
            self.report.wrong.push(TypeError {
                path: path.dotted(),
                expected,
                found: found.into(),
                is_typed: self.is_typed,
            });
        }
    }
}

fn expectation(node: Node<'_>) -> &'static str {
    match node.kind() {
        Kind::Object(_) | Kind::Map(_) | Kind::AnyObject => "an object",
        Kind::List(_) => "an array",
        Kind::String => "a string",
        Kind::Integer(IntFormat::Int32) => "an integer of 32 bits",
        Kind::Integer(IntFormat::Int64 | IntFormat::Whole) => "an integer of 64 bits",
        Kind::Number => "a number",
        Kind::Boolean => "true or false",
        Kind::IntOrString => "an integer or a string",
        Kind::Quantity => "a quantity",
        Kind::Time | Kind::MicroTime => "a time such as 2006-01-02T15:04:05Z",
        Kind::Bytes => "bytes in base64",
        Kind::Any => "a value",
    }
}

/// What `null` reads as in a list or map; `None` where it stays, to be refused.
fn zero(node: Node<'_>) -> Option<Doc> {
    match node.kind() {
        Kind::Object(fields) if fields.is_typed() => Some(Doc::object()),
        Kind::String if !node.rules().nullable => Some(Doc::from("")),
        Kind::Quantity => Some(Doc::from("0")),
        Kind::List(_) if !node.rules().nullable => Some(Doc::Array(Vec::new())),
        _ => None,
    }
}

/// Whether a typed server does not write this value at all.
fn is_absence(node: Node<'_>, value: &Doc) -> bool {
    let rules = node.rules();
    match (node.kind(), value) {
        (Kind::List(_), Doc::Array(items)) => items.is_empty() && !rules.keeps_empty,
        (Kind::Map(_), Doc::Object(map)) => map.is_empty() && !rules.keeps_empty,
        (_, value) => rules.zero_is_absent && is_zero(value),
    }
}

/// Whether a scalar is `""`, `0` or `false`.
pub(crate) fn is_zero(value: &Doc) -> bool {
    match value {
        Doc::Null | Doc::Bool(false) => true,
        Doc::String(text) => text.is_empty(),
        Doc::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
