//! `v1` Endpoints.

use super::{Strategy, indexed, list_at, metadata, named, pod_network, service::check_port_number};
use crate::{doc::Doc, names, status::FieldError};

pub(super) struct Endpoints;

impl Strategy for Endpoints {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        for (path, subset) in indexed(list_at(doc, &["subsets"]), "subsets") {
            check_subset(&mut errors, subset, &path);
        }
        errors
    }
}

fn check_subset(errors: &mut Vec<FieldError>, subset: &Doc, path: &str) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| list_at(subset, &[list]).is_empty()) {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for list in lists {
        for (path, address) in indexed(list_at(subset, &[list]), &format!("{path}.{list}")) {
            pod_network::check_reachable(errors, &format!("{path}.ip"), address.str_at(&["ip"]));
        }
    }
    let ports = list_at(subset, &["ports"]);
    for (path, port) in indexed(ports, &format!("{path}.ports")) {
        match port.str_at(&["name"]) {
            "" if ports.len() > 1 => errors.push(FieldError::required(format!("{path}.name"), "")),
            "" => {}
            name => named(errors, &format!("{path}.name"), name, names::dns_label(name)),
        }
        let number = port.get("port").and_then(Doc::as_i64).unwrap_or(0);
        check_port_number(errors, &format!("{path}.port"), number);
    }
}
