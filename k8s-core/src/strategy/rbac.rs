//! Roles and bindings of `rbac.authorization.k8s.io`.

use super::{Strategy, immutable, indexed, list_at, metadata};
use crate::{doc::Doc, status::FieldError};

/// Role and ClusterRole.
pub(super) struct Role {
    /// Whether it may speak of paths that are no resources.
    pub(super) cluster: bool,
}

impl Strategy for Role {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::PathSegment);
        for (path, rule) in indexed(list_at(doc, &["rules"]), "rules") {
            self.check_rule(&mut errors, rule, &path);
        }
        errors
    }
}

impl Role {
    fn check_rule(&self, errors: &mut Vec<FieldError>, rule: &Doc, path: &str) {
        let is_empty = |name: &str| list_at(rule, &[name]).is_empty();
        if is_empty("verbs") {
            errors.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        if !is_empty("nonResourceURLs") {
            let place = format!("{path}.nonResourceURLs");
            if !self.cluster {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&place, "", detail));
            }
            if !["apiGroups", "resources", "resourceNames"].iter().all(|name| is_empty(name)) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(place, "", detail));
            }
            return;
        }
        for (name, detail) in [
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ] {
            if is_empty(name) {
                errors.push(FieldError::required(format!("{path}.{name}"), detail));
            }
        }
    }
}

/// RoleBinding and ClusterRoleBinding.
pub(super) struct Binding;

impl Strategy for Binding {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::PathSegment);
        let is_cluster = doc.str_at(&["kind"]) == "ClusterRoleBinding";
        let kinds: &[&str] = if is_cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        let kind = doc.str_at(&["roleRef", "kind"]);
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
        }
        if doc.str_at(&["roleRef", "name"]).is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        for (path, subject) in indexed(list_at(doc, &["subjects"]), "subjects") {
            check_subject(&mut errors, subject, &path, is_cluster);
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        if new.get("roleRef") != old.get("roleRef") {
            immutable(&mut errors, new, old, &["roleRef"]);
        }
        errors
    }
}

fn check_subject(errors: &mut Vec<FieldError>, subject: &Doc, path: &str, is_cluster: bool) {
    if subject.str_at(&["name"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    match subject.str_at(&["kind"]) {
        "ServiceAccount" if is_cluster && subject.str_at(&["namespace"]).is_empty() => {
            errors.push(FieldError::required(format!("{path}.namespace"), ""));
        }
        "ServiceAccount" | "User" | "Group" => {}
        other => {
            let supported = &["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(format!("{path}.kind"), other, supported));
        }
    }
}
