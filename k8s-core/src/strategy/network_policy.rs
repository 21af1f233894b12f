//! `networking.k8s.io` NetworkPolicy.

use super::{Strategy, broken, indexed, integer, is_set, list_at, metadata, named, pod_network, selects};
use crate::{doc::Doc, names, status::FieldError};

pub(super) struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        selects::check(&mut errors, spec.get("podSelector"), "spec.podSelector");
        for (way, peers) in [("ingress", "from"), ("egress", "to")] {
            for (path, rule) in indexed(list_at(spec, &[way]), &format!("spec.{way}")) {
                for (path, port) in indexed(list_at(rule, &["ports"]), &format!("{path}.ports")) {
                    check_port(&mut errors, port, &path);
                }
                for (path, peer) in indexed(list_at(rule, &[peers]), &format!("{path}.{peers}")) {
                    check_peer(&mut errors, peer, &path);
                }
            }
        }
        let types = list_at(spec, &["policyTypes"]);
        if types.len() > 2 {
            let shown = spec.get("policyTypes").unwrap_or(&Doc::Null);
            errors.push(broken("spec.policyTypes", shown, "may not specify more than two policyTypes"));
        } else {
            for (path, kind) in indexed(types, "spec.policyTypes") {
                let kind = kind.as_str().unwrap_or("");
                if !matches!(kind, "Ingress" | "Egress") {
                    errors.push(FieldError::not_supported(path, kind, &["Egress", "Ingress"]));
                }
            }
        }
        errors
    }
}

fn check_port(errors: &mut Vec<FieldError>, port: &Doc, path: &str) {
    let (place, end_place) = (format!("{path}.port"), format!("{path}.endPort"));
    let end = integer(port, "endPort");
    match port.get("port").filter(|port| !port.is_null()) {
        Some(Doc::String(name)) => {
            named(errors, &place, name, names::port_name(name));
            if let Some(end) = end {
                errors.push(broken(end_place, &end.into(), "may not be specified when `port` is non-numeric"));
            }
        }
        Some(number) => {
            let first = number.as_i64().unwrap_or(0);
            let range = "must be between 1 and 65535, inclusive";
            if !(1..=65_535).contains(&first) {
                errors.push(broken(place, number, range));
            }
            match end {
                Some(end) if !(1..=65_535).contains(&end) => errors.push(broken(end_place, &end.into(), range)),
                Some(end) if end < first => {
                    errors.push(broken(end_place, &end.into(), "must be greater than or equal to `port`"));
                }
                _ => {}
            }
        }
        None => {
            if let Some(end) = end {
                errors.push(broken(end_place, &end.into(), "may not be specified when `port` is not specified"));
            }
        }
    }
}

fn check_peer(errors: &mut Vec<FieldError>, peer: &Doc, path: &str) {
    for selector in ["podSelector", "namespaceSelector"] {
        selects::check(errors, peer.get(selector), &format!("{path}.{selector}"));
    }
    let selects_pods = is_set(peer, "podSelector") || is_set(peer, "namespaceSelector");
    match peer.get("ipBlock").filter(|block| !block.is_null()) {
        None if !selects_pods => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
        Some(_) if selects_pods => {
            let detail = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(path, detail));
        }
        Some(block) => check_block(errors, block, &format!("{path}.ipBlock")),
    }
}

fn check_block(errors: &mut Vec<FieldError>, block: &Doc, path: &str) {
    let cidr = block.str_at(&["cidr"]);
    if cidr.is_empty() {
        return;
    }
    pod_network::check_cidr(errors, &format!("{path}.cidr"), cidr);
    let outer = pod_network::Cidr::parse(cidr);
    for (path, inner) in indexed(list_at(block, &["except"]), &format!("{path}.except")) {
        let inner = inner.as_str().unwrap_or("");
        pod_network::check_cidr(errors, &path, inner);
        let parsed = pod_network::Cidr::parse(inner);
        if outer.zip(parsed).is_some_and(|(outer, inner)| !outer.strictly_contains(inner)) {
            errors.push(FieldError::invalid(path, inner, "must be a strict subset of `cidr`"));
        }
    }
}
