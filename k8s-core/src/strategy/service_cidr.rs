//! `networking.k8s.io` ServiceCIDR and IPAddress: from where Services get their addresses, and which are taken.

use std::net::IpAddr;

use super::{Strategy, broken, indexed, list_at, metadata, named, pod_network::Cidr};
use crate::{doc::Doc, names, status::FieldError};

pub(super) struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_cidrs(&mut errors, doc);
        errors
    }

    /// A range of the other family may be added, once.
    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        const CIDRS: [&str; 2] = ["spec", "cidrs"];
        let (before, after) = (list_at(old, &CIDRS), list_at(new, &CIDRS));
        if before == after {
            return errors;
        }
        let shown = new.at(&CIDRS).unwrap_or(&Doc::Null);
        match (before, after) {
            ([former], [same, _]) if former == same => check_cidrs(&mut errors, new),
            ([former], [other, ..]) if former != other => {
                let path = "spec.cidrs[0]";
                errors.push(broken(path, other, "field is immutable"));
            }
            _ => errors.push(broken("spec.cidrs", shown, "field is immutable")),
        }
        errors
    }
}

fn check_cidrs(errors: &mut Vec<FieldError>, doc: &Doc) {
    let cidrs = list_at(doc, &["spec", "cidrs"]);
    if cidrs.len() > 2 {
        let shown = doc.at(&["spec", "cidrs"]).unwrap_or(&Doc::Null);
        errors.push(broken("spec.cidrs", shown, "may only hold up to 2 values"));
        return;
    }
    let mut families = Vec::new();
    for (path, cidr) in indexed(cidrs, "spec.cidrs") {
        let text = cidr.as_str().unwrap_or("");
        match Cidr::parse(text) {
            None => {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(FieldError::invalid(path, text, detail));
            }
            Some(parsed) if parsed.to_string() != text => {
                let detail = format!("must be in canonical form ({:?})", parsed.to_string());
                errors.push(FieldError::invalid(path, text, detail));
            }
            Some(parsed) => families.push(parsed.is_ipv4()),
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        let shown = doc.at(&["spec", "cidrs"]).unwrap_or(&Doc::Null);
        errors.push(broken(
            "spec.cidrs",
            shown,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
}

pub(super) struct IpAddress;

impl Strategy for IpAddress {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::PathSegment);
        let name = doc.str_at(&["metadata", "name"]);
        let is_canonical = name.parse::<IpAddr>().is_ok_and(|address| address.to_string() == name);
        if !name.is_empty() && !is_canonical {
            errors.push(FieldError::invalid("metadata.name", name, "must be a canonical format IP address"));
        }
        let Some(parent) = doc.at(&["spec", "parentRef"]).filter(|parent| !parent.is_null()) else { return errors };
        const PATH: &str = "spec.parentRef";
        for field in ["group", "resource", "name", "namespace"] {
            let text = parent.str_at(&[field]);
            if !text.is_empty() {
                let problems = if field == "group" { names::dns_subdomain(text) } else { names::path_segment(text) };
                named(&mut errors, &format!("{PATH}.{field}"), text, problems);
            }
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        errors
    }
}
