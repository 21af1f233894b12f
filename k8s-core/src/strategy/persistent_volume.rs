//! `v1` PersistentVolume and PersistentVolumeClaim.

use super::{Strategy, affinity, broken, container::quantity, is_set, keep_status, list_at, metadata, named, selects};
use crate::{
    doc,
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// The fields of a volume's spec that are not its source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn prepare_create(&self, doc: &mut Doc) {
        let now = doc.at(&["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        doc.set_at(&["status"], doc!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_volume(&mut errors, doc.get("spec").unwrap_or(&Doc::Null));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        let source = |doc: &Doc| {
            let mut spec = doc.get("spec").cloned().unwrap_or_default();
            NO_SOURCE.iter().for_each(|field| drop(spec.remove_at(&[field])));
            // Who expands a volume may have to learn a secret for it.
            spec.remove_at(&["csi", "controllerExpandSecretRef"]);
            spec
        };
        if source(new) != source(old) {
            let path = "spec.persistentvolumesource";
            errors.push(FieldError::forbidden(path, "spec.persistentvolumesource is immutable after creation"));
        }
        super::immutable(&mut errors, new, old, &["spec", "volumeMode"]);
        if is_set(old.get("spec").unwrap_or(&Doc::Null), "nodeAffinity") {
            super::immutable(&mut errors, new, old, &["spec", "nodeAffinity"]);
        }
        errors
    }
}

fn check_volume(errors: &mut Vec<FieldError>, spec: &Doc) {
    check_modes(errors, list_at(spec, &["accessModes"]));
    check_capacity(errors, spec);
    let sources: Vec<&str> = spec
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(name, value)| !NO_SOURCE.contains(name) && !value.is_null())
        .map(|(name, _)| name)
        .collect();
    match sources.as_slice() {
        [] => errors.push(FieldError::required("spec", "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => {
            errors.extend(more.iter().map(|source| {
                FieldError::forbidden(format!("spec.{source}"), "may not specify more than 1 volume type")
            }))
        }
    }
    check_source(errors, spec);
    let policy = spec.str_at(&["persistentVolumeReclaimPolicy"]);
    if policy == "Recycle" && spec.str_at(&["hostPath", "path"]) == "/" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden("spec.persistentVolumeReclaimPolicy", detail));
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.str_at(&[field]);
        if !class.is_empty() {
            named(errors, &format!("spec.{field}"), class, names::dns_subdomain(class));
        }
    }
    if let Some(affinity) = spec.get("nodeAffinity").filter(|affinity| !affinity.is_null()) {
        match affinity.get("required").filter(|required| !required.is_null()) {
            None => {
                let detail = "must specify required node constraints";
                errors.push(FieldError::required("spec.nodeAffinity.required", detail));
            }
            Some(required) => affinity::check_node_selector(errors, required, "spec.nodeAffinity.required"),
        }
    }
}

fn check_source(errors: &mut Vec<FieldError>, spec: &Doc) {
    let needed = |errors: &mut Vec<FieldError>, source: &str, fields: &[&str]| {
        let Some(found) = spec.get(source).filter(|source| !source.is_null()) else { return };
        for field in fields.iter().filter(|field| found.str_at(&[field]).is_empty()) {
            errors.push(FieldError::required(format!("spec.{source}.{field}"), ""));
        }
    };
    needed(errors, "hostPath", &["path"]);
    needed(errors, "local", &["path"]);
    needed(errors, "nfs", &["server", "path"]);
    needed(errors, "csi", &["driver", "volumeHandle"]);
    for source in ["hostPath", "local"] {
        let path = spec.str_at(&[source, "path"]);
        if path.split('/').any(|step| step == "..") {
            errors.push(FieldError::invalid(format!("spec.{source}.path"), path, "must not contain '..'"));
        }
    }
    let nfs = spec.str_at(&["nfs", "path"]);
    if !nfs.is_empty() && !nfs.starts_with('/') {
        errors.push(FieldError::invalid("spec.nfs.path", nfs, "must be an absolute path"));
    }
    if is_set(spec, "local") && !is_set(spec, "nodeAffinity") {
        errors.push(FieldError::required("spec.nodeAffinity", "Local volume requires node affinity"));
    }
    let driver = spec.str_at(&["csi", "driver"]);
    if !driver.is_empty() {
        super::storage::check_driver(errors, driver, "spec.csi.driver");
    }
}

fn check_capacity(errors: &mut Vec<FieldError>, spec: &Doc) {
    let capacity = spec.get("capacity").and_then(Doc::as_object);
    if capacity.is_none_or(Map::is_empty) {
        errors.push(FieldError::required("spec.capacity", ""));
        return;
    }
    let names: Vec<&str> = capacity.into_iter().flat_map(Map::keys).collect();
    if names != ["storage"] {
        let shown = spec.get("capacity").unwrap_or(&Doc::Null).to_string();
        let detail = "supported values: \"storage\"";
        errors.push(FieldError::new(FieldErrorKind::NotSupported, "spec.capacity", shown, detail));
    }
    for (name, value) in capacity.into_iter().flat_map(Map::iter) {
        check_positive(errors, value, &format!("spec.capacity[{name}]"));
    }
}

fn check_positive(errors: &mut Vec<FieldError>, value: &Doc, path: &str) {
    if quantity(value).is_some_and(|quantity| quantity.is_negative() || quantity.is_zero()) {
        errors.push(broken(path, value, "must be greater than zero"));
    }
}

fn check_modes(errors: &mut Vec<FieldError>, modes: &[Doc]) {
    const PATH: &str = "spec.accessModes";
    if modes.is_empty() {
        errors.push(FieldError::required(PATH, "at least 1 access mode is required"));
    }
    for mode in modes.iter().filter_map(Doc::as_str).filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(PATH, mode, &ACCESS_MODES));
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode.as_str() == Some("ReadWriteOncePod")) {
        errors.push(FieldError::forbidden(PATH, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(super) struct Claim;

impl Strategy for Claim {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.set_at(&["status"], doc!({"phase": "Pending"}));
        join_sources(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        join_sources(new);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_claim(&mut errors, doc.get("spec").unwrap_or(&Doc::Null), "spec");
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        check_claim_update(&mut errors, new, old);
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        let resized = new.at(&["status", "capacity"]);
        super::container::check_quantities(&mut errors, resized, "status.capacity");
        errors
    }
}

/// A source of data is said in two fields, an older and a newer one; who sets one sets the other.
fn join_sources(doc: &mut Doc) {
    let of = |doc: &Doc, field: &str| doc.at(&["spec", field]).filter(|value| !value.is_null()).cloned();
    match (of(doc, "dataSource"), of(doc, "dataSourceRef")) {
        (Some(source), None) => doc.set_at(&["spec", "dataSourceRef"], source),
        (None, Some(reference)) if reference.str_at(&["namespace"]).is_empty() => {
            let is_known = matches!(
                (reference.str_at(&["apiGroup"]), reference.str_at(&["kind"])),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            );
            if is_known {
                doc.set_at(&["spec", "dataSource"], reference);
            }
        }
        _ => {}
    }
}

/// What is wrong with the spec of a claim at `path`; also for templates of claims.
pub(super) fn check_claim(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let mut found = Vec::new();
    check_modes(&mut found, list_at(spec, &["accessModes"]));
    found.iter_mut().for_each(|error| error.path = error.path.replacen("spec", path, 1));
    errors.append(&mut found);
    selects::check(errors, spec.get("selector"), &format!("{path}.selector"));
    match spec.at(&["resources", "requests", "storage"]) {
        None => errors.push(FieldError::required(format!("{path}.resources[storage]"), "")),
        Some(size) => check_positive(errors, size, &format!("{path}.resources.requests[storage]")),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.str_at(&[field]);
        if !class.is_empty() {
            named(errors, &format!("{path}.{field}"), class, names::dns_subdomain(class));
        }
    }
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.get(field).filter(|source| !source.is_null()) else { continue };
        for part in ["name", "kind"].into_iter().filter(|part| source.str_at(&[part]).is_empty()) {
            errors.push(FieldError::required(format!("{path}.{field}.{part}"), ""));
        }
        let (group, kind) = (source.str_at(&["apiGroup"]), source.str_at(&["kind"]));
        if group.is_empty() && !matches!(kind, "" | "PersistentVolumeClaim") {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(format!("{path}.{field}"), kind, detail));
        }
    }
    if let (Some(source), Some(reference)) = (spec.get("dataSource"), spec.get("dataSourceRef"))
        && !source.is_null()
        && !reference.is_null()
        && source != reference
    {
        let detail = "must match dataSourceRef";
        errors.push(broken(format!("{path}.dataSource"), source, detail));
    }
}

/// A claim is for ever, but for its size once it is bound, its attributes, and what binding and defaulting fill in.
fn check_claim_update(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    const SIZE: [&str; 3] = ["resources", "requests", "storage"];
    let spec_of = |doc: &Doc| doc.get("spec").cloned().unwrap_or_default();
    let (mut wanted, former) = (spec_of(new), spec_of(old));
    let is_bound = old.str_at(&["status", "phase"]) == "Bound";
    for field in ["volumeName", "storageClassName"] {
        // Who binds fills in what was left out.
        let fills = if field == "volumeName" { former.str_at(&[field]).is_empty() } else { !is_set(&former, field) };
        if fills {
            match former.get(field) {
                Some(value) => wanted.set_at(&[field], value.clone()),
                None => drop(wanted.remove_at(&[field])),
            }
        }
    }
    let (asked, before) = (wanted.at(&SIZE).and_then(quantity), former.at(&SIZE).and_then(quantity));
    if asked != before {
        if is_bound && let Some(value) = former.at(&SIZE) {
            wanted.set_at(&SIZE, value.clone());
        }
        let provided = old.at(&["status", "capacity", "storage"]).and_then(quantity);
        if asked < before && asked.zip(provided).is_none_or(|(asked, provided)| asked <= provided) {
            let detail = "field can not be less than status.capacity";
            errors.push(FieldError::forbidden("spec.resources.requests.storage", detail));
        }
    }
    match former.get("volumeAttributesClassName") {
        Some(value) => wanted.set_at(&["volumeAttributesClassName"], value.clone()),
        None => drop(wanted.remove_at(&["volumeAttributesClassName"])),
    }
    if wanted != former {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
            bound claims";
        errors.push(FieldError::forbidden("spec", detail));
    }
}
