//! Where a pod wants to be: affinity to nodes and to other pods, and how copies spread.

use super::{indexed, list_at, metadata, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The affinity and spread of a pod's spec at `path`; also for templates.
pub(super) fn check(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    if let Some(affinity) = spec.get("affinity") {
        let place = format!("{path}.affinity");
        check_nodes(errors, affinity.get("nodeAffinity").unwrap_or(&Doc::Null), &format!("{place}.nodeAffinity"));
        for kind in ["podAffinity", "podAntiAffinity"] {
            check_pods(errors, affinity.get(kind).unwrap_or(&Doc::Null), &format!("{place}.{kind}"));
        }
    }
    let constraints = list_at(spec, &["topologySpreadConstraints"]);
    check_spread(errors, constraints, &format!("{path}.topologySpreadConstraints"));
}

fn check_nodes(errors: &mut Vec<FieldError>, affinity: &Doc, path: &str) {
    if let Some(required) = affinity.get(REQUIRED).filter(|required| !required.is_null()) {
        check_node_selector(errors, required, &format!("{path}.{REQUIRED}"));
    }
    for (path, preferred) in indexed(list_at(affinity, &[PREFERRED]), &format!("{path}.{PREFERRED}")) {
        check_node_term(errors, preferred.get("preference").unwrap_or(&Doc::Null), &format!("{path}.preference"));
    }
}

/// A selector of nodes at `path`: one of its terms must hold.
pub(super) fn check_node_selector(errors: &mut Vec<FieldError>, selector: &Doc, path: &str) {
    let (terms, path) = (list_at(selector, &["nodeSelectorTerms"]), format!("{path}.nodeSelectorTerms"));
    if terms.is_empty() {
        errors.push(FieldError::required(path, "must have at least one node selector term"));
        return;
    }
    for (path, term) in indexed(terms, &path) {
        check_node_term(errors, term, &path);
    }
}

fn check_node_term(errors: &mut Vec<FieldError>, term: &Doc, path: &str) {
    for (path, wanted) in indexed(list_at(term, &["matchExpressions"]), &format!("{path}.matchExpressions")) {
        let (key, operator) = (wanted.str_at(&["key"]), wanted.str_at(&["operator"]));
        if !key.is_empty() {
            named(errors, &format!("{path}.key"), key, names::qualified_name(key));
        }
        let (count, place) = (list_at(wanted, &["values"]).len(), format!("{path}.values"));
        match operator {
            "In" | "NotIn" if count == 0 => {
                errors.push(FieldError::required(place, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(place, detail));
            }
            "Gt" | "Lt" if count != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(place, detail));
            }
            _ => {}
        }
    }
    for (path, wanted) in indexed(list_at(term, &["matchFields"]), &format!("{path}.matchFields")) {
        let (key, operator) = (wanted.str_at(&["key"]), wanted.str_at(&["operator"]));
        if !matches!(operator, "In" | "NotIn") {
            errors.push(FieldError::invalid(format!("{path}.operator"), operator, "not a valid selector operator"));
        } else if list_at(wanted, &["values"]).len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(format!("{path}.values"), detail));
        }
        if key != "metadata.name" {
            errors.push(FieldError::invalid(format!("{path}.key"), key, "not a valid field selector key"));
        }
    }
}

fn check_pods(errors: &mut Vec<FieldError>, affinity: &Doc, path: &str) {
    for (path, term) in indexed(list_at(affinity, &[REQUIRED]), &format!("{path}.{REQUIRED}")) {
        check_pod_term(errors, term, &path);
    }
    for (path, preferred) in indexed(list_at(affinity, &[PREFERRED]), &format!("{path}.{PREFERRED}")) {
        check_pod_term(
            errors,
            preferred.get("podAffinityTerm").unwrap_or(&Doc::Null),
            &format!("{path}.podAffinityTerm"),
        );
    }
}

fn check_pod_term(errors: &mut Vec<FieldError>, term: &Doc, path: &str) {
    for selector in ["labelSelector", "namespaceSelector"] {
        check_selector(errors, term.get(selector), &format!("{path}.{selector}"));
    }
    for (path, namespace) in indexed(list_at(term, &["namespaces"]), &format!("{path}.namespaces")) {
        let name = namespace.as_str().unwrap_or("");
        named(errors, &path, name, names::dns_label(name));
    }
    check_topology(errors, term.str_at(&["topologyKey"]), &format!("{path}.topologyKey"));
    for keys in ["matchLabelKeys", "mismatchLabelKeys"] {
        check_label_keys(errors, list_at(term, &[keys]), term.get("labelSelector"), &format!("{path}.{keys}"));
    }
}

fn check_spread(errors: &mut Vec<FieldError>, constraints: &[Doc], path: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, constraint) in indexed(constraints, path) {
        let (key, action) = (constraint.str_at(&["topologyKey"]), constraint.str_at(&["whenUnsatisfiable"]));
        check_topology(errors, key, &format!("{path}.topologyKey"));
        if let Some(domains) = constraint.get("minDomains").and_then(Doc::as_i64).filter(|_| action != "DoNotSchedule")
        {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.push(FieldError::new(
                FieldErrorKind::Invalid,
                format!("{path}.minDomains"),
                domains.to_string(),
                detail,
            ));
        }
        if !seen.insert((key, action)) {
            let value = format!("{{{key}, {action}}}");
            errors.push(FieldError::duplicate(format!("{path}.{{topologyKey, whenUnsatisfiable}}"), &value));
        }
        check_selector(errors, constraint.get("labelSelector"), &format!("{path}.labelSelector"));
        let keys = list_at(constraint, &["matchLabelKeys"]);
        check_label_keys(errors, keys, constraint.get("labelSelector"), &format!("{path}.matchLabelKeys"));
    }
}

fn check_topology(errors: &mut Vec<FieldError>, key: &str, path: &str) {
    if !key.is_empty() {
        named(errors, path, key, names::qualified_name(key));
    }
}

/// Keys whose values the pod's own labels give; they say nothing without a selector to add them to.
fn check_label_keys(errors: &mut Vec<FieldError>, keys: &[Doc], selector: Option<&Doc>, path: &str) {
    if !keys.is_empty() && selector.is_none_or(Doc::is_null) {
        errors.push(FieldError::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    for (path, key) in indexed(keys, path) {
        let key = key.as_str().unwrap_or("");
        named(errors, &path, key, names::qualified_name(key));
    }
}

/// A label selector at `path`, rule by rule.
pub(super) fn check_selector(errors: &mut Vec<FieldError>, selector: Option<&Doc>, path: &str) {
    let Some(selector) = selector.filter(|selector| !selector.is_null()) else { return };
    metadata::check_labels(errors, selector.get("matchLabels"), &format!("{path}.matchLabels"));
    for (path, wanted) in indexed(list_at(selector, &["matchExpressions"]), &format!("{path}.matchExpressions")) {
        let (key, operator) = (wanted.str_at(&["key"]), wanted.str_at(&["operator"]));
        let (values, place) = (list_at(wanted, &["values"]), format!("{path}.values"));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(&place, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&place, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                errors.push(FieldError::invalid(format!("{path}.operator"), operator, "not a valid selector operator"))
            }
        }
        named(errors, &format!("{path}.key"), key, names::qualified_name(key));
        for (path, value) in indexed(values, &place) {
            let value = value.as_str().unwrap_or("");
            named(errors, &path, value, names::label_value(value));
        }
    }
}
