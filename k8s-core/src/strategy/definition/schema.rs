//! Whether a schema is structural: every place says what it is, in one place, and nothing contradicts it.

use super::{broken, flag, value_rules};
use crate::{
    custom::{Rules, Validator, pattern},
    doc::{Doc, Map},
    schema::Schema,
    status::FieldError,
    structure::{self, Mode},
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// How deep a schema may be.
const MAX_DEPTH: usize = 100;

/// What is wrong with the schema of a version.
pub(super) fn check(errors: &mut Vec<FieldError>, schema: &Doc, path: &str) {
    let kind = schema.str_at(&["type"]);
    if kind.is_empty() {
        errors.push(FieldError::required(format!("{path}.type"), "must not be empty at the root"));
    } else if kind != "object" {
        errors.push(FieldError::invalid(format!("{path}.type"), kind, "must be object at the root"));
    }
    for flag_name in ["nullable", "x-kubernetes-embedded-resource"] {
        if flag(schema, flag_name) {
            errors.push(FieldError::forbidden(format!("{path}.{flag_name}"), "must not be set at the root"));
        }
    }
    if schema.get("default").is_some() {
        errors.push(FieldError::forbidden(format!("{path}.default"), "must not be set at the root"));
    }
    let before = errors.len();
    Walk { errors }.place(schema, path, Place::Root, 0);
    if errors.len() == before {
        errors.extend(Rules::compile(schema, &Schema::structural(schema), path).1);
    }
}

/// Where in a schema a part of it stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Field,
    Items,
    Values,
}

struct Walk<'e> {
    errors: &'e mut Vec<FieldError>,
}

impl Walk<'_> {
    fn place(&mut self, schema: &Doc, path: &str, place: Place, depth: usize) {
        if depth > MAX_DEPTH {
            return self.errors.push(broken(path, "", "is nested too deeply"));
        }
        if schema.as_object().is_none() {
            return self.errors.push(broken(path, &schema.to_string(), "must be a schema"));
        }
        self.kind(schema, path, place);
        self.unsupported(schema, path);
        self.extensions(schema, path);
        self.lists_and_maps(schema, path);
        if let Some(written) = schema.get("pattern").and_then(Doc::as_str)
            && let Err(why) = pattern::compile(written)
        {
            let detail = format!("must be a valid regular expression, but isn't: {why}");
            self.errors.push(FieldError::invalid(format!("{path}.pattern"), written, detail));
        }
        value_rules::check(self.errors, schema, path);
        self.default(schema, path);
        for (name, property) in fields(schema, "properties") {
            let path = format!("{path}.properties[{name}]");
            match (place, name) {
                (Place::Root, "metadata") => self.metadata(property, &path),
                (Place::Root, "apiVersion" | "kind") => self.type_meta(property, &path),
                _ => self.place(property, &path, Place::Field, depth + 1),
            }
        }
        match schema.get("items") {
            Some(items @ Doc::Object(_)) => self.place(items, &format!("{path}.items"), Place::Items, depth + 1),
            Some(Doc::Array(_)) => {
                let detail = "items must be a schema object and not an array";
                self.errors.push(FieldError::forbidden(format!("{path}.items"), detail));
            }
            _ => {}
        }
        if let Some(values @ Doc::Object(_)) = schema.get("additionalProperties") {
            self.place(values, &format!("{path}.additionalProperties"), Place::Values, depth + 1);
        }
    }

    fn kind(&mut self, schema: &Doc, path: &str, place: Place) {
        let kind = schema.str_at(&["type"]);
        let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
        let path = format!("{path}.type");
        if kind.is_empty() && !free {
            let what = match place {
                // It has been told already.
                Place::Root => return,
                Place::Items => "must not be empty for specified array items",
                Place::Field | Place::Values => "must not be empty for specified object fields",
            };
            return self.errors.push(FieldError::required(path, what));
        }
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.errors.push(FieldError::not_supported(&path, kind, &TYPES));
        }
        if !kind.is_empty() && flag(schema, "x-kubernetes-int-or-string") {
            let detail = "must be empty if x-kubernetes-int-or-string is true";
            self.errors.push(FieldError::invalid(path, kind, detail));
        }
    }

    fn unsupported(&mut self, schema: &Doc, path: &str) {
        for field in ["$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id", "$schema"] {
            if schema.get(field).is_some_and(|value| !value.is_null()) {
                let detail = format!("{field} is not supported");
                self.errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
        }
        let path = format!("{path}.additionalProperties");
        match schema.get("additionalProperties") {
            Some(Doc::Bool(false)) => {
                self.errors.push(FieldError::forbidden(path, "additionalProperties cannot be set to false"));
            }
            Some(value) if !value.is_null() && fields(schema, "properties").next().is_some() => {
                let detail = "additionalProperties and properties are mutual exclusive";
                self.errors.push(FieldError::forbidden(path, detail));
            }
            _ => {}
        }
    }

    fn extensions(&mut self, schema: &Doc, path: &str) {
        let preserves = "x-kubernetes-preserve-unknown-fields";
        if schema.get(preserves).and_then(Doc::as_bool) == Some(false) {
            self.errors.push(broken(&format!("{path}.{preserves}"), "false", "must be true or undefined"));
        }
        if !flag(schema, "x-kubernetes-embedded-resource") {
            return;
        }
        let kind = schema.str_at(&["type"]);
        if kind != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            self.errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
        }
        if !flag(schema, preserves) && fields(schema, "properties").next().is_none() {
            let detail = format!("must not be empty if x-kubernetes-embedded-resource is true without {preserves}");
            self.errors.push(FieldError::required(format!("{path}.properties"), detail));
        }
    }

    fn lists_and_maps(&mut self, schema: &Doc, path: &str) {
        let kind = schema.str_at(&["type"]);
        if let Some(map_type) = schema.get("x-kubernetes-map-type").and_then(Doc::as_str) {
            let path = format!("{path}.x-kubernetes-map-type");
            if !matches!(map_type, "granular" | "atomic") {
                self.errors.push(FieldError::not_supported(&path, map_type, &["granular", "atomic"]));
            }
            if kind != "object" {
                let detail = "must be object if x-kubernetes-map-type is specified";
                self.errors.push(FieldError::invalid(path, kind, detail));
            }
        }
        let list_type = schema.get("x-kubernetes-list-type").and_then(Doc::as_str);
        let keys = schema.get("x-kubernetes-list-map-keys").map_or(&[][..], Doc::items);
        if let Some(list_type) = list_type {
            let path = format!("{path}.x-kubernetes-list-type");
            if !matches!(list_type, "atomic" | "set" | "map") {
                self.errors.push(FieldError::not_supported(&path, list_type, &["atomic", "set", "map"]));
            }
            if kind != "array" {
                let detail = "must be array if x-kubernetes-list-type is specified";
                self.errors.push(FieldError::invalid(path, kind, detail));
            }
        }
        let keys_path = format!("{path}.x-kubernetes-list-map-keys");
        match list_type {
            Some("map") => self.map_list(schema, keys, path),
            _ if !keys.is_empty() => {
                let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
                self.errors.push(broken(&format!("{path}.x-kubernetes-list-type"), "", detail));
            }
            Some("set") => self.set_list(schema, path),
            _ => {}
        }
        if keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)) {
            self.errors.push(broken(&keys_path, &Doc::Array(keys.to_vec()).to_string(), "must have unique entries"));
        }
    }

    fn map_list(&mut self, schema: &Doc, keys: &[Doc], path: &str) {
        let keys_path = format!("{path}.x-kubernetes-list-map-keys");
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(FieldError::required(&keys_path, detail));
        }
        let Some(items) = schema.get("items") else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            return self.errors.push(FieldError::required(format!("{path}.items"), detail));
        };
        if items.str_at(&["type"]) != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            return self.errors.push(FieldError::invalid(
                format!("{path}.items.type"),
                items.str_at(&["type"]),
                detail,
            ));
        }
        let required = items.get("required").map_or(&[][..], Doc::items);
        for (place, key) in keys.iter().enumerate() {
            let name = key.as_str().unwrap_or("");
            match items.at(&["properties", name]) {
                None => {
                    let detail = "entries must all be names of item properties";
                    self.errors.push(FieldError::invalid(format!("{keys_path}[{place}]"), name, detail));
                }
                Some(property) => {
                    let path = format!("{path}.items.properties[{name}]");
                    if matches!(property.str_at(&["type"]), "array" | "object") {
                        let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                        let kind = property.str_at(&["type"]);
                        self.errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
                    }
                    if property.get("default").is_none() && !required.contains(key) {
                        let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be \
                                      a required property";
                        self.errors.push(FieldError::required(format!("{path}.default"), detail));
                    }
                }
            }
        }
    }

    /// Members of a set are compared as a whole, so they must be scalars or have one owner each.
    fn set_list(&mut self, schema: &Doc, path: &str) {
        let items = schema.get("items").unwrap_or(&Doc::Null);
        let (field, wrong) = match items.str_at(&["type"]) {
            "object" => ("x-kubernetes-map-type", items.str_at(&["x-kubernetes-map-type"]) != "atomic"),
            "array" => {
                let list_type = items.str_at(&["x-kubernetes-list-type"]);
                ("x-kubernetes-list-type", !matches!(list_type, "" | "atomic"))
            }
            _ => return,
        };
        if wrong {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.errors.push(FieldError::invalid(format!("{path}.items.{field}"), items.str_at(&[field]), detail));
        }
    }

    fn default(&mut self, schema: &Doc, path: &str) {
        let Some(default) = schema.get("default").filter(|default| !default.is_null()) else { return };
        let path = format!("{path}.default");
        self.errors.extend(Validator::validate_value(schema, default, &path));
        // A default that would be pruned says something that it does not mean.
        let whole = crate::doc!({"type": "object", "properties": {"value": schema.clone()}});
        let mut pruned = crate::doc!({"value": default.clone()});
        let report = structure::check(&Schema::structural(&whole), &mut pruned, Mode::Whole);
        if !report.unknown.is_empty() {
            let detail = "must not have unknown fields";
            self.errors.push(broken(&path, &default.to_string(), detail));
        }
    }

    /// Metadata is every object's: only its names may be restricted.
    fn metadata(&mut self, schema: &Doc, path: &str) {
        let kind = schema.str_at(&["type"]);
        if kind != "object" {
            self.errors.push(FieldError::invalid(format!("{path}.type"), kind, "must be object"));
        }
        let others = fields(schema, "properties").any(|(name, _)| !matches!(name, "name" | "generateName"));
        let extra = ["additionalProperties", "default", "x-kubernetes-preserve-unknown-fields", "required"];
        if others || extra.iter().any(|field| schema.get(field).is_some()) {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.push(FieldError::forbidden(path, detail));
        }
        for (name, property) in fields(schema, "properties") {
            let kind = property.str_at(&["type"]);
            if kind != "string" {
                let path = format!("{path}.properties[{name}].type");
                self.errors.push(FieldError::invalid(path, kind, "must be string"));
            }
        }
    }

    fn type_meta(&mut self, schema: &Doc, path: &str) {
        let kind = schema.str_at(&["type"]);
        if kind != "string" {
            self.errors.push(FieldError::invalid(format!("{path}.type"), kind, "must be string"));
        }
    }
}

/// The named parts of a schema.
pub(super) fn fields<'d>(schema: &'d Doc, name: &str) -> impl Iterator<Item = (&'d str, &'d Doc)> {
    schema.get(name).and_then(Doc::as_object).into_iter().flat_map(Map::iter)
}
