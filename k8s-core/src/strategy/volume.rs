//! The rules about the volumes of a pod.

use std::collections::BTreeSet;

use super::{container::quantity, indexed, list_at, named};
use crate::{
    doc::{Doc, Map},
    names,
    quantity::Quantity,
    status::{FieldError, FieldErrorKind},
};

/// Names of volumes: unique labels. Returns them.
pub(super) fn check_volumes<'a>(errors: &mut Vec<FieldError>, spec: &'a Doc, path: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (path, volume) in indexed(list_at(spec, &["volumes"]), &format!("{path}.volumes")) {
        let (name, place) = (volume.str_at(&["name"]), format!("{path}.name"));
        if name.is_empty() {
            errors.push(FieldError::required(place, ""));
        } else {
            named(errors, &place, name, names::dns_label(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(place, name));
            }
        }
        check_volume_source(errors, volume, &path);
    }
    seen
}

fn check_volume_source(errors: &mut Vec<FieldError>, volume: &Doc, path: &str) {
    let sources = volume.as_object().into_iter().flat_map(Map::iter);
    let sources: Vec<&str> =
        sources.filter(|(name, value)| *name != "name" && !value.is_null()).map(|(n, _)| n).collect();
    match sources.as_slice() {
        [] => errors.push(FieldError::required(path, "must specify a volume type")),
        [_] => {}
        [_, others @ ..] => errors.extend(others.iter().map(|source| {
            FieldError::forbidden(format!("{path}.{source}"), "may not specify more than 1 volume type")
        })),
    }
    let name_of = |source: &str, field: &str| volume.get(source).map(|source| source.str_at(&[field]));
    for (source, field) in [("configMap", "name"), ("secret", "secretName")] {
        if name_of(source, field) == Some("") {
            errors.push(FieldError::required(format!("{path}.{source}.{field}"), ""));
        }
        check_items(errors, list_at(volume, &[source, "items"]), &format!("{path}.{source}.items"));
    }
    if name_of("hostPath", "path") == Some("") {
        errors.push(FieldError::required(format!("{path}.hostPath.path"), ""));
    }
    if let Some(ephemeral) = volume.get("ephemeral").filter(|source| !source.is_null()) {
        let place = format!("{path}.ephemeral.volumeClaimTemplate");
        match ephemeral.get("volumeClaimTemplate").filter(|template| !template.is_null()) {
            None => errors.push(FieldError::required(place, "")),
            Some(template) => {
                let spec = template.get("spec").unwrap_or(&Doc::Null);
                super::persistent_volume::check_claim(errors, spec, &format!("{place}.spec"));
            }
        }
    }
    check_files(errors, list_at(volume, &["downwardAPI", "items"]), &format!("{path}.downwardAPI.items"));
    check_projections(errors, list_at(volume, &["projected", "sources"]), &format!("{path}.projected.sources"));
    let on_host = volume.str_at(&["hostPath", "path"]);
    if on_host.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(format!("{path}.hostPath.path"), on_host, "must not contain '..'"));
    }
    if volume.at(&["emptyDir", "sizeLimit"]).and_then(quantity).is_some_and(Quantity::is_negative) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(FieldError::forbidden(format!("{path}.emptyDir.sizeLimit"), detail));
    }
}

/// Keys of a config map or secret, and the files that they become.
fn check_items(errors: &mut Vec<FieldError>, items: &[Doc], path: &str) {
    for (path, item) in indexed(items, path) {
        check_file(errors, item.str_at(&["path"]), &format!("{path}.path"));
    }
}

/// Files that tell of the pod.
fn check_files(errors: &mut Vec<FieldError>, files: &[Doc], path: &str) {
    for (path, file) in indexed(files, path) {
        check_file(errors, file.str_at(&["path"]), &format!("{path}.path"));
        match (file.get("fieldRef"), file.get("resourceFieldRef")) {
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
            (Some(field), None) => {
                let place = format!("{path}.fieldRef.fieldPath");
                check_field_path(errors, field.str_at(&["fieldPath"]), IN_FILES, &place);
            }
            (None, Some(resource)) => check_resource_field(errors, resource, &format!("{path}.resourceFieldRef")),
            (None, None) => {
                errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
    }
}

fn check_resource_field(errors: &mut Vec<FieldError>, field: &Doc, path: &str) {
    const RESOURCES: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = field.str_at(&["resource"]);
    if field.str_at(&["containerName"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containerName"), ""));
    }
    let is_huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|start| resource.starts_with(start));
    if !RESOURCES.contains(&resource) && !is_huge {
        errors.push(FieldError::not_supported(format!("{path}.resource"), resource, &RESOURCES));
    }
}

/// Several sources in one volume: each is one, and no two write one file.
fn check_projections(errors: &mut Vec<FieldError>, sources: &[Doc], path: &str) {
    const SOURCES: [&str; 6] =
        ["clusterTrustBundle", "configMap", "downwardAPI", "podCertificate", "secret", "serviceAccountToken"];
    let mut written = BTreeSet::new();
    for (path, source) in indexed(sources, path) {
        match SOURCES.iter().filter(|kind| source.get(kind).is_some_and(|value| !value.is_null())).count() {
            1 => {}
            0 => errors.push(FieldError::required(&path, "must specify a projected volume source")),
            _ => errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type per source")),
        }
        let mut files: Vec<(String, &str)> = Vec::new();
        for kind in ["configMap", "secret"] {
            let Some(source) = source.get(kind) else { continue };
            if source.str_at(&["name"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.{kind}.name"), ""));
            }
            check_items(errors, list_at(source, &["items"]), &format!("{path}.{kind}.items"));
            files.extend(paths(list_at(source, &["items"]), &format!("{path}.{kind}.items")));
        }
        let told = list_at(source, &["downwardAPI", "items"]);
        check_files(errors, told, &format!("{path}.downwardAPI.items"));
        files.extend(paths(told, &format!("{path}.downwardAPI.items")));
        if let Some(token) = source.get("serviceAccountToken") {
            let place = format!("{path}.serviceAccountToken.path");
            check_file(errors, token.str_at(&["path"]), &place);
            files.push((place, token.str_at(&["path"])));
        }
        if let Some(certificate) = source.get("podCertificate").filter(|source| !source.is_null()) {
            files.extend(check_certificate(errors, certificate, &format!("{path}.podCertificate")));
        }
        for (place, file) in files {
            if !file.is_empty() && !written.insert(file) {
                let detail = format!("conflicting duplicate paths: {file}");
                errors.push(FieldError::invalid(place, file, detail));
            }
        }
    }
}

/// A key and certificate of the pod's own. Answers the files that it writes.
fn check_certificate<'a>(errors: &mut Vec<FieldError>, source: &'a Doc, path: &str) -> Vec<(String, &'a str)> {
    const KEYS: [&str; 6] = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
    // In seconds: the shortest, the longest of Kubernetes' own signers, and the longest of others.
    const SHORTEST: i64 = 3600;
    const LONGEST_OWN: i64 = 24 * 3600;
    const LONGEST: i64 = 91 * 24 * 3600;
    let (signer, key) = (source.str_at(&["signerName"]), source.str_at(&["keyType"]));
    if !signer.contains('/') {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(format!("{path}.signerName"), signer, detail));
    }
    if !KEYS.contains(&key) {
        errors.push(FieldError::not_supported(format!("{path}.keyType"), key, &KEYS));
    }
    if let Some(seconds) = source.get("maxExpirationSeconds").and_then(Doc::as_i64) {
        let longest = if signer.starts_with("kubernetes.io/") { LONGEST_OWN } else { LONGEST };
        if !(SHORTEST..=longest).contains(&seconds) {
            let detail = format!("must be between {SHORTEST} and {longest}");
            let place = format!("{path}.maxExpirationSeconds");
            errors.push(FieldError::new(FieldErrorKind::Invalid, place, seconds.to_string(), detail));
        }
    }
    let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    let files = fields.map(|field| (format!("{path}.{field}"), source.str_at(&[field])));
    if files.iter().all(|(_, file)| file.is_empty()) {
        errors.push(FieldError::required(
            path,
            "specify at least one of credentialBundlePath, keyPath and certificateChainPath",
        ));
    }
    files.iter().for_each(|(place, file)| check_file(errors, file, place));
    files.into()
}

fn paths<'a>(items: &'a [Doc], path: &str) -> impl Iterator<Item = (String, &'a str)> {
    indexed(items, path).map(|(path, item)| (format!("{path}.path"), item.str_at(&["path"])))
}

/// A file inside a volume.
fn check_file(errors: &mut Vec<FieldError>, file: &str, path: &str) {
    if file.is_empty() {
        // The schema asks for it.
    } else if file.starts_with('/') {
        errors.push(FieldError::invalid(path, file, "must be a relative path"));
    } else if file.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(path, file, "must not contain '..'"));
    } else if file.starts_with("..") {
        errors.push(FieldError::invalid(path, file, "must not start with '..'"));
    }
}

/// What a container may learn about its pod through its environment.
pub(super) const IN_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file in a volume may tell of the pod.
const IN_FILES: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// A path into the pod: one of `fields`, or a label or annotation by its key.
pub(super) fn check_field_path(errors: &mut Vec<FieldError>, field: &str, fields: &[&str], path: &str) {
    let is_of_map = |map: &str| field.strip_prefix(map).is_some_and(|key| key.starts_with("['") && key.ends_with("']"));
    if field.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !fields.contains(&field) && !is_of_map("metadata.labels") && !is_of_map("metadata.annotations") {
        errors.push(FieldError::not_supported(path, field, fields));
    }
}
