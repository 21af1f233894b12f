//! `discovery.k8s.io` EndpointSlice.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Strategy, check_count, immutable, indexed, list_at, metadata, named};
use crate::{doc::Doc, names, status::FieldError};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

pub(super) struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::count_generation(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let kind = doc.str_at(&["addressType"]);
        if kind.is_empty() {
            errors.push(FieldError::required("addressType", ""));
        } else if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
            errors.push(FieldError::not_supported("addressType", kind, &["FQDN", "IPv4", "IPv6"]));
        }
        let endpoints = list_at(doc, &["endpoints"]);
        check_count(&mut errors, "endpoints", endpoints.len(), MAX_ENDPOINTS);
        for (path, endpoint) in indexed(endpoints, "endpoints").take(MAX_ENDPOINTS) {
            check_addresses(&mut errors, list_at(endpoint, &["addresses"]), &format!("{path}.addresses"), kind);
        }
        check_ports(&mut errors, list_at(doc, &["ports"]));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["addressType"]);
        errors
    }
}

fn check_addresses(errors: &mut Vec<FieldError>, addresses: &[Doc], path: &str, kind: &str) {
    if addresses.is_empty() {
        errors.push(FieldError::required(path, "must contain at least 1 address"));
    }
    check_count(errors, path, addresses.len(), MAX_ADDRESSES);
    for (path, address) in indexed(addresses, path).take(MAX_ADDRESSES) {
        let address = address.as_str().unwrap_or("");
        let parsed: Option<IpAddr> = address.parse().ok();
        match kind {
            "IPv4" if !parsed.is_some_and(|ip| ip.is_ipv4()) => {
                errors.push(FieldError::invalid(&path, address, "must be an IPv4 address"));
            }
            "IPv6" if !parsed.is_some_and(|ip| ip.is_ipv6()) => {
                errors.push(FieldError::invalid(&path, address, "must be an IPv6 address"));
            }
            "FQDN" => named(errors, &path, address, names::dns_subdomain(address.trim_end_matches('.'))),
            _ => {}
        }
        if matches!(kind, "IPv4" | "IPv6") && parsed.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified()) {
            errors.push(FieldError::invalid(path, address, "may not be in the loopback range or unspecified"));
        }
    }
}

fn check_ports(errors: &mut Vec<FieldError>, ports: &[Doc]) {
    check_count(errors, "ports", ports.len(), MAX_PORTS);
    let mut seen = BTreeSet::new();
    for (path, port) in indexed(ports, "ports").take(MAX_PORTS) {
        let name = port.str_at(&["name"]);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        if !name.is_empty() {
            named(errors, &format!("{path}.name"), name, names::dns_label(name));
        }
    }
}
