//! `networking.k8s.io` Ingress and IngressClass.

use std::net::IpAddr;

use super::{Strategy, broken, indexed, integer, is_set, list_at, metadata, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// The older way to name a class.
const CLASS: [&str; 3] = ["metadata", "annotations", "kubernetes.io/ingress.class"];
/// What no path of an `Exact` or `Prefix` rule may contain.
const NOT_IN_PATH: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_END: [&str; 2] = ["/..", "/."];
/// The longest name of a controller.
const MAX_CONTROLLER: usize = 250;

pub(super) struct Ingress;

impl Strategy for Ingress {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = check_ingress(doc);
        if doc.at(&CLASS).is_some() && is_set(doc.get("spec").unwrap_or(&Doc::Null), "ingressClassName") {
            let path = "metadata.annotations.kubernetes.io/ingress.class";
            let detail = "can not be set when the class field is also set";
            errors.push(FieldError::invalid(path, doc.str_at(&CLASS), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = check_ingress(new);
        errors.extend(metadata::check_update(new, old));
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        let points = list_at(new, &["status", "loadBalancer", "ingress"]);
        for (path, point) in indexed(points, "status.loadBalancer.ingress") {
            let (ip, host) = (point.str_at(&["ip"]), point.str_at(&["hostname"]));
            if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
                errors.push(FieldError::invalid(format!("{path}.ip"), ip, "must be a valid IP address"));
            }
            if !host.is_empty() {
                named(&mut errors, &format!("{path}.hostname"), host, names::dns_subdomain(host));
                if host.parse::<IpAddr>().is_ok() {
                    let detail = "must be a DNS name, not an IP address";
                    errors.push(FieldError::invalid(format!("{path}.hostname"), host, detail));
                }
            }
        }
        errors
    }
}

fn check_ingress(doc: &Doc) -> Vec<FieldError> {
    let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
    let spec = doc.get("spec").unwrap_or(&Doc::Null);
    let rules = list_at(spec, &["rules"]);
    match spec.get("defaultBackend").filter(|backend| !backend.is_null()) {
        Some(backend) => check_backend(&mut errors, backend, "spec.defaultBackend"),
        None if rules.is_empty() => {
            let detail = "either `defaultBackend` or `rules` must be specified";
            errors.push(broken("spec", &Doc::Array(Vec::new()), detail));
        }
        None => {}
    }
    for (path, rule) in indexed(rules, "spec.rules") {
        check_host(&mut errors, rule.str_at(&["host"]), &format!("{path}.host"));
        let place = format!("{path}.http.paths");
        for (path, way) in indexed(list_at(rule, &["http", "paths"]), &place) {
            check_path(&mut errors, way, &path);
        }
    }
    for (path, tls) in indexed(list_at(spec, &["tls"]), "spec.tls") {
        for (path, host) in indexed(list_at(tls, &["hosts"]), &format!("{path}.hosts")) {
            let host = host.as_str().unwrap_or("");
            if !host.starts_with("*.") {
                named(&mut errors, &path, host, names::dns_subdomain(host));
            }
        }
        let secret = tls.str_at(&["secretName"]);
        if !secret.is_empty() {
            named(&mut errors, &format!("{path}.secretName"), secret, names::dns_subdomain(secret));
        }
    }
    if let Some(class) = spec.get("ingressClassName").and_then(Doc::as_str) {
        named(&mut errors, "spec.ingressClassName", class, names::dns_subdomain(class));
    }
    errors
}

fn check_host(errors: &mut Vec<FieldError>, host: &str, path: &str) {
    if host.is_empty() {
        return;
    }
    if host.parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
        return;
    }
    if let Some(parent) = host.strip_prefix("*.") {
        named(errors, path, host, names::dns_subdomain(parent));
    } else if host.contains('*') {
        let detail = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain";
        errors.push(FieldError::invalid(path, host, detail));
    } else {
        named(errors, path, host, names::dns_subdomain(host));
    }
}

fn check_path(errors: &mut Vec<FieldError>, way: &Doc, path: &str) {
    let (text, place) = (way.str_at(&["path"]), format!("{path}.path"));
    match way.str_at(&["pathType"]) {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(FieldError::invalid(&place, text, "must be an absolute path"));
            }
            for stray in NOT_IN_PATH.iter().filter(|stray| text.contains(**stray)) {
                errors.push(FieldError::invalid(&place, text, format!("must not contain '{stray}'")));
            }
            for stray in NOT_AT_END.iter().filter(|stray| text.ends_with(**stray)) {
                errors.push(FieldError::invalid(&place, text, format!("cannot end with '{stray}'")));
            }
        }
        _ if !text.is_empty() && !text.starts_with('/') => {
            errors.push(FieldError::invalid(&place, text, "must be an absolute path"));
        }
        _ => {}
    }
    check_backend(errors, way.get("backend").unwrap_or(&Doc::Null), &format!("{path}.backend"));
}

fn check_backend(errors: &mut Vec<FieldError>, backend: &Doc, path: &str) {
    let service = backend.get("service").filter(|service| !service.is_null());
    let resource = backend.get("resource").filter(|resource| !resource.is_null());
    match (service, resource) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (None, None) => errors.push(FieldError::required(path, "resource or service backend is required")),
        (None, Some(resource)) => {
            for field in ["kind", "name"].into_iter().filter(|field| resource.str_at(&[field]).is_empty()) {
                errors.push(FieldError::required(format!("{path}.resource.{field}"), ""));
            }
        }
        (Some(service), None) => check_service(errors, service, &format!("{path}.service")),
    }
}

fn check_service(errors: &mut Vec<FieldError>, service: &Doc, path: &str) {
    let name = service.str_at(&["name"]);
    if !name.is_empty() {
        named(errors, &format!("{path}.name"), name, names::dns_1035_label(name));
    }
    let port = service.get("port").unwrap_or(&Doc::Null);
    let (port_name, number) = (port.str_at(&["name"]), integer(port, "number").unwrap_or(0));
    match (port_name.is_empty(), number == 0) {
        (false, false) => {
            errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"));
        }
        (false, true) => named(errors, &format!("{path}.port.name"), port_name, names::port_name(port_name)),
        (true, false) if !(1..=65_535).contains(&number) => {
            let detail = "must be between 1 and 65535, inclusive";
            errors.push(broken(format!("{path}.port.number"), &number.into(), detail));
        }
        (true, false) => {}
        (true, true) => errors.push(FieldError::required(path, "port name or number is required")),
    }
}

pub(super) struct IngressClass;

impl Strategy for IngressClass {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let controller = spec.str_at(&["controller"]);
        if !controller.is_empty() {
            if controller.len() > MAX_CONTROLLER {
                let detail = format!("may not be more than {MAX_CONTROLLER} bytes");
                errors.push(FieldError::new(FieldErrorKind::TooLong, "spec.controller", "", detail));
            }
            named(&mut errors, "spec.controller", controller, names::domain_prefixed_path(controller));
        }
        if let Some(parameters) = spec.get("parameters").filter(|parameters| !parameters.is_null()) {
            check_parameters(&mut errors, parameters);
        }
        errors
    }
}

fn check_parameters(errors: &mut Vec<FieldError>, parameters: &Doc) {
    const PATH: &str = "spec.parameters";
    let (group, namespace) = (parameters.str_at(&["apiGroup"]), parameters.str_at(&["namespace"]));
    if !group.is_empty() {
        named(errors, &format!("{PATH}.apiGroup"), group, names::dns_subdomain(group));
    }
    for field in ["kind", "name"] {
        let text = parameters.str_at(&[field]);
        named(errors, &format!("{PATH}.{field}"), text, names::path_segment(text));
    }
    let place = format!("{PATH}.namespace");
    match parameters.str_at(&["scope"]) {
        "Namespace" if namespace.is_empty() => {
            errors.push(FieldError::required(place, "`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => named(errors, &place, namespace, names::dns_label(namespace)),
        _ if is_set(parameters, "namespace") => {
            errors.push(FieldError::forbidden(place, "`parameters.scope` is set to 'Cluster'"));
        }
        _ => {}
    }
}
