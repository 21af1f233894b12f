//! The aggregated discovery document: every group, version and resource in one answer.

use std::sync::Arc;

use k8s_core::{
    doc,
    doc::{Doc, Text},
};

use super::{
    catalog::{Served, ServedSubresource, by_group},
    legacy::texts,
};

/// `APIGroupDiscoveryList` at `apidiscovery.k8s.io/{version}`: of the core group for `/api`, of the named ones for
/// `/apis`.
pub fn aggregated(all: &[Arc<Served>], core: bool, version: &str) -> Doc {
    let groups = by_group(all).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Doc> = groups.map(|(group, versions)| group_entry(&group, &versions)).collect();
    doc!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": Doc::Array(items)
    })
}

fn group_entry(group: &Text, versions: &[(Text, Vec<&Served>)]) -> Doc {
    let versions: Vec<Doc> = versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Doc> = resources.iter().map(|served| resource(served)).collect();
            doc!({"version": version.as_str(), "resources": Doc::Array(resources), "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { Doc::object() } else { doc!({"name": group.as_str()}) };
    doc!({"metadata": metadata, "versions": Doc::Array(versions)})
}

fn resource(served: &Served) -> Doc {
    let of = &served.resource;
    let mut entry = doc!({
        "resource": of.plural.as_str(),
        "responseKind": {
            "group": of.group.as_str(),
            "version": of.version.as_str(),
            "kind": served.kind.as_str()
        },
        "scope": scope(served),
        "singularResource": served.singular.as_str(),
        "verbs": texts(&served.verbs)
    });
    if !served.short_names.is_empty() {
        entry.set_at(&["shortNames"], texts(&served.short_names));
    }
    if !served.categories.is_empty() {
        entry.set_at(&["categories"], texts(&served.categories));
    }
    if !served.subresources.is_empty() {
        let below: Vec<Doc> = served.subresources.iter().map(subresource).collect();
        entry.set_at(&["subresources"], Doc::Array(below));
    }
    entry
}

fn subresource(below: &ServedSubresource) -> Doc {
    doc!({
        "subresource": below.name.as_str(),
        "responseKind": {
            "group": below.group.as_str(),
            "version": below.version.as_str(),
            "kind": below.kind.as_str()
        },
        "verbs": texts(&below.verbs)
    })
}

fn scope(served: &Served) -> &'static str {
    if served.namespaced { "Namespaced" } else { "Cluster" }
}
