//! What a pod says to the scheduler: tolerations, gates, priority.

use super::{indexed, list_at, metadata, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// The tolerations, readiness gates and priority class of a pod's spec at `path`; also for templates.
pub(super) fn check(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    for (path, toleration) in indexed(list_at(spec, &["tolerations"]), &format!("{path}.tolerations")) {
        check_toleration(errors, toleration, &path);
    }
    for (path, gate) in indexed(list_at(spec, &["readinessGates"]), &format!("{path}.readinessGates")) {
        let condition = gate.str_at(&["conditionType"]);
        named(errors, &format!("{path}.conditionType"), condition, names::qualified_name(condition));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (path, gate) in indexed(list_at(spec, &["schedulingGates"]), &format!("{path}.schedulingGates")) {
        let name = gate.str_at(&["name"]);
        named(errors, &format!("{path}.name"), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
    let class = spec.str_at(&["priorityClassName"]);
    if !class.is_empty() {
        named(errors, &format!("{path}.priorityClassName"), class, names::dns_subdomain(class));
    }
}

fn check_toleration(errors: &mut Vec<FieldError>, toleration: &Doc, path: &str) {
    let (key, operator, value) =
        (toleration.str_at(&["key"]), toleration.str_at(&["operator"]), toleration.str_at(&["value"]));
    if !key.is_empty() {
        named(errors, &format!("{path}.key"), key, names::qualified_name(key));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(format!("{path}.operator"), operator, detail));
    }
    let effect = toleration.str_at(&["effect"]);
    let is_limited = toleration.get("tolerationSeconds").is_some_and(|seconds| !seconds.is_null());
    if is_limited && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(format!("{path}.effect"), effect, detail));
    }
    match operator {
        "" | "Equal" => named(errors, &format!("{path}.operator"), value, names::label_value(value)),
        "Exists" if !value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(format!("{path}.operator"), value, detail));
        }
        _ => {}
    }
}

/// A pod cannot have a node while something keeps it from being scheduled.
pub(super) fn check_gates(errors: &mut Vec<FieldError>, spec: &Doc) {
    if !list_at(spec, &["schedulingGates"]).is_empty() && !spec.str_at(&["nodeName"]).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
}

/// The taints of a node: each key and effect at most once.
pub(super) fn check_taints(errors: &mut Vec<FieldError>, taints: &[Doc]) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, taint) in indexed(taints, "spec.taints") {
        let (key, value) = (taint.str_at(&["key"]), taint.str_at(&["value"]));
        named(errors, &format!("{path}.key"), key, names::qualified_name(key));
        named(errors, &format!("{path}.value"), value, names::label_value(value));
        if !seen.insert((key, taint.str_at(&["effect"]))) {
            errors.push(FieldError::new(FieldErrorKind::Duplicate, path, taint.to_string(), ""));
        }
    }
}

/// The greatest priority of a class that is not the system's own.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// The classes of the system, and their priorities.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// `scheduling.k8s.io` PriorityClass.
pub(super) struct PriorityClass;

impl super::Strategy for PriorityClass {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let (name, value) = (doc.str_at(&["metadata", "name"]), doc.get("value").and_then(Doc::as_i64).unwrap_or(0));
        if SYSTEM_CLASSES.contains(&(name, value)) {
            return errors;
        }
        if name.starts_with("system-") {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            errors.push(FieldError::forbidden("metadata.name", detail));
        }
        if value > HIGHEST_PRIORITY {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
            errors.push(FieldError::forbidden("value", detail));
        }
        errors
    }
}
