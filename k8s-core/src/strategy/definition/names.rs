//! The names of a custom kind, and its group.

use super::super::{immutable, indexed, list_at, named};
use crate::{doc::Doc, names, status::FieldError};

const APPROVAL: &str = "api-approved.kubernetes.io";

/// What is wrong with the names.
pub(super) fn check(errors: &mut Vec<FieldError>, doc: &Doc) {
    let (group, plural) = (doc.str_at(&["spec", "group"]), doc.str_at(&["spec", "names", "plural"]));
    let wanted = format!("{plural}.{group}");
    if doc.str_at(&["metadata", "name"]) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", doc.str_at(&["metadata", "name"]), detail));
    }
    if !group.is_empty() {
        named(errors, "spec.group", group, names::dns_subdomain(group));
        if group.split('.').count() < 2 {
            errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
        }
        check_approval(errors, doc, group);
    }
    for field in ["plural", "kind"] {
        if doc.str_at(&["spec", "names", field]).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    for field in ["plural", "singular"] {
        let name = doc.str_at(&["spec", "names", field]);
        if !name.is_empty() {
            named(errors, &format!("spec.names.{field}"), name, names::dns_1035_label(name));
        }
    }
    for field in ["kind", "listKind"] {
        let name = doc.str_at(&["spec", "names", field]);
        let problems = if name.is_empty() { Vec::new() } else { names::dns_1035_label(&name.to_lowercase()) };
        for problem in problems {
            let detail = format!("may have mixed case, but should otherwise match: {problem}");
            errors.push(FieldError::invalid(format!("spec.names.{field}"), name, detail));
        }
    }
    let (kind, list) = (doc.str_at(&["spec", "names", "kind"]), doc.str_at(&["spec", "names", "listKind"]));
    if !kind.is_empty() && kind == list {
        errors.push(FieldError::invalid("spec.names.listKind", list, "kind and listKind may not be the same"));
    }
    for field in ["shortNames", "categories"] {
        let path = format!("spec.names.{field}");
        for (path, name) in indexed(list_at(doc, &["spec", "names", field]), &path) {
            let name = name.as_str().unwrap_or("");
            named(errors, &path, name, names::dns_1035_label(name));
        }
    }
}

/// Groups of the project are not for everyone.
fn check_approval(errors: &mut Vec<FieldError>, doc: &Doc, group: &str) {
    let is_protected = [".k8s.io", ".kubernetes.io"].iter().any(|suffix| group.ends_with(suffix))
        || matches!(group, "k8s.io" | "kubernetes.io");
    if !is_protected {
        return;
    }
    let path = format!("metadata.annotations[{APPROVAL}]");
    match doc.str_at(&["metadata", "annotations", APPROVAL]) {
        "" => {
            let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
                          https://github.com/kubernetes/enhancements/pull/1111";
            errors.push(FieldError::required(path, detail));
        }
        reason
            if reason.starts_with("unapproved") || reason.starts_with("http://") || reason.starts_with("https://") => {}
        reason => {
            let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a \
                          URL or a reason starting with \"unapproved\"";
            errors.push(FieldError::invalid(path, reason, detail));
        }
    }
}

/// What is wrong with how the names change. (That group and scope stay is the schema's rule.)
pub(super) fn check_update(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    immutable(errors, new, old, &["spec", "names", "plural"]);
    let conditions = list_at(old, &["status", "conditions"]).iter();
    let mut established = conditions.filter(|condition| condition.str_at(&["type"]) == "Established");
    if established.any(|condition| condition.str_at(&["status"]) == "True") {
        immutable(errors, new, old, &["spec", "names", "kind"]);
    }
}
