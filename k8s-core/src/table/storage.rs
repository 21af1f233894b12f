//! Volumes, claims, storage classes and drivers.

use super::{AGE, Column, NAME, Table, age, items, name, number, text, wide};
use crate::doc::{Doc, Map};

const VOLUME_MODE: Column = wide("VolumeMode", "Whether it is a file system or a block device.");

/// Access modes in short: `RWO,ROX`.
fn modes(modes: &[Doc]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &&(&str, &str)| modes.iter().any(|found| found.as_str() == Some(mode.0));
    SHORT.iter().filter(has).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn amount(doc: &Doc, path: &[&str]) -> Doc {
    doc.at(path).and_then(Doc::as_str).unwrap_or("").into()
}

/// The phase, but for what is going away.
fn phase(doc: &Doc) -> Doc {
    if doc.str_at(&["metadata", "deletionTimestamp"]).is_empty() {
        doc.str_at(&["status", "phase"]).into()
    } else {
        "Terminating".into()
    }
}

/// The class, also as the older annotation has it.
fn class(doc: &Doc) -> Doc {
    match doc.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => doc.str_at(&["spec", "storageClassName"]).into(),
        annotated => annotated.into(),
    }
}

fn attributes_class(doc: &Doc) -> Doc {
    doc.at(&["spec", "volumeAttributesClassName"]).and_then(Doc::as_str).unwrap_or("<unset>").into()
}

fn volume_mode(doc: &Doc) -> Doc {
    doc.at(&["spec", "volumeMode"]).and_then(Doc::as_str).unwrap_or("<unset>").into()
}

pub(super) static VOLUME: Table = Table {
    columns: &[
        NAME,
        text("Capacity", "How much it holds."),
        text("Access Modes", "How it can be mounted."),
        text("Reclaim Policy", "What happens to it when its claim has gone."),
        text("Status", "Whether it is in use."),
        text("Claim", "Which claim has it."),
        text("StorageClass", "The class that it is of."),
        text("VolumeAttributesClass", "The class of its attributes."),
        text("Reason", "Why it is in this state."),
        AGE,
        VOLUME_MODE,
    ],
    cells: |doc, now| {
        let claim = |field: &str| doc.str_at(&["spec", "claimRef", field]);
        let bound =
            if claim("name").is_empty() { String::new() } else { format!("{}/{}", claim("namespace"), claim("name")) };
        vec![
            name(doc),
            amount(doc, &["spec", "capacity", "storage"]),
            modes(items(doc, &["spec", "accessModes"])).into(),
            doc.str_at(&["spec", "persistentVolumeReclaimPolicy"]).into(),
            phase(doc),
            bound.into(),
            class(doc),
            attributes_class(doc),
            doc.str_at(&["status", "reason"]).into(),
            age(doc, now),
            volume_mode(doc),
        ]
    },
};

pub(super) static CLAIM: Table = Table {
    columns: &[
        NAME,
        text("Status", "Whether it has a volume."),
        text("Volume", "The volume that it has."),
        text("Capacity", "How much that holds."),
        text("Access Modes", "How it can be mounted."),
        text("StorageClass", "The class that it asks for."),
        text("VolumeAttributesClass", "The class of attributes that it asks for."),
        AGE,
        VOLUME_MODE,
    ],
    cells: |doc, now| {
        let volume = doc.str_at(&["spec", "volumeName"]);
        let is_bound = !volume.is_empty();
        let found = if is_bound { items(doc, &["status", "accessModes"]) } else { &[] };
        vec![
            name(doc),
            phase(doc),
            volume.into(),
            if is_bound { amount(doc, &["status", "capacity", "storage"]) } else { "".into() },
            modes(found).into(),
            class(doc),
            attributes_class(doc),
            age(doc, now),
            volume_mode(doc),
        ]
    },
};

fn flag(doc: &Doc, path: &[&str]) -> Doc {
    (doc.at(path).and_then(Doc::as_bool) == Some(true)).into()
}

const fn truth(name: &'static str, description: &'static str) -> Column {
    Column { kind: "boolean", ..text(name, description) }
}

pub(super) static CLASS: Table = Table {
    columns: &[
        NAME,
        text("Provisioner", "What makes volumes of it."),
        text("ReclaimPolicy", "What happens to its volumes when their claims have gone."),
        text("VolumeBindingMode", "When volumes are made and bound."),
        truth("AllowVolumeExpansion", "Whether volumes may grow."),
        AGE,
    ],
    cells: |doc, now| {
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let is_default = marks.iter().any(|mark| doc.str_at(&["metadata", "annotations", mark]) == "true");
        let shown = doc.str_at(&["metadata", "name"]);
        let shown = if is_default { format!("{shown} (default)") } else { shown.to_owned() };
        let or = |field: &str, other: &'static str| match doc.str_at(&[field]) {
            "" => Doc::from(other),
            found => found.into(),
        };
        vec![
            shown.into(),
            doc.str_at(&["provisioner"]).into(),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            flag(doc, &["allowVolumeExpansion"]),
            age(doc, now),
        ]
    },
};

pub(super) static ATTRIBUTES_CLASS: Table = Table {
    columns: &[NAME, text("DriverName", "The driver that knows the attributes."), AGE],
    cells: |doc, now| vec![name(doc), doc.str_at(&["driverName"]).into(), age(doc, now)],
};

pub(super) static ATTACHMENT: Table = Table {
    columns: &[
        NAME,
        text("Attacher", "The driver that attaches."),
        text("PV", "The volume."),
        text("Node", "The node."),
        truth("Attached", "Whether it is attached."),
        AGE,
    ],
    cells: |doc, now| {
        let spec = |path: &[&str]| Doc::from(doc.get("spec").map_or("", |spec| spec.str_at(path)));
        vec![
            name(doc),
            spec(&["attacher"]),
            spec(&["source", "persistentVolumeName"]),
            spec(&["nodeName"]),
            flag(doc, &["status", "attached"]),
            age(doc, now),
        ]
    },
};

pub(super) static DRIVER: Table = Table {
    columns: &[
        NAME,
        truth("AttachRequired", "Whether its volumes are attached before they are mounted."),
        truth("PodInfoOnMount", "Whether it wants to know the pod."),
        truth("StorageCapacity", "Whether it says how much room there is."),
        text("TokenRequests", "The audiences of the tokens that it gets."),
        truth("RequiresRepublish", "Whether it is called again from time to time."),
        text("Modes", "The lives that its volumes can have."),
        AGE,
    ],
    cells: |doc, now| {
        let audiences = items(doc, &["spec", "tokenRequests"]).iter().map(|request| request.str_at(&["audience"]));
        let audiences = audiences.collect::<Vec<_>>().join(",");
        let lives = items(doc, &["spec", "volumeLifecycleModes"]).iter().filter_map(Doc::as_str);
        let lives = lives.collect::<Vec<_>>().join(",");
        let or = |text: String, other: &'static str| if text.is_empty() { Doc::from(other) } else { text.into() };
        vec![
            name(doc),
            doc.at(&["spec", "attachRequired"]).and_then(Doc::as_bool).unwrap_or(true).into(),
            flag(doc, &["spec", "podInfoOnMount"]),
            flag(doc, &["spec", "storageCapacity"]),
            or(audiences, "<unset>"),
            flag(doc, &["spec", "requiresRepublish"]),
            or(lives, "<none>"),
            age(doc, now),
        ]
    },
};

pub(super) static CSI_NODE: Table = Table {
    columns: &[NAME, number("Drivers", "How many drivers the node has."), AGE],
    cells: |doc, now| vec![name(doc), (items(doc, &["spec", "drivers"]).len() as i64).into(), age(doc, now)],
};

pub(super) static CAPACITY: Table = Table {
    columns: &[
        NAME,
        text("StorageClassName", "The class that the capacity is of."),
        text("Capacity", "How much room there is."),
    ],
    cells: |doc, _| {
        let capacity = doc.str_at(&["capacity"]);
        let capacity = if capacity.is_empty() { "<unset>" } else { capacity };
        vec![name(doc), doc.str_at(&["storageClassName"]).into(), capacity.into()]
    },
};

/// `key=value` pairs of amounts in the order in which they stand: `cpu: 1/5, pods: 2/10`.
pub(super) fn used_of_hard(used: Option<&Doc>, hard: Option<&Doc>, wanted: impl Fn(&str) -> bool) -> String {
    let mut names: Vec<&str> = hard.and_then(Doc::as_object).into_iter().flat_map(Map::keys).collect();
    names.retain(|name| wanted(name));
    names.sort_unstable();
    let value = |list: Option<&Doc>, name: &str| match list.and_then(|list| list.get(name)) {
        Some(Doc::String(text)) => text.to_string(),
        Some(number) => number.to_string(),
        None => "0".to_owned(),
    };
    let shown = names.iter().map(|name| format!("{name}: {}/{}", value(used, name), value(hard, name)));
    shown.collect::<Vec<_>>().join(", ")
}
