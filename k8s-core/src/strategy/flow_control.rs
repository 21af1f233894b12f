//! `flowcontrol.apiserver.k8s.io` FlowSchema and PriorityLevelConfiguration.

use super::{Strategy, broken, indexed, integer, is_set, list_at, metadata, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// Shuffle sharding deals no hand that takes more bits than this.
const MAX_ENTROPY_BITS: f64 = 60.0;
/// The most queues of one level.
const MAX_QUEUES: i64 = 10_000_000;
const SEATS: [&str; 2] = ["exempt", "catch-all"];

pub(super) struct FlowSchema;

impl Strategy for FlowSchema {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let (name, precedence) = (doc.str_at(&["metadata", "name"]), integer(spec, "matchingPrecedence").unwrap_or(0));
        if precedence == 1 && name != "exempt" {
            let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
            errors.push(broken("spec.matchingPrecedence", &precedence.into(), detail));
        }
        let level = spec.str_at(&["priorityLevelConfiguration", "name"]);
        if !level.is_empty() {
            named(&mut errors, "spec.priorityLevelConfiguration.name", level, names::dns_subdomain(level));
        }
        for (path, rule) in indexed(list_at(spec, &["rules"]), "spec.rules") {
            check_rule(&mut errors, rule, &path);
        }
        errors
    }
}

fn check_rule(errors: &mut Vec<FieldError>, rule: &Doc, path: &str) {
    let subjects = list_at(rule, &["subjects"]);
    if subjects.is_empty() {
        errors.push(FieldError::required(format!("{path}.subjects"), "subjects must contain at least one value"));
    }
    for (path, subject) in indexed(subjects, &format!("{path}.subjects")) {
        check_subject(errors, subject, &path);
    }
    let (of_resources, of_paths) = (list_at(rule, &["resourceRules"]), list_at(rule, &["nonResourceRules"]));
    if of_resources.is_empty() && of_paths.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, detail));
    }
    for (path, rule) in indexed(of_resources, &format!("{path}.resourceRules")) {
        check_verbs(errors, rule, &path);
        check_all_or_some(errors, rule, "apiGroups", &path);
        check_all_or_some(errors, rule, "resources", &path);
        let namespaces = list_at(rule, &["namespaces"]);
        if namespaces.is_empty() && rule.get("clusterScope").and_then(Doc::as_bool) != Some(true) {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(FieldError::required(format!("{path}.namespaces"), detail));
        } else if !namespaces.is_empty() {
            check_all_or_some(errors, rule, "namespaces", &path);
        }
        for (path, namespace) in indexed(namespaces, &format!("{path}.namespaces")) {
            let namespace = namespace.as_str().unwrap_or("");
            if namespace != "*" {
                named(errors, &path, namespace, names::dns_label(namespace));
            }
        }
    }
    for (path, rule) in indexed(of_paths, &format!("{path}.nonResourceRules")) {
        check_verbs(errors, rule, &path);
        check_all_or_some(errors, rule, "nonResourceURLs", &path);
        for (path, url) in indexed(list_at(rule, &["nonResourceURLs"]), &format!("{path}.nonResourceURLs")) {
            check_url(errors, url.as_str().unwrap_or(""), &path);
        }
    }
}

fn check_subject(errors: &mut Vec<FieldError>, subject: &Doc, path: &str) {
    let wanted = match subject.str_at(&["kind"]) {
        "User" => "user",
        "Group" => "group",
        "ServiceAccount" => "serviceAccount",
        _ => return,
    };
    for field in ["user", "group", "serviceAccount"] {
        let place = format!("{path}.{field}");
        match (field == wanted, is_set(subject, field)) {
            (true, false) => {
                let detail = format!("{field} is required when subject kind is '{}'", subject.str_at(&["kind"]));
                errors.push(FieldError::required(place, detail));
            }
            (false, true) => {
                let detail = format!("{field} is forbidden when subject kind is not '{}'", kind_of(field));
                errors.push(FieldError::forbidden(place, detail));
            }
            (true, true) => {
                if subject.str_at(&[field, "name"]).is_empty() {
                    errors.push(FieldError::required(format!("{place}.name"), ""));
                }
                if field == "serviceAccount" && subject.str_at(&[field, "namespace"]).is_empty() {
                    let detail = "must specify namespace for service account";
                    errors.push(FieldError::required(format!("{place}.namespace"), detail));
                }
            }
            (false, false) => {}
        }
    }
}

fn kind_of(field: &str) -> &'static str {
    match field {
        "user" => "User",
        "group" => "Group",
        _ => "ServiceAccount",
    }
}

fn check_verbs(errors: &mut Vec<FieldError>, rule: &Doc, path: &str) {
    const KNOWN: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    check_all_or_some(errors, rule, "verbs", path);
    for (path, verb) in indexed(list_at(rule, &["verbs"]), &format!("{path}.verbs")) {
        let verb = verb.as_str().unwrap_or("");
        if verb != "*" && !KNOWN.contains(&verb) && verb.chars().any(|letter| !letter.is_ascii_lowercase()) {
            errors.push(FieldError::not_supported(path, verb, &KNOWN));
        }
    }
}

/// Something, and `*` alone if at all.
fn check_all_or_some(errors: &mut Vec<FieldError>, rule: &Doc, field: &str, path: &str) {
    let items = list_at(rule, &[field]);
    let place = format!("{path}.{field}");
    if items.is_empty() {
        errors.push(FieldError::required(place, format!("{field} must contain at least one value")));
    } else if items.len() > 1 && items.iter().any(|item| item.as_str() == Some("*")) {
        let shown = rule.get(field).unwrap_or(&Doc::Null);
        errors.push(broken(place, shown, format!("if '*' is present, must not specify other {field}")));
    }
}

fn check_url(errors: &mut Vec<FieldError>, url: &str, path: &str) {
    if url == "*" {
        return;
    }
    let detail = match url {
        "" => "nonResourceURL must not be empty",
        "/" => return,
        url if !url.starts_with('/') => "must start with slash",
        url if url.contains(' ') => "must not contain white-space",
        url if url.contains("//") => "must not contain double slash",
        url if url[..url.len() - 1].contains('*') => "wildcard can only do suffix matching",
        _ => return,
    };
    errors.push(FieldError::invalid(path, url, detail));
}

pub(super) struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let (name, spec) = (doc.str_at(&["metadata", "name"]), doc.get("spec").unwrap_or(&Doc::Null));
        let kind = spec.str_at(&["type"]);
        if (name == SEATS[0]) != (kind == "Exempt") && !kind.is_empty() {
            let detail = "type must be 'Exempt' if and only if name is 'exempt'";
            errors.push(FieldError::invalid("spec.type", kind, detail));
        }
        check_limits(&mut errors, spec, kind);
        errors
    }
}

fn check_limits(errors: &mut Vec<FieldError>, spec: &Doc, kind: &str) {
    match kind {
        "Exempt" if is_set(spec, "limited") => {
            errors.push(FieldError::forbidden("spec.limited", "must be nil if the type is not Limited"));
        }
        "Limited" => {
            if is_set(spec, "exempt") {
                errors.push(FieldError::forbidden("spec.exempt", "must be nil if the type is Limited"));
            }
            match spec.get("limited").filter(|limited| !limited.is_null()) {
                None => errors.push(FieldError::required("spec.limited", "must not be empty when type is Limited")),
                Some(limited) => check_response(errors, limited.get("limitResponse").unwrap_or(&Doc::Null)),
            }
        }
        _ => {}
    }
}

fn check_response(errors: &mut Vec<FieldError>, response: &Doc) {
    const PATH: &str = "spec.limited.limitResponse.queuing";
    let queuing = response.get("queuing").filter(|queuing| !queuing.is_null());
    match (response.str_at(&["type"]), queuing) {
        ("Queue", None) => {
            errors.push(FieldError::required(PATH, "must not be empty if limitResponse.type is Queue"));
        }
        ("Queue", Some(queuing)) => check_queuing(errors, queuing, PATH),
        ("Reject", Some(_)) => {
            errors.push(FieldError::forbidden(PATH, "must be nil if limitResponse.type is not Limited"));
        }
        _ => {}
    }
}

fn check_queuing(errors: &mut Vec<FieldError>, queuing: &Doc, path: &str) {
    let number = |field: &str| integer(queuing, field).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.push(broken(format!("{path}.queues"), &queues.into(), detail));
    }
    if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::new(FieldErrorKind::Invalid, format!("{path}.handSize"), hand.to_string(), detail));
        return;
    }
    // The number of hands that can be dealt, in bits.
    let bits: f64 = (0..hand.max(0)).map(|dealt| ((queues - dealt) as f64).log2()).sum();
    if bits > MAX_ENTROPY_BITS {
        let detail =
            format!("required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60");
        errors.push(broken(format!("{path}.handSize"), &hand.into(), detail));
    }
}
