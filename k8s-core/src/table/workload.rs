//! `apps/v1` Deployment, ReplicaSet and ControllerRevision; `v1` ReplicationController and PodTemplate;
//! `policy/v1` PodDisruptionBudget.

use super::{AGE, NAME, Table, age, int, items, name, number, or_none, pairs, pod, text, wide};
use crate::{doc::Doc, selector::LabelSelector};

pub(super) static DEPLOYMENT: Table = Table {
    columns: &[
        NAME,
        text("Ready", "Ready pods of those desired."),
        number("Up-to-date", "Pods that follow the current template."),
        number("Available", "Pods that have been ready long enough."),
        AGE,
        wide("Containers", "Names of the containers in the template."),
        wide("Images", "Images of the containers in the template."),
        wide("Selector", "Which pods belong to it."),
    ],
    cells: |doc, now| {
        let status = |field: &str| int(doc, &["status", field]);
        let [containers, images] = template(doc);
        vec![
            name(doc),
            format!("{}/{}", status("readyReplicas"), int(doc, &["spec", "replicas"])).into(),
            status("updatedReplicas").into(),
            status("availableReplicas").into(),
            age(doc, now),
            containers,
            images,
            selector(doc),
        ]
    },
};

pub(super) static REPLICA_SET: Table = Table {
    columns: &[
        NAME,
        number("Desired", "Pods that should be there."),
        number("Current", "Pods that are there."),
        number("Ready", "Pods that are ready."),
        AGE,
        wide("Containers", "Names of the containers in the template."),
        wide("Images", "Images of the containers in the template."),
        wide("Selector", "Which pods belong to it."),
    ],
    cells: |doc, now| {
        let [containers, images] = template(doc);
        vec![
            name(doc),
            int(doc, &["spec", "replicas"]).into(),
            int(doc, &["status", "replicas"]).into(),
            int(doc, &["status", "readyReplicas"]).into(),
            age(doc, now),
            containers,
            images,
            selector(doc),
        ]
    },
};

pub(super) static CONTROLLER_REVISION: Table = Table {
    columns: &[
        NAME,
        text("Controller", "Whose history it is part of."),
        number("Revision", "Which step of that history it is."),
        AGE,
    ],
    cells: |doc, now| {
        let owners = items(doc, &["metadata", "ownerReferences"]).iter();
        let mut controllers = owners.filter(|owner| owner.get("controller").and_then(Doc::as_bool) == Some(true));
        let controller = controllers.next().map(qualified).unwrap_or_default();
        vec![name(doc), or_none(&controller), int(doc, &["revision"]).into(), age(doc, now)]
    },
};

pub(super) static POD_DISRUPTION_BUDGET: Table = Table {
    columns: &[
        NAME,
        text("Min Available", "How many pods, or which share of them, must stay."),
        text("Max Unavailable", "How many pods, or which share of them, may be missing."),
        number("Allowed Disruptions", "How many pods may be evicted now."),
        AGE,
    ],
    cells: |doc, now| {
        let limit = |field: &str| match doc.at(&["spec", field]) {
            None | Some(Doc::Null) => "N/A".into(),
            Some(Doc::String(share)) => Doc::from(share.as_str()),
            Some(count) => count.to_string().into(),
        };
        let allowed = int(doc, &["status", "disruptionsAllowed"]);
        vec![name(doc), limit("minAvailable"), limit("maxUnavailable"), allowed.into(), age(doc, now)]
    },
};

/// `daemonset.apps/name`.
fn qualified(owner: &Doc) -> String {
    let kind = owner.str_at(&["kind"]).to_lowercase();
    let name = owner.str_at(&["name"]);
    match owner.str_at(&["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

pub(super) static POD_TEMPLATE: Table = Table {
    columns: &[
        NAME,
        text("Containers", "Names of the containers in the template."),
        text("Images", "Images of the containers in the template."),
        text("Pod Labels", "Labels that its pods get."),
    ],
    cells: |doc, _| {
        let [containers, images] = pod::containers(doc.at(&["template", "spec"]).unwrap_or(&Doc::Null));
        vec![name(doc), containers, images, or_none(&pairs(doc.at(&["template", "metadata", "labels"])))]
    },
};

fn template(doc: &Doc) -> [Doc; 2] {
    pod::containers(doc.at(&["spec", "template", "spec"]).unwrap_or(&Doc::Null))
}

pub(super) fn selector(doc: &Doc) -> Doc {
    LabelSelector::of_workload(doc).map_or_else(|| "<none>".into(), |parsed| or_none(&parsed.to_string()))
}
