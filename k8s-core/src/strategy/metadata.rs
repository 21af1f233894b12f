//! The rules about `metadata`, the same for every kind.

use std::collections::BTreeSet;

use super::{immutable, indexed, list_at, named};
use crate::{
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

/// The most bytes that the annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// What the name of a kind's objects may look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameRule {
    /// An RFC 1123 subdomain.
    Subdomain,
    /// An RFC 1123 label.
    Label,
    /// An RFC 1035 label.
    Label1035,
    /// One step of a path.
    PathSegment,
}

impl NameRule {
    fn check(self, name: &str) -> names::Problems {
        match self {
            Self::Subdomain => names::dns_subdomain(name),
            Self::Label => names::dns_label(name),
            Self::Label1035 => names::dns_1035_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }
}

/// What is wrong with the metadata of an object on its own.
pub(super) fn check(doc: &Doc, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = doc.str_at(&["metadata", "name"]);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        named(&mut errors, "metadata.name", name, rule.check(name));
    }
    if doc.at(&["metadata", "generation"]).and_then(Doc::as_i64).is_some_and(|generation| generation < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::new(FieldErrorKind::Invalid, "metadata.generation", "", detail));
    }
    check_labels(&mut errors, doc.at(&["metadata", "labels"]), "metadata.labels");
    check_annotations(&mut errors, doc.at(&["metadata", "annotations"]), "metadata.annotations");
    check_owners(&mut errors, list_at(doc, &["metadata", "ownerReferences"]));
    for (path, finalizer) in indexed(list_at(doc, &["metadata", "finalizers"]), "metadata.finalizers") {
        let finalizer = finalizer.as_str().unwrap_or("");
        named(&mut errors, &path, finalizer, names::qualified_name(finalizer));
    }
    errors
}

/// Keys and values of labels at `path`.
pub(crate) fn check_labels(errors: &mut Vec<FieldError>, labels: Option<&Doc>, path: &str) {
    for (key, value) in labels.and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
        named(errors, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        named(errors, path, value, names::label_value(value));
    }
}

/// Keys of annotations at `path`, and the size of all together.
pub(crate) fn check_annotations(errors: &mut Vec<FieldError>, annotations: Option<&Doc>, path: &str) {
    let mut total = 0;
    for (key, value) in annotations.and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
        named(errors, path, key, names::qualified_name(&key.to_ascii_lowercase()));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS {
        let detail = format!("may not be more than {MAX_ANNOTATIONS} bytes");
        errors.push(FieldError::new(FieldErrorKind::TooLong, path, "", detail));
    }
}

fn check_owners(errors: &mut Vec<FieldError>, owners: &[Doc]) {
    let mut controllers = Vec::new();
    for (path, owner) in indexed(owners, "metadata.ownerReferences") {
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner.str_at(&[field]).is_empty() {
                errors.push(FieldError::invalid(format!("{path}.{field}"), "", detail));
            }
        }
        if owner.get("controller").and_then(Doc::as_bool) == Some(true) {
            controllers.push(owner.str_at(&["name"]));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.push(FieldError::new(FieldErrorKind::Invalid, "metadata.ownerReferences", "", detail));
    }
}

/// What is wrong with how metadata changes.
pub(super) fn check_update(new: &Doc, old: &Doc) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(&mut errors, new, old, &["metadata", field]);
    }
    let generation = |doc: &Doc| doc.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
    if generation(new) < generation(old) {
        let value = generation(new).to_string();
        let detail = "must not be decremented";
        errors.push(FieldError::new(FieldErrorKind::Invalid, "metadata.generation", value, detail));
    }
    if old.at(&["metadata", "deletionTimestamp"]).is_some() {
        check_finalizers_only_leave(&mut errors, new, old);
    }
    errors
}

fn check_finalizers_only_leave(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    let path = &["metadata", "finalizers"];
    let known: BTreeSet<&str> = list_at(old, path).iter().filter_map(Doc::as_str).collect();
    let added: Vec<&str> = list_at(new, path).iter().filter_map(Doc::as_str).filter(|f| !known.contains(f)).collect();
    if !added.is_empty() {
        let detail =
            format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
        errors.push(FieldError::forbidden("metadata.finalizers", detail));
    }
}

/// The fields that selectors know of every kind.
pub(super) fn field(doc: &Doc, path: &str) -> Option<String> {
    match path {
        "metadata.name" | "metadata.namespace" => text_field(doc, path),
        _ => None,
    }
}

/// The text at a dotted path; empty if there is none.
pub(super) fn text_field(doc: &Doc, path: &str) -> Option<String> {
    let steps: Vec<&str> = path.split('.').collect();
    Some(match doc.at(&steps) {
        Some(Doc::String(text)) => text.to_string(),
        None | Some(Doc::Null) => String::new(),
        Some(other) => other.to_string(),
    })
}
