//! `v1` ResourceQuota.

use super::{Strategy, broken, container::quantity, indexed, keep_status, list_at, metadata, named};
use crate::{
    doc::{Doc, Map},
    names,
    quota::{SCOPES, counts_whole, is_standard_name},
    status::{FieldError, FieldErrorKind},
};

pub(super) struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_amounts(&mut errors, doc.at(&["spec", "hard"]), "spec.hard");
        check_scopes(&mut errors, doc);
        check_selector(&mut errors, doc);
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        let scopes = |doc: &Doc| {
            let scopes = list_at(doc, &["spec", "scopes"]).iter().filter_map(Doc::as_str);
            scopes.map(str::to_owned).collect::<std::collections::BTreeSet<String>>()
        };
        if scopes(new) != scopes(old) {
            let shown = new.at(&["spec", "scopes"]).unwrap_or(&Doc::Null);
            errors.push(broken("spec.scopes", shown, "field is immutable"));
        }
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        if metadata_version(new).is_empty() {
            errors.push(FieldError::required("metadata.resourceVersion", ""));
        }
        for field in ["hard", "used"] {
            check_amounts(&mut errors, new.at(&["status", field]), &format!("status.{field}"));
        }
        errors
    }
}

fn metadata_version(doc: &Doc) -> &str {
    doc.str_at(&["metadata", "resourceVersion"])
}

fn check_amounts(errors: &mut Vec<FieldError>, amounts: Option<&Doc>, path: &str) {
    for (name, value) in amounts.and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
        let place = format!("{path}[{name}]");
        named(errors, &place, name, names::qualified_name(name));
        if !name.contains('/') && !is_standard_name(name) {
            errors.push(FieldError::invalid(&place, name, "must be a standard resource for quota"));
        }
        let Some(amount) = quantity(value) else { continue };
        if amount.is_negative() {
            errors.push(broken(&place, value, "must be greater than or equal to 0"));
        }
        if counts_whole(name) && amount.milli_value() % 1000 != 0 {
            errors.push(broken(place, value, "must be an integer"));
        }
    }
}

fn check_scopes(errors: &mut Vec<FieldError>, doc: &Doc) {
    const PATH: &str = "spec.scopes";
    let scopes = list_at(doc, &["spec", "scopes"]);
    let shown = doc.at(&["spec", "scopes"]).unwrap_or(&Doc::Null);
    let has = |scope: &str| scopes.iter().any(|found| found.as_str() == Some(scope));
    for scope in scopes.iter().filter_map(Doc::as_str) {
        if !SCOPES.contains(&scope) {
            errors.push(broken(PATH, shown, "unsupported scope"));
        }
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has(one) && has(other) {
            errors.push(broken(PATH, shown, "conflicting scopes"));
        }
    }
    // Pods that ask for nothing can only be counted.
    let hard = doc.at(&["spec", "hard"]).and_then(Doc::as_object);
    let counts_only = |name: &str| matches!(name, "pods" | "count/pods");
    if has("BestEffort") && hard.is_some_and(|hard| !hard.keys().all(counts_only)) {
        errors.push(broken(PATH, shown, "unsupported scope applied to resource"));
    }
}

fn check_selector(errors: &mut Vec<FieldError>, doc: &Doc) {
    const PATH: &str = "spec.scopeSelector.matchExpressions";
    for (path, wanted) in indexed(list_at(doc, &["spec", "scopeSelector", "matchExpressions"]), PATH) {
        let (scope, operator) = (wanted.str_at(&["scopeName"]), wanted.str_at(&["operator"]));
        let count = list_at(wanted, &["values"]).len();
        if !scope.is_empty() && !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(format!("{path}.scopeName"), scope, "unsupported scope"));
        }
        match operator {
            "In" | "NotIn" if count == 0 => {
                let detail = "must be atleast one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(format!("{path}.values"), detail));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                let path = format!("{path}.values");
                errors.push(FieldError::new(FieldErrorKind::Invalid, path, wanted.to_string(), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator"))
            }
        }
        let only_exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if only_exists && operator != "Exists" && !scope.is_empty() {
            let detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(format!("{path}.operator"), operator, detail));
        }
    }
}
