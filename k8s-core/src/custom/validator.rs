//! What a structural schema says about values: types, ranges, lengths, patterns, formats, and combinations of these.
//!
//! The messages are upstream's. On updates, what did not change is not judged again (ratcheting): a rule that became
//! stricter stands in nobody's way who changes something else.

mod list;
mod value;

use std::collections::BTreeMap;

use regex::Regex;

use super::pattern;
use crate::{
    doc::{Doc, Map, Text},
    schema::ListType,
    status::{FieldError, FieldErrorKind},
    structure::path::Path,
};

/// How many broken rules are told at most.
const MAX_ERRORS: usize = 100;

/// The rules of one version of a custom kind, ready to be applied.
#[derive(Debug, Clone, Default)]
pub struct Validator {
    root: Rule,
}

/// The rules about one place.
#[derive(Debug, Clone, Default)]
struct Rule {
    kind: Option<Type>,
    nullable: bool,
    allowed: Vec<Doc>,
    min: Option<f64>,
    max: Option<f64>,
    exclusive_min: bool,
    exclusive_max: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    unique_items: bool,
    pattern: Option<(Text, Option<Regex>)>,
    format: Text,
    required: Vec<Text>,
    properties: BTreeMap<Text, Rule>,
    additional: Option<Box<Rule>>,
    items: Option<Box<Rule>>,
    all_of: Vec<Rule>,
    any_of: Vec<Rule>,
    one_of: Vec<Rule>,
    not: Option<Box<Rule>>,
    list: ListType,
    keys: Vec<Text>,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }

    fn fits(self, doc: &Doc) -> bool {
        match (self, doc) {
            (Self::Object, Doc::Object(_))
            | (Self::Array, Doc::Array(_))
            | (Self::String | Self::IntOrString, Doc::String(_))
            | (Self::Number, Doc::Number(_))
            | (Self::Boolean, Doc::Bool(_)) => true,
            (Self::Integer | Self::IntOrString, Doc::Number(number)) => {
                number.as_i64().is_some() || number.as_f64().fract() == 0.0
            }
            _ => false,
        }
    }
}

impl Validator {
    /// The rules of a structural schema. What cannot be read as a rule is none: definitions are judged before.
    pub fn new(schema: &Doc) -> Self {
        Self { root: Rule::new(schema) }
    }

    /// The broken rules of an object; `old` is its former state on updates.
    pub fn validate(&self, doc: &Doc, old: Option<&Doc>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        // Type and metadata are every object's, and judged as such.
        let Doc::Object(fields) = doc else { return errors };
        self.root.fields(fields, old, &Path::ROOT, true, &mut errors);
        self.root.combinations(doc, &Path::ROOT, &mut errors);
        errors.truncate(MAX_ERRORS);
        errors
    }

    /// The broken rules of a value that stands alone, such as a default.
    pub(crate) fn validate_value(schema: &Doc, value: &Doc, path: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        Rule::new(schema).walk(value, None, &Path::ROOT.field(path), &mut errors);
        errors
    }
}

impl Rule {
    fn new(schema: &Doc) -> Self {
        let count = |name: &str| schema.get(name).and_then(Doc::as_u64);
        let number = |name: &str| schema.get(name).and_then(Doc::as_f64);
        let flag = |name: &str| schema.get(name).and_then(Doc::as_bool) == Some(true);
        let rules = |name: &str| schema.get(name).map_or(&[][..], Doc::items).iter().map(Self::new).collect();
        let below =
            |name: &str| schema.get(name).filter(|at| at.as_object().is_some()).map(|at| Box::new(Self::new(at)));
        let texts = |name: &str| -> Vec<Text> {
            let items = schema.get(name).map_or(&[][..], Doc::items);
            items.iter().filter_map(|item| item.as_str().map(Text::from)).collect()
        };
        let properties = schema.get("properties").and_then(Doc::as_object).into_iter().flat_map(Map::iter);
        let pattern = schema.str_at(&["pattern"]);
        Self {
            kind: kind(schema),
            nullable: flag("nullable"),
            allowed: schema.get("enum").map_or(&[][..], Doc::items).to_vec(),
            min: number("minimum"),
            max: number("maximum"),
            exclusive_min: flag("exclusiveMinimum"),
            exclusive_max: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            unique_items: flag("uniqueItems"),
            pattern: (!pattern.is_empty()).then(|| (pattern.into(), pattern::compile(pattern).ok())),
            format: schema.str_at(&["format"]).into(),
            required: texts("required"),
            properties: properties.map(|(name, property)| (name.into(), Self::new(property))).collect(),
            additional: below("additionalProperties"),
            items: below("items"),
            all_of: rules("allOf"),
            any_of: rules("anyOf"),
            one_of: rules("oneOf"),
            not: below("not"),
            list: match schema.str_at(&["x-kubernetes-list-type"]) {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            },
            keys: texts("x-kubernetes-list-map-keys"),
        }
    }

    fn walk(&self, doc: &Doc, old: Option<&Doc>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        if old == Some(doc) || errors.len() >= MAX_ERRORS {
            return;
        }
        if doc.is_null() && self.nullable {
            return;
        }
        if let Some(kind) = self.kind.filter(|kind| !kind.fits(doc)) {
            return errors.push(wrong_type(doc, kind, path));
        }
        self.value(doc, path, errors);
        match doc {
            Doc::Object(fields) => self.fields(fields, old, path, false, errors),
            Doc::Array(items) => self.elements(items, old, path, errors),
            _ => {}
        }
        self.combinations(doc, path, errors);
    }

    fn fields(&self, fields: &Map, old: Option<&Doc>, path: &Path<'_>, is_root: bool, errors: &mut Vec<FieldError>) {
        let length = fields.len() as u64;
        if let Some(most) = self.max_properties.filter(|most| length > *most) {
            let detail = format!("must have at most {most} items");
            errors.push(FieldError::new(FieldErrorKind::TooMany, shown(path), length.to_string(), detail));
        }
        if let Some(least) = self.min_properties.filter(|least| length < *least) {
            let detail = format!("{} in body should have at least {least} properties", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), length.to_string(), detail));
        }
        let missing = self.required.iter().filter(|name| !fields.contains(name));
        errors.extend(missing.map(|name| FieldError::required(path.field(name).dotted(), "")));
        for (name, value) in fields.iter() {
            if is_root && matches!(name, "apiVersion" | "kind") {
                continue;
            }
            if let Some(rule) = self.properties.get(name).or(self.additional.as_deref()) {
                rule.walk(value, old.and_then(|old| old.get(name)), &path.field(name), errors);
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn combinations(&self, doc: &Doc, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let fits = |rule: &&Rule| {
            let mut found = Vec::new();
            rule.walk(doc, None, path, &mut found);
            found.is_empty()
        };
        let mut broken = |what: &str| {
            let detail = format!("{} in body must {what}", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), brief(doc), detail));
        };
        if !self.any_of.is_empty() && !self.any_of.iter().any(|rule| fits(&rule)) {
            broken("validate at least one schema (anyOf)");
        }
        if !self.one_of.is_empty() {
            match self.one_of.iter().filter(fits).count() {
                1 => {}
                0 => broken("validate one and only one schema (oneOf). Found none valid"),
                many => broken(&format!("validate one and only one schema (oneOf). Found {many} valid alternatives")),
            }
        }
        if self.not.as_deref().is_some_and(|rule| fits(&rule)) {
            broken("not validate the schema (not)");
        }
        let wrong: Vec<&Rule> = self.all_of.iter().filter(|rule| !fits(rule)).collect();
        for rule in &wrong {
            rule.walk(doc, None, path, errors);
        }
        if !wrong.is_empty() {
            let detail = format!("{} in body must validate all the schemas (allOf)", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), brief(doc), detail));
        }
    }
}

fn kind(schema: &Doc) -> Option<Type> {
    if schema.get("x-kubernetes-int-or-string").and_then(Doc::as_bool) == Some(true) {
        return Some(Type::IntOrString);
    }
    Some(match schema.str_at(&["type"]) {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return None,
    })
}

fn wrong_type(doc: &Doc, kind: Type, path: &Path<'_>) -> FieldError {
    let found = match doc {
        Doc::Number(number) if number.is_integer() => "integer",
        other => other.type_name(),
    };
    let detail = format!("{} in body must be of type {}: {found:?}", shown(path), kind.name());
    FieldError::new(FieldErrorKind::TypeInvalid, shown(path), format!("{found:?}"), detail)
}

/// The path as messages have it; the object itself has none.
fn shown(path: &Path<'_>) -> String {
    let dotted = path.dotted();
    if dotted.is_empty() { "<nil>".into() } else { dotted }
}

/// A value as messages show it, cut where it gets long.
fn brief(doc: &Doc) -> String {
    const MOST: usize = 256;
    let text = doc.to_string();
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests;
