//! `networking.k8s.io`: ingresses, policies, addresses and ranges of Services.

use super::{AGE, NAME, Table, age, items, name, or_none, text};
use crate::{api::apimachinery::pkg::apis::meta::v1 as meta, doc::Doc, selector::LabelSelector};

/// How many hosts are listed before the rest are only counted.
const SHOWN: usize = 3;

pub(super) static INGRESS: Table = Table {
    columns: &[
        NAME,
        text("Class", "The class whose controller acts on it."),
        text("Hosts", "Hosts that it answers for."),
        text("Address", "Where it is reached."),
        text("Ports", "Ports that it listens on."),
        AGE,
    ],
    cells: |doc, now| {
        let annotated = doc.str_at(&["metadata", "annotations", "kubernetes.io/ingress.class"]);
        let class = match doc.str_at(&["spec", "ingressClassName"]) {
            "" => annotated,
            class => class,
        };
        let ports = if items(doc, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
        vec![
            name(doc),
            or_none(class),
            hosts(items(doc, &["spec", "rules"])).into(),
            addresses(items(doc, &["status", "loadBalancer", "ingress"])).into(),
            ports.into(),
            age(doc, now),
        ]
    },
};

fn hosts(rules: &[Doc]) -> String {
    let named: Vec<&str> = rules.iter().map(|rule| rule.str_at(&["host"])).filter(|host| !host.is_empty()).collect();
    match named.len() {
        0 => "*".into(),
        1..=SHOWN => named.join(","),
        all => format!("{} + {} more...", named[..SHOWN].join(","), all - SHOWN),
    }
}

fn addresses(points: &[Doc]) -> String {
    let address = |point: &Doc| match point.str_at(&["ip"]) {
        "" => point.str_at(&["hostname"]).to_owned(),
        ip => ip.to_owned(),
    };
    points.iter().map(address).collect::<Vec<_>>().join(",")
}

pub(super) static INGRESS_CLASS: Table = Table {
    columns: &[
        NAME,
        text("Controller", "What acts on ingresses of this class."),
        text("Parameters", "What that is told."),
        AGE,
    ],
    cells: |doc, now| {
        let parameter = |field: &str| doc.str_at(&["spec", "parameters", field]);
        let kind = match parameter("apiGroup") {
            "" => parameter("kind").to_owned(),
            group => format!("{}.{group}", parameter("kind")),
        };
        let shown = if kind.is_empty() { String::new() } else { format!("{kind}/{}", parameter("name")) };
        vec![name(doc), doc.str_at(&["spec", "controller"]).into(), or_none(&shown), age(doc, now)]
    },
};

pub(super) static NETWORK_POLICY: Table = Table {
    columns: &[NAME, text("Pod-Selector", "Which pods it is about."), AGE],
    cells: |doc, now| {
        let selector = doc.at(&["spec", "podSelector"]).and_then(|it| it.deserialize::<meta::LabelSelector>().ok());
        let selector = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
        let shown = selector.map_or_else(String::new, |selector| selector.to_string());
        vec![name(doc), or_none(&shown), age(doc, now)]
    },
};

pub(super) static IP_ADDRESS: Table = Table {
    columns: &[NAME, text("ParentRef", "What has the address.")],
    cells: |doc, _| {
        let parent = |field: &str| doc.str_at(&["spec", "parentRef", field]);
        let parts = [parent("group"), parent("resource"), parent("namespace"), parent("name")];
        let shown = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        vec![name(doc), shown.into()]
    },
};

pub(super) static SERVICE_CIDR: Table = Table {
    columns: &[NAME, text("CIDRs", "Ranges that Services get addresses from."), AGE],
    cells: |doc, now| {
        let ranges = items(doc, &["spec", "cidrs"]).iter().filter_map(Doc::as_str).collect::<Vec<_>>().join(",");
        vec![name(doc), ranges.into(), age(doc, now)]
    },
};
