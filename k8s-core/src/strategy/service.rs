//! `v1` Service.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Strategy, drop_status, indexed, keep_status, list_at, metadata, named, pod_network};
use crate::{
    doc,
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

pub(super) struct Service;

impl Strategy for Service {
    fn prepare_create(&self, doc: &mut Doc) {
        drop_status(doc);
        doc.set_at(&["status"], doc!({"loadBalancer": {}}));
    }

    /// A client that leaves the address out does not mean to change it.
    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        drop_outgrown(new, old);
        let both = |kind: &str| kind_of(old) != kind && kind_of(new) != kind;
        if both("ExternalName") && new.str_at(&["spec", "clusterIP"]).is_empty() {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old.at(&["spec", field]) {
                    new.set_at(&["spec", field], value.clone());
                }
            }
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Label1035);
        let (kind, ports) = (kind_of(doc), list_at(doc, &["spec", "ports"]));
        let is_headless = doc.str_at(&["spec", "clusterIP"]) == "None";
        match kind {
            "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            "ExternalName" => check_external_name(&mut errors, doc),
            other => {
                let supported = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
                errors.push(FieldError::not_supported("spec.type", other, supported));
            }
        }
        if ports.is_empty() && !is_headless && kind != "ExternalName" {
            errors.push(FieldError::required("spec.ports", ""));
        }
        if is_headless && matches!(kind, "NodePort" | "LoadBalancer") {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", detail));
        }
        check_address(&mut errors, doc);
        check_ports(&mut errors, ports, kind);
        check_outside(&mut errors, doc, kind);
        metadata::check_labels(&mut errors, doc.at(&["spec", "selector"]), "spec.selector");
        let affinity = doc.str_at(&["spec", "sessionAffinity"]);
        if !matches!(affinity, "" | "None" | "ClientIP") {
            errors.push(FieldError::not_supported("spec.sessionAffinity", affinity, &["ClientIP", "None"]));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        let (ours, theirs) = (new.str_at(&["spec", "clusterIP"]), old.str_at(&["spec", "clusterIP"]));
        let has_address = kind_of(old) != "ExternalName" && kind_of(new) != "ExternalName" && !theirs.is_empty();
        if has_address && ours != theirs {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", ours, "may not change once set"));
        }
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        check_ingress(&mut errors, new, old);
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.clusterIP" | "spec.type" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

/// What is of no use any more after a change of type goes with it, unless the client gave it anew.
fn drop_outgrown(new: &mut Doc, old: &Doc) {
    let outgrown = |needs: fn(&Doc) -> bool, new: &Doc| needs(old) && !needs(new);
    for (needs, fields) in OUTGROWN {
        if outgrown(*needs, new) {
            for field in fields.iter() {
                if new.at(&["spec", field]) == old.at(&["spec", field]) {
                    new.remove_at(&["spec", field]);
                }
            }
        }
    }
    let node_ports = |doc: &Doc| -> BTreeSet<i64> {
        list_at(doc, &["spec", "ports"]).iter().filter_map(|port| port.get("nodePort")?.as_i64()).collect()
    };
    if outgrown(has_node_ports, new) && node_ports(new) == node_ports(old) {
        let ports = new.at_mut(&["spec", "ports"]).map_or(&mut [][..], Doc::items_mut);
        ports.iter_mut().for_each(|port| drop(port.remove_at(&["nodePort"])));
    }
}

/// Fields, and the services that have a use for them.
type Use = (fn(&Doc) -> bool, &'static [&'static str]);

const OUTGROWN: &[Use] = &[
    (
        |doc| kind_of(doc) != "ExternalName",
        &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"],
    ),
    (is_outside, &["externalTrafficPolicy"]),
    (is_balanced, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]),
    (|doc| is_balanced(doc) && doc.str_at(&["spec", "externalTrafficPolicy"]) == "Local", &["healthCheckNodePort"]),
];

fn has_node_ports(doc: &Doc) -> bool {
    matches!(kind_of(doc), "NodePort" | "LoadBalancer")
}

fn is_balanced(doc: &Doc) -> bool {
    kind_of(doc) == "LoadBalancer"
}

/// Whether it can be reached from outside the cluster.
fn is_outside(doc: &Doc) -> bool {
    has_node_ports(doc) || (kind_of(doc) == "ClusterIP" && !list_at(doc, &["spec", "externalIPs"]).is_empty())
}

/// What only services that are reached from outside may say.
fn check_outside(errors: &mut Vec<FieldError>, doc: &Doc, kind: &str) {
    for (path, address) in indexed(list_at(doc, &["spec", "externalIPs"]), "spec.externalIPs") {
        pod_network::check_reachable(errors, &path, address.as_str().unwrap_or(""));
    }
    let policy = doc.str_at(&["spec", "externalTrafficPolicy"]);
    if !policy.is_empty() && !is_outside(doc) {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, detail));
    }
    let ranges = list_at(doc, &["spec", "loadBalancerSourceRanges"]);
    if !ranges.is_empty() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", detail));
    }
    for (path, range) in indexed(ranges, "spec.LoadBalancerSourceRanges") {
        pod_network::check_cidr(errors, &path, range.as_str().unwrap_or("").trim());
    }
}

fn kind_of(doc: &Doc) -> &str {
    match doc.str_at(&["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn check_external_name(errors: &mut Vec<FieldError>, doc: &Doc) {
    let name = doc.str_at(&["spec", "externalName"]).trim_end_matches('.');
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        named(errors, "spec.externalName", name, names::dns_subdomain(name));
    }
    if !doc.str_at(&["spec", "clusterIP"]).is_empty() {
        errors.push(FieldError::forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
    }
}

/// Where a load balancer answers. Only one of the type has such addresses; what another still has may stay.
fn check_ingress(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    const PATH: &str = "status.loadBalancer.ingress";
    let ingress = |doc| list_at(doc, &["status", "loadBalancer", "ingress"]);
    let entries = ingress(new);
    if kind_of(new) != "LoadBalancer" && !entries.is_empty() && entries != ingress(old) {
        errors.push(FieldError::forbidden(PATH, "may only be used when `spec.type` is \"LoadBalancer\""));
    }
    for (path, entry) in indexed(entries, PATH) {
        let (ip, hostname) = (entry.str_at(&["ip"]), entry.str_at(&["hostname"]));
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            errors.push(FieldError::invalid(format!("{path}.ip"), ip, "must be a valid IP address"));
        }
        match entry.str_at(&["ipMode"]) {
            "" if !ip.is_empty() => {
                errors.push(FieldError::required(format!("{path}.ipMode"), "must be specified when `ip` is set"))
            }
            "" => {}
            _ if ip.is_empty() => {
                errors
                    .push(FieldError::forbidden(format!("{path}.ipMode"), "may not be specified when `ip` is not set"));
            }
            "VIP" | "Proxy" => {}
            other => errors.push(FieldError::not_supported(format!("{path}.ipMode"), other, &["Proxy", "VIP"])),
        }
        if hostname.is_empty() {
            continue;
        }
        let path = format!("{path}.hostname");
        if hostname.parse::<IpAddr>().is_ok() {
            errors.push(FieldError::invalid(&path, hostname, "must be a DNS name, not an IP address"));
        }
        errors.extend(names::dns_subdomain(hostname).into_iter().map(|why| FieldError::invalid(&path, hostname, why)));
    }
}

fn check_address(errors: &mut Vec<FieldError>, doc: &Doc) {
    let address = doc.str_at(&["spec", "clusterIP"]);
    if !matches!(address, "" | "None") && address.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", address, "must be a valid IP address"));
    }
}

fn check_ports(errors: &mut Vec<FieldError>, ports: &[Doc], kind: &str) {
    let (mut seen_names, mut seen_ports) = (BTreeSet::new(), BTreeSet::new());
    for (path, port) in indexed(ports, "spec.ports") {
        let (name, number) = (port.str_at(&["name"]), port.get("port").and_then(Doc::as_i64).unwrap_or(0));
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            named(errors, &format!("{path}.name"), name, names::dns_label(name));
            if !seen_names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
        check_port_number(errors, &format!("{path}.port"), number);
        let protocol = protocol_of(port);
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
        check_target(errors, port.get("targetPort"), &format!("{path}.targetPort"));
        check_node_port(errors, port, kind, &path);
        if !seen_ports.insert((protocol, number)) {
            let value = format!("{{\"port\":{number},\"protocol\":\"{protocol}\"}}");
            errors.push(FieldError::new(FieldErrorKind::Duplicate, path, value, ""));
        }
    }
}

fn protocol_of(port: &Doc) -> &str {
    match port.str_at(&["protocol"]) {
        "" => "TCP",
        protocol => protocol,
    }
}

fn check_node_port(errors: &mut Vec<FieldError>, port: &Doc, kind: &str, path: &str) {
    let number = port.get("nodePort").and_then(Doc::as_i64).unwrap_or(0);
    if number == 0 {
        return;
    }
    if matches!(kind, "NodePort" | "LoadBalancer") {
        check_port_number(errors, &format!("{path}.nodePort"), number);
    } else {
        let detail = format!("may not be used when `type` is '{kind}'");
        errors.push(FieldError::forbidden(format!("{path}.nodePort"), detail));
    }
}

fn check_target(errors: &mut Vec<FieldError>, target: Option<&Doc>, path: &str) {
    match target {
        Some(Doc::Number(number)) => check_port_number(errors, path, number.as_i64().unwrap_or(0)),
        Some(Doc::String(name)) => named(errors, path, name, names::port_name(name)),
        _ => {}
    }
}

/// 1 to 65535.
pub(super) fn check_port_number(errors: &mut Vec<FieldError>, path: &str, number: i64) {
    if !(1..=65_535).contains(&number) {
        let detail = "must be between 1 and 65535, inclusive";
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, number.to_string(), detail));
    }
}
