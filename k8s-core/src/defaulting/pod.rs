//! Pods: images, requests, host ports, volumes.

use super::{copy_missing, object_at, resources, set, text};
use crate::doc::{Doc, Map};

/// What a Pod gets and a pod template does not.
pub(super) fn pod(pod: &mut Map) {
    let Some(spec) = object_at(pod, "spec") else { return };
    let host_network = spec.get("hostNetwork").and_then(Doc::as_bool) == Some(true);
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Doc::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Doc::as_object_mut) {
            if let Some(resources) = container.get_mut("resources").and_then(Doc::as_object_mut) {
                copy_missing(resources, "limits", "requests");
            }
            if host_network {
                host_ports(container);
            }
        }
    }
    resources::of_pod(spec);
    set(spec, "enableServiceLinks", true);
}

/// On the host's network every container port is a host port.
fn host_ports(container: &mut Map) {
    let ports = container.get_mut("ports").and_then(Doc::as_array_mut).into_iter().flatten();
    for port in ports.filter_map(Doc::as_object_mut) {
        let unset = port.get("hostPort").is_none_or(super::is_zero);
        if unset && let Some(number) = port.get("containerPort").cloned() {
            port.insert("hostPort", number);
        }
    }
}

/// A container of any sort.
pub(super) fn container(container: &mut Map) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        container.insert("imagePullPolicy", policy.into());
    }
}

/// A volume without a source is an empty directory.
pub(super) fn volume(volume: &mut Map) {
    let has_source = volume.iter().any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir", Doc::object());
    }
    if let Some(image) = volume.get_mut("image").and_then(Doc::as_object_mut)
        && text(image, "pullPolicy").is_empty()
    {
        let policy = pull_policy(text(image, "reference"));
        image.insert("pullPolicy", policy.into());
    }
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether an image reference means the tag `latest`: by saying so, or by naming neither tag nor digest.
///
/// A reference that cannot be one is left to validation, and means nothing.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last_at = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[last_at..].find(':') {
        Some(colon) => (&name[..last_at + colon], &name[last_at + colon + 1..]),
        None => (name, ""),
    };
    if tag.is_empty() && digest.is_empty() && !name.ends_with(':') {
        return is_repository(repository);
    }
    tag == "latest" && is_repository(repository)
}

/// Whether the path of a repository (after its registry's host, if it names one) is well-formed.
fn is_repository(repository: &str) -> bool {
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    };
    let letters = |part: &str| part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    let ends = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    path.split('/').all(|part| letters(part) && ends(part))
}
