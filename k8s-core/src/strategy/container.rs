//! The rules about the containers and volumes of a pod.

use std::collections::BTreeSet;

use super::{
    indexed, list_at, named, security,
    service::check_port_number,
    volume::{IN_VARIABLES, check_field_path},
};
use crate::{
    doc::{Doc, Map},
    names,
    quantity::Quantity,
    status::{FieldError, FieldErrorKind},
};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const PROBE_COUNTS: [&str; 5] =
    ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

/// All containers of one list; `seen` holds the names of those in other lists.
pub(super) fn check_containers<'a>(
    errors: &mut Vec<FieldError>,
    containers: &'a [Doc],
    path: &str,
    volumes: &BTreeSet<&str>,
    seen: &mut BTreeSet<&'a str>,
) {
    for (path, container) in indexed(containers, path) {
        let (name, place) = (container.str_at(&["name"]), format!("{path}.name"));
        if name.is_empty() {
            errors.push(FieldError::required(place, ""));
        } else {
            named(errors, &place, name, names::dns_label(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(place, name));
            }
        }
        check_image(errors, container.str_at(&["image"]), &path);
        check_ports(errors, list_at(container, &["ports"]), &path);
        check_env(errors, list_at(container, &["env"]), &path);
        check_mounts(errors, list_at(container, &["volumeMounts"]), volumes, &path);
        check_resources(errors, container, &path);
        for probe in PROBES {
            if let Some(value) = container.get(probe).filter(|value| !value.is_null()) {
                check_probe(errors, value, probe, &format!("{path}.{probe}"));
            }
        }
        check_lifecycle(errors, container, &path);
        security::check_container(errors, container, &path);
        check_env_from(errors, list_at(container, &["envFrom"]), &path);
        check_restart(errors, container, &path);
    }
}

/// What only containers that stay may have: init containers stay if they are sidecars.
pub(super) fn check_init_containers(errors: &mut Vec<FieldError>, containers: &[Doc], path: &str) {
    let passing = |(_, container): &(String, &Doc)| container.str_at(&["restartPolicy"]) != "Always";
    for (path, container) in indexed(containers, path).filter(passing) {
        for field in PROBES.into_iter().chain(["lifecycle"]) {
            if container.get(field).is_some_and(|value| !value.is_null()) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
    }
}

fn check_lifecycle(errors: &mut Vec<FieldError>, container: &Doc, path: &str) {
    const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];
    for hook in ["postStart", "preStop"] {
        let Some(hook_doc) = container.at(&["lifecycle", hook]).filter(|hook| !hook.is_null()) else { continue };
        let place = format!("{path}.lifecycle.{hook}");
        let handlers = HOOK_HANDLERS.iter().filter(|name| hook_doc.get(name).is_some_and(|value| !value.is_null()));
        match handlers.count() {
            0 => errors.push(FieldError::required(place, "must specify a handler type")),
            1 => {}
            _ => errors.push(FieldError::forbidden(place, "may not specify more than 1 handler type")),
        }
    }
}

fn check_image(errors: &mut Vec<FieldError>, image: &str, path: &str) {
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), image, detail));
    }
}

fn check_ports(errors: &mut Vec<FieldError>, ports: &[Doc], path: &str) {
    let (mut seen, mut host_ports) = (BTreeSet::new(), BTreeSet::new());
    for (path, port) in indexed(ports, &format!("{path}.ports")) {
        let (name, place) = (port.str_at(&["name"]), format!("{path}.name"));
        if !name.is_empty() {
            named(errors, &place, name, names::port_name(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(place, name));
            }
        }
        let number = |field: &str| port.get(field).and_then(Doc::as_i64).unwrap_or(0);
        match number("containerPort") {
            0 => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            port => check_port_number(errors, &format!("{path}.containerPort"), port),
        }
        let (host_port, protocol) = (number("hostPort"), port.str_at(&["protocol"]));
        if host_port != 0 {
            check_port_number(errors, &format!("{path}.hostPort"), host_port);
            if !host_ports.insert((protocol, port.str_at(&["hostIP"]), host_port)) {
                errors.push(FieldError::duplicate(format!("{path}.hostPort"), &format!("{protocol}//{host_port}")));
            }
        }
        if !matches!(protocol, "" | "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
    }
}

fn check_env(errors: &mut Vec<FieldError>, env: &[Doc], path: &str) {
    for (path, variable) in indexed(env, &format!("{path}.env")) {
        let (name, place) = (variable.str_at(&["name"]), format!("{path}.name"));
        if name.is_empty() {
            errors.push(FieldError::required(place, ""));
        } else {
            named(errors, &place, name, names::env_name(name));
        }
        let Some(source) = variable.get("valueFrom").and_then(Doc::as_object) else { continue };
        let place = format!("{path}.valueFrom");
        if source.len() != 1 {
            let detail = "must specify exactly one of: `configMapKeyRef`, `fieldRef`, `fileKeyRef`, \
                `resourceFieldRef` or `secretKeyRef`";
            errors.push(FieldError::invalid(&place, "", detail));
        }
        if !variable.str_at(&["value"]).is_empty() {
            errors.push(FieldError::invalid(place.clone(), "", "may not be specified when `value` is not empty"));
        }
        if let Some(field) = source.get("fieldRef").filter(|field| !field.is_null()) {
            check_field_path(
                errors,
                field.str_at(&["fieldPath"]),
                IN_VARIABLES,
                &format!("{place}.fieldRef.fieldPath"),
            );
        }
    }
}

fn check_env_from(errors: &mut Vec<FieldError>, sources: &[Doc], path: &str) {
    for (path, source) in indexed(sources, &format!("{path}.envFrom")) {
        let prefix = source.str_at(&["prefix"]);
        if !prefix.is_empty() {
            named(errors, &format!("{path}.prefix"), prefix, names::env_name(prefix));
        }
        let given = ["configMapRef", "secretRef"].into_iter().filter(|kind| source.get(kind).is_some());
        let given: Vec<&str> = given.collect();
        match given.as_slice() {
            [] => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(path, "", detail));
            }
            [kind] => {
                let (name, place) = (source.str_at(&[kind, "name"]), format!("{path}.{kind}.name"));
                if name.is_empty() {
                    errors.push(FieldError::required(place, ""));
                } else {
                    named(errors, &place, name, names::dns_subdomain(name));
                }
            }
            _ => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
        }
    }
}

/// A container's own rules of when it is restarted.
fn check_restart(errors: &mut Vec<FieldError>, container: &Doc, path: &str) {
    let (policy, rules) = (container.str_at(&["restartPolicy"]), list_at(container, &["restartPolicyRules"]));
    let place = format!("{path}.restartPolicyRules");
    if policy.is_empty() && !rules.is_empty() {
        errors.push(FieldError::required(
            format!("{path}.restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        ));
    }
    if policy == "Always" && !rules.is_empty() {
        errors.push(FieldError::forbidden(&place, "restart rules are not allowed with restartPolicy Always"));
    }
    for (path, rule) in indexed(rules, &place) {
        if rule.at(&["exitCodes"]).is_none() {
            errors.push(FieldError::required(format!("{path}.exitCodes"), "must be specified"));
        }
    }
}

fn check_mounts(errors: &mut Vec<FieldError>, mounts: &[Doc], volumes: &BTreeSet<&str>, path: &str) {
    let mut seen = BTreeSet::new();
    for (path, mount) in indexed(mounts, &format!("{path}.volumeMounts")) {
        let (name, target) = (mount.str_at(&["name"]), mount.str_at(&["mountPath"]));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            let kind = FieldErrorKind::NotFound;
            errors.push(FieldError::new(kind, format!("{path}.name"), format!("{name:?}"), ""));
        }
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !seen.insert(target) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), target, "must be unique"));
        }
        let inside = mount.str_at(&["subPath"]);
        if inside.starts_with('/') {
            errors.push(FieldError::invalid(format!("{path}.subPath"), inside, "must be a relative path"));
        } else if inside.split('/').any(|step| step == "..") {
            errors.push(FieldError::invalid(format!("{path}.subPath"), inside, "must not contain '..'"));
        }
    }
}

fn check_resources(errors: &mut Vec<FieldError>, container: &Doc, path: &str) {
    let of = |what: &str| container.at(&["resources", what]).and_then(Doc::as_object);
    for what in ["limits", "requests"] {
        for (name, value) in of(what).into_iter().flat_map(Map::iter) {
            let place = format!("{path}.resources.{what}[{name}]");
            named(errors, &place, name, names::qualified_name(name));
            check_resource_name(errors, name, &place);
            check_quantity(errors, value, place);
        }
    }
    for (name, request) in of("requests").into_iter().flat_map(Map::iter) {
        let place = format!("{path}.resources.requests");
        let Some(limit) = of("limits").and_then(|limits| limits.get(name)) else {
            if !is_shared(name) {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(format!("{path}.resources.limits"), detail));
            }
            continue;
        };
        if !is_shared(name) && quantity(request) != quantity(limit) {
            let detail = format!("must be equal to {name} limit of {}", limit.as_str().unwrap_or(""));
            errors.push(FieldError::invalid(place, request.as_str().unwrap_or(""), detail));
        } else if quantity(request).zip(quantity(limit)).is_some_and(|(request, limit)| request > limit) {
            let detail = format!("must be less than or equal to {name} limit of {}", limit.as_str().unwrap_or(""));
            let value = request.as_str().unwrap_or("");
            errors.push(FieldError::invalid(place, value, detail));
        }
    }
}

/// Whether more of a resource may be promised than there is.
fn is_shared(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    is_native && !name.starts_with("hugepages-")
}

fn check_resource_name(errors: &mut Vec<FieldError>, name: &str, path: &str) {
    let is_standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !is_standard {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}

/// Quantities by name, none of them negative.
pub(super) fn check_quantities(errors: &mut Vec<FieldError>, quantities: Option<&Doc>, path: &str) {
    for (name, value) in quantities.and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
        check_quantity(errors, value, format!("{path}[{name}]"));
    }
}

fn check_quantity(errors: &mut Vec<FieldError>, value: &Doc, path: String) {
    if quantity(value).is_some_and(Quantity::is_negative) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path, value.as_str().unwrap_or(""), detail));
    }
}

/// The quantity, if it is well-formed; the schema's check has refused it otherwise.
pub(super) fn quantity(value: &Doc) -> Option<Quantity> {
    match value {
        Doc::String(text) => Quantity::parse(text).ok(),
        Doc::Number(number) => Quantity::parse(number.as_str()).ok(),
        _ => None,
    }
}

fn check_probe(errors: &mut Vec<FieldError>, probe: &Doc, name: &str, path: &str) {
    let handlers = HANDLERS.iter().filter(|handler| probe.get(handler).is_some_and(|value| !value.is_null()));
    match handlers.count() {
        0 => errors.push(FieldError::required(path, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type")),
    }
    for field in PROBE_COUNTS {
        let value = probe.get(field).and_then(Doc::as_i64).unwrap_or(0);
        if value < 0 {
            let detail = "must be greater than or equal to 0";
            let place = format!("{path}.{field}");
            errors.push(FieldError::new(FieldErrorKind::Invalid, place, value.to_string(), detail));
        }
    }
    let successes = probe.get("successThreshold").and_then(Doc::as_i64).unwrap_or(1);
    if name != "readinessProbe" && successes > 1 {
        let place = format!("{path}.successThreshold");
        errors.push(FieldError::new(FieldErrorKind::Invalid, place, successes.to_string(), "must be 1"));
    }
    if probe.at(&["exec", "command"]).is_none_or(|command| command.items().is_empty()) && probe.get("exec").is_some() {
        errors.push(FieldError::required(format!("{path}.exec.command"), ""));
    }
    for handler in ["httpGet", "tcpSocket"] {
        let place = format!("{path}.{handler}.port");
        match probe.at(&[handler, "port"]) {
            Some(Doc::Number(number)) => check_port_number(errors, &place, number.as_i64().unwrap_or(0)),
            Some(Doc::String(port)) => named(errors, &place, port, names::port_name(port)),
            _ => {}
        }
    }
}
