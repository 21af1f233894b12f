//! Nodes, namespaces, configuration, events, leases, access rules.

use super::{AGE, Column, NAME, Table, age, count, int, items, name, number, or_none, since, text, wide};
use crate::{
    doc::{Doc, Map},
    env::Timestamp,
};

const ROLE_LABEL: &str = "node-role.kubernetes.io/";

pub(super) static NODE: Table = Table {
    columns: &[
        NAME,
        text("Status", "Whether the node is ready and takes pods."),
        text("Roles", "The node's roles."),
        AGE,
        text("Version", "The kubelet's version."),
        wide("Internal-IP", "The address within the cluster."),
        wide("External-IP", "The address from outside."),
        wide("OS-Image", "The operating system."),
        wide("Kernel-Version", "The kernel."),
        wide("Container-Runtime", "What runs containers."),
    ],
    cells: |node, now| {
        let info = |field: &str| node.str_at(&["status", "nodeInfo", field]);
        let unknown = |text: &str| if text.is_empty() { Doc::from("<unknown>") } else { text.into() };
        vec![
            name(node),
            node_status(node).into(),
            or_none(&node_roles(node)),
            age(node, now),
            info("kubeletVersion").into(),
            or_none(node_address(node, "InternalIP")),
            or_none(node_address(node, "ExternalIP")),
            unknown(info("osImage")),
            unknown(info("kernelVersion")),
            unknown(info("containerRuntimeVersion")),
        ]
    },
};

fn node_status(node: &Doc) -> String {
    let mut conditions = items(node, &["status", "conditions"]).iter();
    let ready = conditions.find(|condition| condition.str_at(&["type"]) == "Ready");
    let status = match ready.map(|condition| condition.str_at(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let is_cordoned = node.at(&["spec", "unschedulable"]).and_then(Doc::as_bool) == Some(true);
    if is_cordoned { format!("{status},SchedulingDisabled") } else { status.into() }
}

fn node_roles(node: &Doc) -> String {
    let labels = node.at(&["metadata", "labels"]).and_then(Doc::as_object);
    let role = |(key, value): (&str, &Doc)| match key.strip_prefix(ROLE_LABEL) {
        Some(role) => (!role.is_empty()).then(|| role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()).map(str::to_owned),
        None => None,
    };
    let mut roles: Vec<String> = labels.into_iter().flat_map(Map::iter).filter_map(role).collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn node_address<'a>(node: &'a Doc, kind: &str) -> &'a str {
    let mut addresses = items(node, &["status", "addresses"]).iter();
    addresses.find(|address| address.str_at(&["type"]) == kind).map_or("", |address| address.str_at(&["address"]))
}

pub(super) static NAMESPACE: Table = Table {
    columns: &[NAME, text("Status", "Whether the namespace is in use or going away."), AGE],
    cells: |doc, now| vec![name(doc), doc.str_at(&["status", "phase"]).into(), age(doc, now)],
};

pub(super) static CONFIG_MAP: Table = Table {
    columns: &[NAME, number("Data", "How many keys it holds."), AGE],
    cells: |doc, now| {
        let keys = count(doc, &["data"]) + count(doc, &["binaryData"]);
        vec![name(doc), keys.into(), age(doc, now)]
    },
};

pub(super) static SECRET: Table = Table {
    columns: &[NAME, text("Type", "What it is for."), number("Data", "How many keys it holds."), AGE],
    cells: |doc, now| vec![name(doc), doc.str_at(&["type"]).into(), count(doc, &["data"]).into(), age(doc, now)],
};

pub(super) static SERVICE_ACCOUNT: Table = Table {
    columns: &[NAME, text("Secrets", "How many secrets it may use."), AGE],
    cells: |doc, now| vec![name(doc), count(doc, &["secrets"]).to_string().into(), age(doc, now)],
};

/// Names come with `-o wide` only: nobody chose them.
const EVENT_NAME: Column = Column { priority: 1, ..NAME };

pub(super) static EVENT: Table = Table {
    columns: &[
        text("Last Seen", "When it last happened."),
        text("Type", "Normal or Warning."),
        text("Reason", "One word for programs."),
        text("Object", "What it is about."),
        wide("Subobject", "Which part of it."),
        wide("Source", "Who says so."),
        text("Message", "For people."),
        wide("First Seen", "When it first happened."),
        wide("Count", "How often it happened."),
        EVENT_NAME,
    ],
    cells: event,
};

fn event(event: &Doc, now: Timestamp) -> Vec<Doc> {
    let about = event.get("involvedObject").or_else(|| event.get("regarding")).unwrap_or(&Doc::Null);
    let either = |fields: &[&[&str]]| -> String {
        fields.iter().map(|path| event.str_at(path)).find(|text| !text.is_empty()).unwrap_or("").to_owned()
    };
    let first = either(&[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]);
    let last = either(&[&["series", "lastObservedTime"], &["lastTimestamp"], &["deprecatedLastTimestamp"]]);
    let last = if last.is_empty() { first.clone() } else { last };
    let counts = [&["series", "count"][..], &["count"], &["deprecatedCount"]];
    let count = counts.iter().map(|path| int(event, path)).find(|count| *count > 0).unwrap_or(1);
    let component = either(&[
        &["source", "component"],
        &["deprecatedSource", "component"],
        &["reportingComponent"],
        &["reportingController"],
    ]);
    let host = either(&[&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]]);
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        since(&last, now).into(),
        event.str_at(&["type"]).into(),
        event.str_at(&["reason"]).into(),
        event_target(about).into(),
        about.str_at(&["fieldPath"]).into(),
        source.into(),
        either(&[&["message"], &["note"]]).trim().into(),
        since(&first, now).into(),
        count.to_string().into(),
        name(event),
    ]
}

/// `pod/name`, or the kind alone.
fn event_target(about: &Doc) -> String {
    let kind = about.str_at(&["kind"]).to_lowercase();
    match about.str_at(&["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

pub(super) static LEASE: Table = Table {
    columns: &[NAME, text("Holder", "Who holds the lease."), AGE],
    cells: |doc, now| vec![name(doc), doc.str_at(&["spec", "holderIdentity"]).into(), age(doc, now)],
};

/// Roles show when they were made, not how old they are.
pub(super) static ROLE: Table = Table {
    columns: &[NAME, Column { kind: "date", ..text("Created At", "When the role was created.") }],
    cells: |doc, _| vec![name(doc), doc.str_at(&["metadata", "creationTimestamp"]).into()],
};

pub(super) static BINDING: Table = Table {
    columns: &[
        NAME,
        text("Role", "The role that is granted."),
        AGE,
        wide("Users", "Users that have it."),
        wide("Groups", "Groups that have it."),
        wide("ServiceAccounts", "Service accounts that have it."),
    ],
    cells: |doc, now| {
        let role = format!("{}/{}", doc.str_at(&["roleRef", "kind"]), doc.str_at(&["roleRef", "name"]));
        let of = |kind: &str| subjects(doc, kind).into();
        vec![name(doc), role.into(), age(doc, now), of("User"), of("Group"), of("ServiceAccount")]
    },
};

fn subjects(doc: &Doc, kind: &str) -> String {
    let of_kind = items(doc, &["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == kind);
    let shown = of_kind.map(|subject| match (kind, subject.str_at(&["namespace"])) {
        ("ServiceAccount", namespace) => format!("{namespace}/{}", subject.str_at(&["name"])),
        _ => subject.str_at(&["name"]).to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

pub(super) static PRIORITY_CLASS: Table = Table {
    columns: &[
        NAME,
        number("Value", "The priority of pods of this class."),
        text("Global-Default", "Whether pods without a class get this one."),
        AGE,
        text("PreemptionPolicy", "Whether its pods may push others out."),
    ],
    cells: |doc, now| {
        let is_default = doc.get("globalDefault").and_then(Doc::as_bool) == Some(true);
        let policy = doc.str_at(&["preemptionPolicy"]);
        let value = int(doc, &["value"]);
        vec![name(doc), value.into(), is_default.to_string().into(), age(doc, now), policy.into()]
    },
};
