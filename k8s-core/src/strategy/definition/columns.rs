//! Printer columns, selectable fields, and where the scale is.

use std::collections::BTreeSet;

use super::{broken, flag};
use crate::{
    custom::JsonPath,
    doc::Doc,
    status::{FieldError, FieldErrorKind},
    strategy::{indexed, list_at},
};

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// How many fields selectors may name.
const MAX_SELECTABLE: usize = 8;

/// What is wrong with the columns of a version.
pub(super) fn check(errors: &mut Vec<FieldError>, version: &Doc, path: &str) {
    let path = format!("{path}.additionalPrinterColumns");
    for (path, column) in indexed(list_at(version, &["additionalPrinterColumns"]), &path) {
        for field in ["name", "type", "jsonPath"] {
            if column.str_at(&[field]).is_empty() {
                errors.push(FieldError::required(format!("{path}.{field}"), ""));
            }
        }
        let (kind, format) = (column.str_at(&["type"]), column.str_at(&["format"]));
        if !kind.is_empty() && !TYPES.contains(&kind) {
            let detail = format!("must be one of {}", TYPES.join(","));
            errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
        }
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            errors.push(FieldError::invalid(format!("{path}.format"), format, detail));
        }
        let written = column.str_at(&["jsonPath"]);
        if !written.is_empty()
            && let Err(why) = JsonPath::parse(written)
        {
            errors.push(FieldError::invalid(format!("{path}.jsonPath"), written, why));
        }
    }
}

/// What is wrong with the paths of the scale.
pub(super) fn check_scale(errors: &mut Vec<FieldError>, version: &Doc, path: &str) {
    let Some(scale) = version.at(&["subresources", "scale"]) else { return };
    let fields = [
        ("specReplicasPath", &[".spec."][..], true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ];
    for (field, roots, is_required) in fields {
        let path = format!("{path}.subresources.scale.{field}");
        let written = scale.str_at(&[field]);
        if written.is_empty() {
            if is_required {
                errors.push(FieldError::required(path, ""));
            }
            continue;
        }
        let is_simple = JsonPath::parse(written).is_ok_and(|path| path.fields().is_some());
        if !is_simple || written.contains('[') {
            errors.push(FieldError::invalid(&path, written, "should be a simple json path without array notation"));
        } else if !roots.iter().any(|root| written.starts_with(root)) {
            let roots: Vec<&str> = roots.iter().map(|root| root.trim_end_matches('.')).collect();
            let detail = format!("should be a json path under {}", roots.join(" or "));
            errors.push(FieldError::invalid(path, written, detail));
        }
    }
}

/// What is wrong with the fields that selectors may name: each must be text, a whole number, or true or false.
pub(super) fn check_selectable(errors: &mut Vec<FieldError>, version: &Doc, schema: &Doc, path: &str) {
    let listed = list_at(version, &["selectableFields"]);
    let path = format!("{path}.selectableFields");
    if listed.len() > MAX_SELECTABLE {
        let detail = format!("must have at most {MAX_SELECTABLE} items");
        errors.push(FieldError::new(FieldErrorKind::TooMany, &path, listed.len().to_string(), detail));
    }
    let mut seen = BTreeSet::new();
    for (path, field) in indexed(listed, &path) {
        let (written, path) = (field.str_at(&["jsonPath"]), format!("{path}.jsonPath"));
        if written.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if !seen.insert(written) {
            errors.push(FieldError::duplicate(path, written));
            continue;
        }
        let parsed = JsonPath::parse(written);
        let Some(fields) = parsed.as_ref().ok().and_then(JsonPath::fields).filter(|_| !written.contains('[')) else {
            errors.push(FieldError::invalid(path, written, "is an invalid path: only fields can be selected"));
            continue;
        };
        if fields[0] == "metadata" {
            errors.push(FieldError::invalid(path, written, "must not point to fields in metadata"));
            continue;
        }
        let found = fields.iter().try_fold(schema, |at, name| at.at(&["properties", name]));
        match found.map(|found| (found.str_at(&["type"]), flag(found, "x-kubernetes-int-or-string"))) {
            Some(("string" | "integer" | "boolean", false)) => {}
            Some((kind, _)) => {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                              with formats are allowed.";
                errors.push(broken(&path, &format!("{kind:?}"), detail));
            }
            None => errors.push(FieldError::invalid(path, written, "does not refer to a valid field")),
        }
    }
}
