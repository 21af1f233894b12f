//! The discovery documents of old: one for the groups, one for each version.

use std::sync::Arc;

use k8s_core::{
    doc,
    doc::{Doc, Text},
};

use super::catalog::{Served, by_group};

/// `/api`: the versions of the core group.
pub fn core_versions(all: &[Arc<Served>]) -> Doc {
    let core = by_group(all).into_iter().find(|(group, _)| group.is_empty());
    let versions: Vec<Doc> =
        core.into_iter().flat_map(|(_, versions)| versions).map(|(version, _)| Doc::from(version.as_str())).collect();
    doc!({"kind": "APIVersions", "versions": Doc::Array(versions), "serverAddressByClientCIDRs": []})
}

/// `/apis`: every named group with its versions.
pub fn groups(all: &[Arc<Served>]) -> Doc {
    let named = by_group(all).into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Doc> = named.map(|(group, versions)| entry(&group, &versions)).collect();
    doc!({"kind": "APIGroupList", "apiVersion": "v1", "groups": Doc::Array(groups)})
}

/// `/apis/GROUP`: one group with its versions.
pub fn group(all: &[Arc<Served>], name: &str) -> Option<Doc> {
    let (group, versions) = by_group(all).into_iter().find(|(group, _)| group == name && !group.is_empty())?;
    let mut document = doc!({"kind": "APIGroup", "apiVersion": "v1"});
    for (field, value) in entry(&group, &versions).as_object()?.iter() {
        document.set_at(&[field], value.clone());
    }
    Some(document)
}

fn entry(group: &Text, versions: &[(Text, Vec<&Served>)]) -> Doc {
    let of = |version: &Text| doc!({"groupVersion": format!("{group}/{version}"), "version": version.as_str()});
    let listed: Vec<Doc> = versions.iter().map(|(version, _)| of(version)).collect();
    // Invariant: a group is there because it has a version.
    let preferred = versions.first().map(|(version, _)| of(version)).unwrap_or_default();
    doc!({"name": group.as_str(), "versions": Doc::Array(listed), "preferredVersion": preferred})
}

/// `/api/VERSION` and `/apis/GROUP/VERSION`: the resources of one version.
pub fn resources(all: &[Arc<Served>], group: &str, version: &str) -> Option<Doc> {
    let mut here: Vec<&Served> =
        all.iter().map(Arc::as_ref).filter(|s| s.resource.group == group && s.resource.version == version).collect();
    if here.is_empty() {
        return None;
    }
    here.sort_by(|a, b| a.resource.plural.cmp(&b.resource.plural));
    let listed: Vec<Doc> = here.into_iter().flat_map(resource_and_below).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(doc!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": Doc::Array(listed)
    }))
}

fn resource_and_below(served: &Served) -> Vec<Doc> {
    let mut own = doc!({
        "name": served.resource.plural.as_str(),
        "singularName": served.singular.as_str(),
        "namespaced": served.namespaced,
        "kind": served.kind.as_str(),
        "verbs": texts(&served.verbs)
    });
    if !served.short_names.is_empty() {
        own.set_at(&["shortNames"], texts(&served.short_names));
    }
    if !served.categories.is_empty() {
        own.set_at(&["categories"], texts(&served.categories));
    }
    let mut listed = vec![own];
    for below in &served.subresources {
        let mut entry = doc!({
            "name": format!("{}/{}", served.resource.plural, below.name),
            "singularName": "",
            "namespaced": served.namespaced,
            "kind": below.kind.as_str(),
            "verbs": texts(&below.verbs)
        });
        if (below.group.as_str(), below.version.as_str()) != (&served.resource.group, &served.resource.version) {
            entry.set_at(&["group"], Doc::from(below.group.as_str()));
            entry.set_at(&["version"], Doc::from(below.version.as_str()));
        }
        listed.push(entry);
    }
    listed
}

pub(super) fn texts(texts: &[Text]) -> Doc {
    Doc::Array(texts.iter().map(|text| Doc::from(text.as_str())).collect())
}
