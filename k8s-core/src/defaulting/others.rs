//! Namespaces, nodes, limits, subjects, custom kinds, devices.

use super::{copy_missing, is_unset, object_at, set, text};
use crate::doc::{Doc, Map};

/// Every named namespace carries its name as a label.
pub(super) fn namespace(namespace: &mut Map) {
    let name = namespace.get("metadata").map_or("", |metadata| metadata.str_at(&["name"])).to_owned();
    if name.is_empty() {
        return;
    }
    let labels = object_at(namespace, "metadata").and_then(|metadata| object_at(metadata, "labels"));
    if let Some(labels) = labels {
        labels.insert("kubernetes.io/metadata.name", name.into());
    }
}

/// Everything a node has can be used unless it says otherwise.
pub(super) fn node_status(status: &mut Map) {
    if let Some(capacity) = status.get("capacity").filter(|capacity| !capacity.is_null()).cloned() {
        set(status, "allocatable", capacity);
    }
}

/// Container limits: defaults follow the maximum, default requests the defaults and the minimum.
pub(super) fn limit_range_item(item: &mut Map) {
    if text(item, "type") != "Container" {
        return;
    }
    copy_missing(item, "max", "default");
    copy_missing(item, "default", "defaultRequest");
    copy_missing(item, "min", "defaultRequest");
}

/// Users and groups belong to the group of the rules that name them; service accounts to the core.
pub(super) fn subject(subject: &mut Map) {
    if text(subject, "apiGroup").is_empty() && matches!(text(subject, "kind"), "User" | "Group") {
        subject.insert("apiGroup", "rbac.authorization.k8s.io".into());
    }
}

/// Names follow the kind; the stored version is the one marked so.
pub(super) fn custom_resource_definition(definition: &mut Map) {
    let Some(spec) = object_at(definition, "spec") else { return };
    if let Some(names) = object_at(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() && text(names, "singular").is_empty() {
            names.insert("singular", kind.to_lowercase().into());
        }
        if !kind.is_empty() && text(names, "listKind").is_empty() {
            names.insert("listKind", format!("{kind}List").into());
        }
    }
    let versions = spec.get("versions").map_or(&[][..], Doc::items);
    let stored = versions.iter().find(|version| version.get("storage").and_then(Doc::as_bool) == Some(true));
    let stored = stored.and_then(|version| version.get("name")).cloned();
    let Some(status) = object_at(definition, "status") else { return };
    if let Some(name) = stored
        && status.get("storedVersions").is_none_or(is_unset)
    {
        status.insert("storedVersions", Doc::Array(vec![name]));
    }
}

/// One device, unless more or all are asked for.
pub(super) fn device_request(request: &mut Map) {
    if text(request, "allocationMode").is_empty() {
        request.insert("allocationMode", "ExactCount".into());
    }
    if text(request, "allocationMode") == "ExactCount" && request.get("count").is_none_or(is_unset) {
        request.insert("count", 1.into());
    }
}
