//! `apps/v1` Deployment and ReplicaSet.

use super::{AGE, NAME, Table, age, int, name, number, pod, text, wide};
use crate::{api::apimachinery::pkg::apis::meta::v1 as meta, doc::Doc, selector::LabelSelector};

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

fn template(doc: &Doc) -> [Doc; 2] {
    pod::containers(doc.at(&["spec", "template", "spec"]).unwrap_or(&Doc::Null))
}

fn selector(doc: &Doc) -> Doc {
    let selector =
        doc.at(&["spec", "selector"]).and_then(|selector| selector.deserialize::<meta::LabelSelector>().ok());
    let parsed = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
    parsed.map_or_else(|| "<none>".into(), |parsed| super::or_none(&parsed.to_string()))
}
