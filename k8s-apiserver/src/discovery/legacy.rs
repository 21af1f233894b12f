//! The discovery documents of old: one for the groups, one for each version.

use k8s_core::{
    doc,
    doc::{Doc, Text},
    registry::{Registry, ResourceInfo},
};

use super::catalog::{body_kind, by_group, verb_words};

/// `/api`: the versions of the core group.
pub fn core_versions(registry: &Registry) -> Doc {
    let core = by_group(registry).into_iter().find(|(group, _)| group.is_empty());
    let versions: Vec<Doc> =
        core.into_iter().flat_map(|(_, versions)| versions).map(|(version, _)| Doc::from(version.as_str())).collect();
    doc!({"kind": "APIVersions", "versions": Doc::Array(versions), "serverAddressByClientCIDRs": []})
}

/// `/apis`: every named group with its versions.
pub fn groups(registry: &Registry) -> Doc {
    let named = by_group(registry).into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Doc> = named.map(|(group, versions)| entry(&group, &versions)).collect();
    doc!({"kind": "APIGroupList", "apiVersion": "v1", "groups": Doc::Array(groups)})
}

/// `/apis/GROUP`: one group with its versions.
pub fn group(registry: &Registry, name: &str) -> Option<Doc> {
    let (group, versions) = by_group(registry).into_iter().find(|(group, _)| group == name && !group.is_empty())?;
    let mut document = doc!({"kind": "APIGroup", "apiVersion": "v1"});
    for (field, value) in entry(&group, &versions).as_object()?.iter() {
        document.set_at(&[field], value.clone());
    }
    Some(document)
}

fn entry(group: &Text, versions: &[(Text, Vec<&ResourceInfo>)]) -> Doc {
    let of = |version: &Text| doc!({"groupVersion": format!("{group}/{version}"), "version": version.as_str()});
    let listed: Vec<Doc> = versions.iter().map(|(version, _)| of(version)).collect();
    // Invariant: a group is there because it has a version.
    let preferred = versions.first().map(|(version, _)| of(version)).unwrap_or_default();
    doc!({"name": group.as_str(), "versions": Doc::Array(listed), "preferredVersion": preferred})
}

/// `/api/VERSION` and `/apis/GROUP/VERSION`: the resources of one version.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Doc> {
    let mut here: Vec<&ResourceInfo> =
        registry.iter().map(AsRef::as_ref).filter(|info| info.group == group && info.version == version).collect();
    let first = here.first()?;
    let group_version = first.api_version();
    here.sort_by(|a, b| a.plural.cmp(&b.plural));
    let listed: Vec<Doc> = here.into_iter().flat_map(resource_and_below).collect();
    Some(doc!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": Doc::Array(listed)
    }))
}

fn resource_and_below(info: &ResourceInfo) -> Vec<Doc> {
    let mut own = doc!({
        "name": info.plural.as_str(),
        "singularName": info.singular.as_str(),
        "namespaced": info.is_namespaced(),
        "kind": info.kind.as_str(),
        "verbs": words(verb_words(&info.verbs, ""))
    });
    if !info.short_names.is_empty() {
        own.set_at(&["shortNames"], texts(&info.short_names));
    }
    if !info.categories.is_empty() {
        own.set_at(&["categories"], texts(&info.categories));
    }
    let mut listed = vec![own];
    for below in &info.subresources {
        let (group, version, kind) = body_kind(info, below);
        let mut entry = doc!({
            "name": format!("{}/{}", info.plural, below.name),
            "singularName": "",
            "namespaced": info.is_namespaced(),
            "kind": kind.as_str(),
            "verbs": words(verb_words(&below.verbs, &below.name))
        });
        if (&group, &version) != (&info.group, &info.version) {
            entry.set_at(&["group"], Doc::from(group.as_str()));
            entry.set_at(&["version"], Doc::from(version.as_str()));
        }
        listed.push(entry);
    }
    listed
}

pub(super) fn texts(texts: &[Text]) -> Doc {
    words(texts.iter().map(Text::as_str))
}

pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Doc {
    Doc::Array(words.into_iter().map(Doc::from).collect())
}
