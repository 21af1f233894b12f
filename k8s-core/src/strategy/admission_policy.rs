//! `admissionregistration.k8s.io` policies and their bindings. Which expressions compile is said by
//! [`crate::admission_policy`].

use std::collections::BTreeSet;

use super::{Strategy, affinity, differs_in_spec, indexed, keep_status, list_at, metadata, named, webhook};
use crate::{
    admission_policy,
    cel::Type,
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

const MAX_ANNOTATIONS: usize = 20;
const MAX_CONDITIONS: usize = 64;
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

/// A policy: one that validates, or one that mutates.
pub(super) struct Policy {
    pub mutates: bool,
}

/// A binding of one of them.
pub(super) struct Binding {
    pub mutates: bool,
}

impl Strategy for Policy {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        count(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        self.check_spec(&mut errors, doc);
        check_expressions(&mut errors, doc);
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        self.check_spec(&mut errors, new);
        // What compiled when it was written is not held against a change of something else.
        if new.get("spec") != old.get("spec") {
            check_expressions(&mut errors, new);
        }
        errors
    }
}

impl Strategy for Binding {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        count(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let policy = doc.str_at(&["spec", "policyName"]);
        if policy.is_empty() {
            errors.push(FieldError::required("spec.policyName", ""));
        } else {
            named(&mut errors, "spec.policyName", policy, names::dns_subdomain(policy));
        }
        check_param_ref(&mut errors, doc.at(&["spec", "paramRef"]));
        if let Some(resources) = doc.at(&["spec", "matchResources"]).filter(|value| !value.is_null()) {
            check_match(&mut errors, resources, "spec.matchResources");
        }
        if !self.mutates {
            check_actions(&mut errors, list_at(doc, &["spec", "validationActions"]));
        }
        errors
    }
}

fn count(new: &mut Doc, old: &Doc) {
    let former = old.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
    new.set_at(&["metadata", "generation"], (former + i64::from(differs_in_spec(new, old))).into());
}

impl Policy {
    fn check_spec(&self, errors: &mut Vec<FieldError>, doc: &Doc) {
        check_param_kind(errors, doc.at(&["spec", "paramKind"]));
        match doc.at(&["spec", "matchConstraints"]).filter(|value| !value.is_null()) {
            None => errors.push(FieldError::required("spec.matchConstraints", "")),
            Some(resources) => {
                if list_at(resources, &["resourceRules"]).is_empty() {
                    errors.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
                }
                check_match(errors, resources, "spec.matchConstraints");
            }
        }
        check_named(errors, doc, "matchConditions", names::qualified_name);
        check_named(errors, doc, "variables", identifier);
        if list_at(doc, &["spec", "matchConditions"]).len() > MAX_CONDITIONS {
            let path = "spec.matchConditions";
            let detail = format!("must have at most {MAX_CONDITIONS} items");
            errors.push(FieldError::new(FieldErrorKind::TooMany, path, "", detail));
        }
        if self.mutates { check_mutations(errors, doc) } else { check_validations(errors, doc) }
    }
}

fn check_param_kind(errors: &mut Vec<FieldError>, kind: Option<&Doc>) {
    let Some(kind) = kind.filter(|kind| !kind.is_null()) else { return };
    for field in ["apiVersion", "kind"] {
        if kind.str_at(&[field]).is_empty() {
            errors.push(FieldError::required(format!("spec.paramKind.{field}"), ""));
        }
    }
    let version = kind.str_at(&["apiVersion"]);
    if version.matches('/').count() > 1 {
        errors.push(FieldError::invalid("spec.paramKind.apiVersion", version, "must be of the form group/version"));
    }
}

fn check_match(errors: &mut Vec<FieldError>, resources: &Doc, path: &str) {
    for list in ["resourceRules", "excludeResourceRules"] {
        for (path, rule) in indexed(list_at(resources, &[list]), &format!("{path}.{list}")) {
            webhook::check_rule(errors, rule, &path);
        }
    }
    for field in ["namespaceSelector", "objectSelector"] {
        affinity::check_selector(errors, resources.get(field), &format!("{path}.{field}"));
    }
}

/// Entries with a name and an expression, each name once.
fn check_named(errors: &mut Vec<FieldError>, doc: &Doc, list: &str, rule: impl Fn(&str) -> names::Problems) {
    let mut seen = BTreeSet::new();
    for (path, entry) in indexed(list_at(doc, &["spec", list]), &format!("spec.{list}")) {
        let name = entry.str_at(&["name"]);
        match name {
            "" => errors.push(FieldError::required(format!("{path}.name"), "")),
            name => named(errors, &format!("{path}.name"), name, rule(name)),
        }
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        if entry.str_at(&["expression"]).trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.expression"), "expression is not specified"));
        }
    }
}

fn identifier(name: &str) -> names::Problems {
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid { Vec::new() } else { vec!["name is not a valid CEL identifier".to_owned()] }
}

fn check_validations(errors: &mut Vec<FieldError>, doc: &Doc) {
    let validations = list_at(doc, &["spec", "validations"]);
    let annotations = list_at(doc, &["spec", "auditAnnotations"]);
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required("spec.validations", detail));
        errors.push(FieldError::required("spec.auditAnnotations", detail));
    }
    for (path, validation) in indexed(validations, "spec.validations") {
        if validation.str_at(&["expression"]).trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.expression"), "expression is not specified"));
        }
        check_message(errors, validation.str_at(&["message"]), &format!("{path}.message"));
        let reason = validation.str_at(&["reason"]);
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.push(FieldError::not_supported(format!("{path}.reason"), reason, &REASONS));
        }
    }
    check_annotations(errors, annotations);
}

fn check_message(errors: &mut Vec<FieldError>, message: &str, path: &str) {
    if message.is_empty() {
        return;
    }
    if message.trim().is_empty() {
        errors.push(FieldError::invalid(path, message, "message must be non-empty if specified"));
    } else if message.trim().contains('\n') {
        errors.push(FieldError::invalid(path, message, "message must not contain line breaks"));
    }
}

fn check_annotations(errors: &mut Vec<FieldError>, annotations: &[Doc]) {
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::new(FieldErrorKind::TooMany, "spec.auditAnnotations", "", detail));
    }
    let mut seen = BTreeSet::new();
    for (path, annotation) in indexed(annotations, "spec.auditAnnotations") {
        let key = annotation.str_at(&["key"]);
        match key {
            "" => errors.push(FieldError::required(format!("{path}.key"), "")),
            key => named(errors, &format!("{path}.key"), key, names::qualified_name(key)),
        }
        if !key.is_empty() && !seen.insert(key) {
            errors.push(FieldError::duplicate(format!("{path}.key"), key));
        }
        if annotation.str_at(&["valueExpression"]).trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.valueExpression"), "valueExpression is not specified"));
        }
    }
}

fn check_mutations(errors: &mut Vec<FieldError>, doc: &Doc) {
    let mutations = list_at(doc, &["spec", "mutations"]);
    if mutations.is_empty() {
        errors.push(FieldError::required("spec.mutations", "mutations must contain at least one item"));
    }
    for (path, mutation) in indexed(mutations, "spec.mutations") {
        let wanted = match mutation.str_at(&["patchType"]) {
            "ApplyConfiguration" => "applyConfiguration",
            "JSONPatch" => "jsonPatch",
            "" => {
                errors.push(FieldError::required(format!("{path}.patchType"), ""));
                continue;
            }
            other => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                errors.push(FieldError::not_supported(format!("{path}.patchType"), other, &known));
                continue;
            }
        };
        for field in ["applyConfiguration", "jsonPatch"] {
            let given = mutation.get(field).filter(|value| !value.is_null());
            match given {
                None if field == wanted => {
                    let detail = format!("must be specified when patchType is {}", mutation.str_at(&["patchType"]));
                    errors.push(FieldError::required(format!("{path}.{field}"), detail));
                }
                Some(given) if field == wanted && given.str_at(&["expression"]).trim().is_empty() => {
                    errors.push(FieldError::required(format!("{path}.{field}.expression"), ""));
                }
                Some(given) if field != wanted => {
                    let detail = format!("must not be specified when patchType is {}", mutation.str_at(&["patchType"]));
                    errors.push(FieldError::new(
                        FieldErrorKind::Invalid,
                        format!("{path}.{field}"),
                        given.to_string(),
                        detail,
                    ));
                }
                _ => {}
            }
        }
    }
}

fn check_expressions(errors: &mut Vec<FieldError>, doc: &Doc) {
    let (_, problems) = admission_policy::compile(doc, &Type::Dyn, &Type::Dyn);
    for problem in problems.into_iter().filter(|problem| !problem.expression.trim().is_empty()) {
        let why = problem.error.to_string();
        let detail = if why.starts_with("ERROR") { format!("compilation failed: {why}") } else { why };
        errors.push(FieldError::invalid(problem.path, &problem.expression, detail));
    }
}

fn check_param_ref(errors: &mut Vec<FieldError>, param: Option<&Doc>) {
    let Some(param) = param.filter(|param| !param.is_null()) else { return };
    let (path, name) = ("spec.paramRef", param.str_at(&["name"]));
    let selector = param.get("selector").filter(|selector| !selector.is_null());
    match (name.is_empty(), selector) {
        (true, None) => errors.push(FieldError::required(path, "one of name or selector must be specified")),
        (false, Some(_)) => {
            let detail = "name and selector are mutually exclusive";
            errors.push(FieldError::forbidden(format!("{path}.name"), detail));
        }
        (false, None) => named(errors, &format!("{path}.name"), name, names::path_segment(name)),
        (true, Some(_)) => affinity::check_selector(errors, selector, &format!("{path}.selector")),
    }
    let action = param.str_at(&["parameterNotFoundAction"]);
    let path = format!("{path}.parameterNotFoundAction");
    match action {
        "" => errors.push(FieldError::required(path, "")),
        "Allow" | "Deny" => {}
        other => errors.push(FieldError::not_supported(path, other, &["Allow", "Deny"])),
    }
}

fn check_actions(errors: &mut Vec<FieldError>, actions: &[Doc]) {
    const PATH: &str = "spec.validationActions";
    if actions.is_empty() {
        errors.push(FieldError::required(PATH, "at least one validation action is required"));
    }
    let mut seen = BTreeSet::new();
    for (path, action) in indexed(actions, PATH) {
        let action = action.as_str().unwrap_or("");
        if !ACTIONS.contains(&action) {
            errors.push(FieldError::not_supported(&path, action, &ACTIONS));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(path, action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                      API response and headers serves no purpose)";
        errors.push(FieldError::invalid(PATH, "Deny, Warn", detail));
    }
}

#[cfg(test)]
mod tests;
