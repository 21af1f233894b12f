//! `admissionregistration.k8s.io` MutatingWebhookConfiguration and ValidatingWebhookConfiguration, and the `clientConfig`
//! that they share with conversion webhooks.

use std::collections::BTreeSet;

use super::{Strategy, affinity, differs_in_spec, indexed, list_at, metadata, named};
use crate::{
    cel::{Program, Type, admission},
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// The versions of `AdmissionReview` that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// The most match conditions of one webhook.
const MAX_CONDITIONS: usize = 64;

/// Both kinds.
pub(super) struct WebhookConfiguration;

impl Strategy for WebhookConfiguration {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        let former = old.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
        let generation = former + i64::from(differs_in_spec(new, old));
        new.set_at(&["metadata", "generation"], generation.into());
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let mut seen = BTreeSet::new();
        for (path, webhook) in indexed(list_at(doc, &["webhooks"]), "webhooks") {
            check_webhook(&mut errors, webhook, &path);
            let name = webhook.str_at(&["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
        errors
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

fn check_webhook(errors: &mut Vec<FieldError>, webhook: &Doc, path: &str) {
    check_name(errors, webhook.str_at(&["name"]), &format!("{path}.name"));
    check_versions(errors, webhook, &format!("{path}.admissionReviewVersions"));
    for (path, rule) in indexed(list_at(webhook, &["rules"]), &format!("{path}.rules")) {
        check_rule(errors, rule, &path);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        affinity::check_selector(errors, webhook.get(field), &format!("{path}.{field}"));
    }
    check_conditions(errors, list_at(webhook, &["matchConditions"]), &format!("{path}.matchConditions"));
    check_client_config(errors, webhook.get("clientConfig").unwrap_or(&Doc::Null), &format!("{path}.clientConfig"));
}

/// A name of at least three segments.
fn check_name(errors: &mut Vec<FieldError>, name: &str, path: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let problems = names::dns_subdomain(name);
    if problems.is_empty() && name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
    named(errors, path, name, problems);
}

fn check_versions(errors: &mut Vec<FieldError>, webhook: &Doc, path: &str) {
    let versions = list_at(webhook, &["admissionReviewVersions"]);
    let supported = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {supported}")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (path, version) in indexed(versions, path) {
        let version = version.as_str().unwrap_or("");
        named(errors, &path, version, names::dns_1035_label(version));
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&path, version, "duplicate version"));
        }
    }
    if REVIEW_VERSIONS.iter().all(|version| !seen.contains(version)) {
        let shown = webhook.get("admissionReviewVersions").map(Doc::to_string).unwrap_or_default();
        let detail = format!("must include at least one of {supported}");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, shown, detail));
    }
}

/// One entry of `rules`, of webhooks and of policies.
fn check_rule(errors: &mut Vec<FieldError>, rule: &Doc, path: &str) {
    let lists = [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")];
    for (field, called) in lists {
        let (items, path) = (list_at(rule, &[field]), format!("{path}.{field}"));
        if items.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if items.len() > 1 && items.iter().any(|item| item.as_str() == Some("*")) {
            let shown = rule.get(field).map(Doc::to_string).unwrap_or_default();
            let detail = format!("if '*' is present, must not specify other {called}");
            errors.push(FieldError::new(FieldErrorKind::Invalid, &path, shown, detail));
        }
        for (path, item) in indexed(items, &path) {
            let item = item.as_str().unwrap_or("");
            match field {
                "operations" if !OPERATIONS.contains(&item) => {
                    errors.push(FieldError::not_supported(path, item, &OPERATIONS));
                }
                "apiVersions" if item.is_empty() => errors.push(FieldError::required(path, "")),
                _ => {}
            }
        }
    }
    check_resources(errors, rule, &format!("{path}.resources"));
}

/// Match conditions: named expressions that say yes or no.
fn check_conditions(errors: &mut Vec<FieldError>, conditions: &[Doc], path: &str) {
    if conditions.len() > MAX_CONDITIONS {
        let (count, detail) = (conditions.len().to_string(), format!("must have at most {MAX_CONDITIONS} items"));
        errors.push(FieldError::new(FieldErrorKind::TooMany, path, count, detail));
        return;
    }
    let mut seen = BTreeSet::new();
    for (path, condition) in indexed(conditions, path) {
        let (name, expression) = (condition.str_at(&["name"]), condition.str_at(&["expression"]));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        let problems = if name.is_empty() { Vec::new() } else { names::qualified_name(name) };
        named(errors, &format!("{path}.name"), name, problems);
        let place = format!("{path}.expression");
        if expression.trim().is_empty() {
            errors.push(FieldError::required(place, ""));
        } else if let Err(why) = Program::compile_to(expression, &Type::Bool, &admission::declarations()) {
            errors.push(FieldError::invalid(place, expression, format!("compilation failed: {why}")));
        }
    }
}

fn check_resources(errors: &mut Vec<FieldError>, rule: &Doc, path: &str) {
    let items = list_at(rule, &["resources"]);
    if items.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let all: BTreeSet<&str> = items.iter().filter_map(Doc::as_str).collect();
    for (path, item) in indexed(items, path) {
        let text = item.as_str().unwrap_or("");
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if let Some((resource, subresource)) = text.split_once('/')
            && subresource != "*"
            && all.contains(format!("{resource}/*").as_str())
        {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path, text, detail));
        }
    }
    let mut only = |pattern: &str, detail: &str, others: &dyn Fn(&str) -> bool| {
        if all.contains(pattern) && all.iter().any(|other| *other != pattern && others(other)) {
            let shown = rule.get("resources").map(Doc::to_string).unwrap_or_default();
            errors.push(FieldError::new(FieldErrorKind::Invalid, path, shown, detail));
        }
    };
    only("*/*", "if '*/*' is present, must not specify other resources", &|_| true);
    let detail = "if '*' is present, must not specify other resources without subresources";
    only("*", detail, &|other| !other.contains('/'));
}

/// Whom to call: a URL or a service, and not both.
pub(super) fn check_client_config(errors: &mut Vec<FieldError>, client: &Doc, path: &str) {
    let url = client.get("url").and_then(Doc::as_str);
    let service = client.get("service").filter(|service| !service.is_null());
    match (url, service) {
        (Some(url), None) => check_url(errors, url, &format!("{path}.url")),
        (None, Some(service)) => check_service(errors, service, &format!("{path}.service")),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn check_url(errors: &mut Vec<FieldError>, url: &str, path: &str) {
    let mut refuse = |detail: &str| {
        let form = "; desired format: https://host[/path]";
        errors.push(FieldError::invalid(path, url, format!("{detail}{form}")));
    };
    let Some(rest) = url.strip_prefix("https://") else {
        refuse("'https' is the only allowed URL scheme");
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.split(':').next().unwrap_or("").is_empty() {
        refuse("host must be specified");
    }
    if authority.contains('@') {
        refuse("user information is not permitted in the URL");
    }
    if rest.contains('#') {
        refuse("fragments are not permitted in the URL");
    }
    if rest.contains('?') {
        refuse("query parameters are not permitted in the URL");
    }
}

fn check_service(errors: &mut Vec<FieldError>, service: &Doc, path: &str) {
    for field in ["name", "namespace"] {
        if service.str_at(&[field]).is_empty() {
            errors.push(FieldError::required(format!("{path}.{field}"), format!("service {field} is required")));
        }
    }
    let url_path = service.str_at(&["path"]);
    if url_path.is_empty() || url_path == "/" {
        return;
    }
    let place = format!("{path}.path");
    let Some(rest) = url_path.strip_prefix('/') else {
        errors.push(FieldError::invalid(place, url_path, "must start with a '/'"));
        return;
    };
    for (index, step) in rest.trim_end_matches('/').split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(&place, url_path, format!("segment[{index}] may not be empty")));
        }
        let problems = names::dns_subdomain(step);
        if !step.is_empty() && !problems.is_empty() {
            let why = problems.join(", ");
            errors.push(FieldError::invalid(&place, url_path, format!("segment[{index}]: {why}")));
        }
    }
}
