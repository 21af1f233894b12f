//! Pod templates, and label selectors that must fit them.

use super::{metadata, pod, selects};
use crate::{
    doc::{Doc, Map},
    selector::{LabelSelector, Labels},
    status::{FieldError, FieldErrorKind},
};

/// The labels of a template, as selectors read them.
pub(super) struct LabelsOf<'a>(pub Option<&'a Map>);

impl Labels for LabelsOf<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0?.get(key)?.as_str()
    }
}

/// What is wrong with a pod template at `path`.
pub(super) fn check(errors: &mut Vec<FieldError>, template: &Doc, path: &str) {
    let metadata = template.get("metadata").unwrap_or(&Doc::Null);
    metadata::check_labels(errors, metadata.get("labels"), &format!("{path}.metadata.labels"));
    metadata::check_annotations(errors, metadata.get("annotations"), &format!("{path}.metadata.annotations"));
    pod::check_spec(errors, template.get("spec").unwrap_or(&Doc::Null), &format!("{path}.spec"));
}

/// The pods of a kind that keeps its pods running restart always, and have no end; `kind` is what the message calls it.
pub(super) fn check_runs_forever(errors: &mut Vec<FieldError>, template: &Doc, path: &str, kind: &str) {
    let policy = template.str_at(&["spec", "restartPolicy"]);
    if !matches!(policy, "" | "Always") {
        errors.push(FieldError::not_supported(format!("{path}.spec.restartPolicy"), policy, &["Always"]));
    }
    if template.at(&["spec", "activeDeadlineSeconds"]).is_some_and(|deadline| !deadline.is_null()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(format!("{path}.spec.activeDeadlineSeconds"), detail));
    }
}

/// A selector at `spec.selector`, which must select what the template makes; `kind` is what the message calls the kind.
pub(super) fn check_selector(errors: &mut Vec<FieldError>, spec: &Doc, kind: &str) {
    let Some(selector) = spec.get("selector").filter(|selector| !selector.is_null()) else {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    };
    if let Some(parsed) = selects::check(errors, Some(selector), "spec.selector") {
        check_selected(errors, spec, selector, &parsed, kind);
    }
}

/// A parsed selector must say something, and select what the template makes.
pub(super) fn check_selected(
    errors: &mut Vec<FieldError>,
    spec: &Doc,
    written: &Doc,
    selector: &LabelSelector,
    kind: &str,
) {
    let labels = spec.at(&["template", "metadata", "labels"]);
    if selector.is_everything() {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::new(FieldErrorKind::Invalid, "spec.selector", written.to_string(), detail));
    } else if !selector.matches(&LabelsOf(labels.and_then(Doc::as_object))) {
        let value = labels.unwrap_or(&Doc::Null).to_string();
        let (path, detail) = ("spec.template.metadata.labels", "`selector` does not match template `labels`");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, value, detail));
    }
}
