//! What governs the cluster: quotas, certificates, flow control, devices, runtime classes, components.

use super::{
    AGE, NAME, Table, age, human_duration, int, items, joined, name, number, or_none, storage::used_of_hard, text,
};
use crate::doc::Doc;

pub(super) static QUOTA: Table = Table {
    columns: &[
        NAME,
        text("Request", "What is used of what may be asked for."),
        text("Limit", "What is used of what limits may add up to."),
        AGE,
    ],
    cells: |doc, now| {
        let (used, hard) = (doc.at(&["status", "used"]), doc.at(&["status", "hard"]));
        let limits = |name: &str| name.starts_with("limits");
        vec![
            name(doc),
            used_of_hard(used, hard, |name| !limits(name)).into(),
            used_of_hard(used, hard, limits).into(),
            age(doc, now),
        ]
    },
};

pub(super) static SIGNING_REQUEST: Table = Table {
    columns: &[
        NAME,
        AGE,
        text("SignerName", "Who shall sign."),
        text("Requestor", "Who asks."),
        text("RequestedDuration", "For how long."),
        text("Condition", "What came of it."),
    ],
    cells: |doc, now| {
        let seconds = doc.at(&["spec", "expirationSeconds"]).and_then(Doc::as_i64);
        vec![
            name(doc),
            age(doc, now),
            or_none(doc.str_at(&["spec", "signerName"])),
            doc.str_at(&["spec", "username"]).into(),
            seconds.map_or_else(|| "<none>".into(), |seconds| human_duration(seconds).into()),
            verdict(doc).into(),
        ]
    },
};

fn verdict(request: &Doc) -> String {
    let conditions = items(request, &["status", "conditions"]);
    let has = |kind: &str| conditions.iter().any(|condition| condition.str_at(&["type"]) == kind);
    let mut words = Vec::new();
    match () {
        () if has("Denied") => words.push("Denied"),
        () if has("Approved") => words.push("Approved"),
        () => words.push("Pending"),
    }
    if has("Failed") {
        words.push("Failed");
    }
    if !request.str_at(&["status", "certificate"]).is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

pub(super) static TRUST_BUNDLE: Table = Table {
    columns: &[NAME, text("SignerName", "Whose certificates it is about.")],
    cells: |doc, _| vec![name(doc), or_none(doc.str_at(&["spec", "signerName"]))],
};

pub(super) static POD_CERTIFICATE: Table = Table {
    columns: &[
        NAME,
        text("PodName", "The pod that gets the certificate."),
        text("ServiceAccountName", "As whom the pod runs."),
        text("NodeName", "Where it runs."),
        text("SignerName", "Who shall sign."),
        text("State", "What came of it."),
    ],
    cells: |doc, _| {
        let spec = |field: &str| Doc::from(doc.str_at(&["spec", field]));
        let known = |condition: &&Doc| matches!(condition.str_at(&["type"]), "Issued" | "Denied" | "Failed");
        let state = items(doc, &["status", "conditions"]).iter().find(known);
        let state = state.map_or("Pending", |condition| condition.str_at(&["type"]));
        vec![name(doc), spec("podName"), spec("serviceAccountName"), spec("nodeName"), spec("signerName"), state.into()]
    },
};

pub(super) static FLOW_SCHEMA: Table = Table {
    columns: &[
        NAME,
        text("PriorityLevel", "Where its requests queue."),
        number("MatchingPrecedence", "The lowest number that matches is taken."),
        text("DistinguisherMethod", "What makes a flow."),
        AGE,
        text("MissingPL", "Whether that priority level is not there."),
    ],
    cells: |doc, now| {
        let dangling = items(doc, &["status", "conditions"]).iter().find(|it| it.str_at(&["type"]) == "Dangling");
        let method = doc.str_at(&["spec", "distinguisherMethod", "type"]);
        vec![
            name(doc),
            doc.str_at(&["spec", "priorityLevelConfiguration", "name"]).into(),
            int(doc, &["spec", "matchingPrecedence"]).into(),
            or_none(method),
            age(doc, now),
            dangling.map_or("?", |condition| condition.str_at(&["status"])).into(),
        ]
    },
};

pub(super) static PRIORITY_LEVEL: Table = Table {
    columns: &[
        NAME,
        text("Type", "Whether its requests are limited."),
        text("NominalConcurrencyShares", "Its share of the server's seats."),
        text("Queues", "How many queues it has."),
        text("HandSize", "How many of them a flow may use."),
        text("QueueLengthLimit", "How many requests wait in one."),
        AGE,
    ],
    cells: |doc, now| {
        let limited = |path: &[&str]| {
            let found = doc.at(&["spec", "limited"]).and_then(|limited| limited.at(path)).and_then(Doc::as_i64);
            found.map_or_else(|| Doc::from("<none>"), Doc::from)
        };
        let queuing = |field: &str| limited(&["limitResponse", "queuing", field]);
        let shares = match doc.at(&["spec", "exempt", "nominalConcurrencyShares"]).and_then(Doc::as_i64) {
            Some(shares) => shares.into(),
            None => limited(&["nominalConcurrencyShares"]),
        };
        vec![
            name(doc),
            doc.str_at(&["spec", "type"]).into(),
            shares,
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age(doc, now),
        ]
    },
};

pub(super) static RUNTIME_CLASS: Table = Table {
    columns: &[NAME, text("Handler", "What the node calls the runtime."), AGE],
    cells: |doc, now| vec![name(doc), doc.str_at(&["handler"]).into(), age(doc, now)],
};

pub(super) static RESOURCE_SLICE: Table = Table {
    columns: &[
        NAME,
        text("Node", "The node that has the devices."),
        text("Driver", "The driver that offers them."),
        text("Pool", "The pool that they belong to."),
        AGE,
    ],
    cells: |doc, now| {
        let spec = |path: &[&str]| doc.get("spec").map_or("", |spec| spec.str_at(path));
        let node = spec(&["nodeName"]);
        let node = if node.is_empty() { "<unset>" } else { node };
        vec![name(doc), node.into(), spec(&["driver"]).into(), spec(&["pool", "name"]).into(), age(doc, now)]
    },
};

pub(super) static RESOURCE_CLAIM: Table = Table {
    columns: &[NAME, text("State", "Whether it has devices, and who uses them."), AGE],
    cells: |doc, now| {
        let mut states = Vec::new();
        if !doc.str_at(&["metadata", "deletionTimestamp"]).is_empty() {
            states.push("deleted");
        }
        match doc.at(&["status", "allocation"]).filter(|allocation| !allocation.is_null()) {
            None if states.is_empty() => states.push("pending"),
            None => {}
            Some(_) => {
                states.push("allocated");
                if !items(doc, &["status", "reservedFor"]).is_empty() {
                    states.push("reserved");
                }
            }
        }
        vec![name(doc), states.join(",").into(), age(doc, now)]
    },
};

/// `v1` ComponentStatus.
pub(super) static COMPONENT_STATUS: Table = Table {
    columns: &[
        NAME,
        text("Status", "Whether the component is well."),
        text("Message", "What it says."),
        text("Error", "What is wrong."),
    ],
    cells: |doc, _| {
        let conditions = items(doc, &["conditions"]);
        let healthy = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Healthy");
        let status = match healthy.map(|condition| condition.str_at(&["status"])) {
            Some("True") => "Healthy",
            Some("False") => "Unhealthy",
            _ => "Unknown",
        };
        let said = healthy.map(std::slice::from_ref).unwrap_or_default();
        vec![name(doc), status.into(), joined(said, "message").into(), joined(said, "error").into()]
    },
};
