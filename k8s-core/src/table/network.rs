//! Services and what stands behind them.

use super::{AGE, NAME, Table, age, int, items, name, or_none, pairs, text, wide};
use crate::doc::Doc;

/// How many endpoints are listed before the rest are only counted.
const SHOWN: usize = 3;

pub(super) static SERVICE: Table = Table {
    columns: &[
        NAME,
        text("Type", "How the service is reached."),
        text("Cluster-IP", "The address within the cluster."),
        text("External-IP", "The address from outside."),
        text("Port(s)", "Ports, node ports and protocols."),
        AGE,
        wide("Selector", "Which pods serve."),
    ],
    cells: |doc, now| {
        vec![
            name(doc),
            or_none(doc.str_at(&["spec", "type"])),
            or_none(doc.str_at(&["spec", "clusterIP"])),
            external(doc).into(),
            or_none(&service_ports(doc)),
            age(doc, now),
            or_none(&pairs(doc.at(&["spec", "selector"]))),
        ]
    },
};

pub(super) static ENDPOINTS: Table = Table {
    columns: &[NAME, text("Endpoints", "Addresses and ports that serve."), AGE],
    cells: |doc, now| {
        let subsets = items(doc, &["subsets"]).iter();
        let found: Vec<String> = subsets.flat_map(subset).collect();
        vec![name(doc), or_none(&shortened(&found)), age(doc, now)]
    },
};

pub(super) static ENDPOINT_SLICE: Table = Table {
    columns: &[
        NAME,
        text("AddressType", "The kind of the addresses."),
        text("Ports", "Ports that serve."),
        text("Endpoints", "Addresses that serve."),
        AGE,
    ],
    cells: |doc, now| {
        let ports: Vec<String> = items(doc, &["ports"]).iter().map(slice_port).collect();
        let endpoints = items(doc, &["endpoints"]).iter().flat_map(|endpoint| items(endpoint, &["addresses"]));
        let addresses: Vec<String> = endpoints.filter_map(Doc::as_str).map(str::to_owned).collect();
        let unset = |text: String| if text.is_empty() { "<unset>".into() } else { Doc::from(text) };
        vec![
            name(doc),
            doc.str_at(&["addressType"]).into(),
            unset(shortened(&ports)),
            unset(shortened(&addresses)),
            age(doc, now),
        ]
    },
};

fn external(doc: &Doc) -> String {
    let addresses = |list: &[Doc]| list.iter().filter_map(Doc::as_str).collect::<Vec<_>>().join(",");
    let given = addresses(items(doc, &["spec", "externalIPs"]));
    match doc.str_at(&["spec", "type"]) {
        "ExternalName" => doc.str_at(&["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let ingress = items(doc, &["status", "loadBalancer", "ingress"]).iter();
            let mut found: Vec<&str> = ingress
                .map(|point| match point.str_at(&["ip"]) {
                    "" => point.str_at(&["hostname"]),
                    ip => ip,
                })
                .collect();
            found.extend(Some(given.as_str()).filter(|given| !given.is_empty()));
            if found.is_empty() { "<pending>".into() } else { found.join(",") }
        }
        _ if given.is_empty() => "<none>".into(),
        _ => given,
    }
}

fn service_ports(doc: &Doc) -> String {
    let one = |port: &Doc| {
        let (number, node_port) = (int(port, &["port"]), int(port, &["nodePort"]));
        let protocol = port.str_at(&["protocol"]);
        if node_port > 0 { format!("{number}:{node_port}/{protocol}") } else { format!("{number}/{protocol}") }
    };
    items(doc, &["spec", "ports"]).iter().map(one).collect::<Vec<_>>().join(",")
}

/// Every address at the first port, then at the next; addresses alone where there are no ports.
fn subset(subset: &Doc) -> Vec<String> {
    let ports = items(subset, &["ports"]);
    let addresses = items(subset, &["addresses"]).iter().map(|address| address.str_at(&["ip"]));
    if ports.is_empty() {
        return addresses.map(str::to_owned).collect();
    }
    let at = |port: &Doc| {
        let port = int(port, &["port"]);
        let place = move |ip: &str| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        addresses.clone().map(place)
    };
    ports.iter().flat_map(at).collect()
}

fn slice_port(port: &Doc) -> String {
    match port.get("port").and_then(Doc::as_i64) {
        Some(number) => number.to_string(),
        None => "*".into(),
    }
}

fn shortened(found: &[String]) -> String {
    let shown = found.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    if found.len() > SHOWN { format!("{shown} + {} more...", found.len() - SHOWN) } else { shown }
}
