//! Events of both groups. They are stored in the form of the core group, and that is what is judged here; errors name
//! fields as the group that was asked for has them.

use super::{Strategy, metadata, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// The longest words and the longest text of an Event of `events.k8s.io`.
const MAX_WORD: usize = 128;
const MAX_NOTE: usize = 1024;
/// What only Events of the core group may be made with: names as shown and as stored.
const OLD_FIELDS: [(&str, &str); 4] = [
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("deprecatedSource", "source"),
];
/// What never changes: names as shown and as stored.
const FIXED: [(&str, &str); 12] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingComponent"),
    ("reportingInstance", "reportingInstance"),
];

/// `v1` Event.
pub(super) struct Event;

impl Strategy for Event {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_namespace(&mut errors, doc, "involvedObject.namespace");
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        const ABOUT: [&str; 7] = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
        if let Some(field) = path.strip_prefix("involvedObject.") {
            return ABOUT.contains(&field).then(|| doc.str_at(&["involvedObject", field]).to_owned());
        }
        match path {
            "reason" | "reportingComponent" | "type" => metadata::text_field(doc, path),
            "source" => {
                let source = doc.str_at(&["source", "component"]);
                let source = if source.is_empty() { doc.str_at(&["reportingComponent"]) } else { source };
                Some(source.to_owned())
            }
            _ => metadata::field(doc, path),
        }
    }
}

/// `events.k8s.io/v1` Event: says more than one of the core group, and only its series changes.
pub(super) struct NewEvent;

impl Strategy for NewEvent {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_namespace(&mut errors, doc, "regarding.namespace");
        if doc.str_at(&["eventTime"]).is_empty() {
            errors.push(FieldError::required("eventTime", ""));
        }
        let kind = doc.str_at(&["type"]);
        if !matches!(kind, "Normal" | "Warning") {
            errors.push(FieldError::invalid("type", kind, format!("has invalid value: {kind}")));
        }
        for (shown, stored) in OLD_FIELDS {
            let value = doc.get(stored).filter(|value| !is_zero(value));
            if let Some(value) = value {
                let kind = FieldErrorKind::Invalid;
                errors.push(FieldError::new(kind, shown, value.to_string(), "needs to be unset"));
            }
        }
        let controller = doc.str_at(&["reportingComponent"]);
        if controller.is_empty() {
            errors.push(FieldError::required("reportingController", ""));
        } else {
            named(&mut errors, "reportingController", controller, names::qualified_name(controller));
        }
        for word in ["reportingInstance", "action", "reason"] {
            let value = doc.str_at(&[word]);
            if value.is_empty() {
                errors.push(FieldError::required(word, ""));
            } else if value.len() > MAX_WORD {
                let detail = format!("can have at most {MAX_WORD} characters");
                errors.push(FieldError::invalid(word, "", detail));
            }
        }
        if doc.str_at(&["message"]).len() > MAX_NOTE {
            errors.push(FieldError::invalid("note", "", format!("can have at most {MAX_NOTE} characters")));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        let value = |doc: &Doc, field: &str| doc.get(field).filter(|value| !is_zero(value)).cloned();
        for (shown, stored) in FIXED.into_iter().chain([("eventTime", "eventTime")]) {
            let (ours, theirs) = (value(new, stored), value(old, stored));
            if ours != theirs {
                let shown_value = ours.unwrap_or(Doc::Null).to_string();
                errors.push(FieldError::new(FieldErrorKind::Invalid, shown, shown_value, "field is immutable"));
            }
        }
        errors
    }
}

/// Whether a value says no more than a missing one.
fn is_zero(value: &Doc) -> bool {
    match value {
        Doc::Null => true,
        Doc::String(text) => text.is_empty(),
        Doc::Number(number) => number.as_i64() == Some(0),
        Doc::Object(map) => map.iter().all(|(_, value)| is_zero(value)),
        _ => false,
    }
}

/// An Event lives where the object that it is about lives; those about the cluster's own live in `default`.
fn check_namespace(errors: &mut Vec<FieldError>, doc: &Doc, path: &str) {
    let (namespace, own) = (doc.str_at(&["involvedObject", "namespace"]), doc.str_at(&["metadata", "namespace"]));
    let fits = if namespace.is_empty() { matches!(own, "default" | "kube-system" | "") } else { namespace == own };
    if !fits {
        errors.push(FieldError::invalid(path, namespace, "does not match event.namespace"));
    }
}
