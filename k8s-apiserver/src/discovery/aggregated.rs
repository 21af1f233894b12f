//! The aggregated discovery document: every group, version and resource in one answer.

use k8s_core::{
    doc,
    doc::{Doc, Text},
    registry::{Registry, ResourceInfo, Subresource},
};

use super::{
    catalog::{body_kind, by_group, verb_words},
    legacy::{texts, words},
};

/// `APIGroupDiscoveryList` at `apidiscovery.k8s.io/{version}`: of the core group for `/api`, of the named ones for
/// `/apis`.
pub fn aggregated(registry: &Registry, core: bool, version: &str) -> Doc {
    let groups = by_group(registry).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Doc> = groups.map(|(group, versions)| group_entry(&group, &versions)).collect();
    doc!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": Doc::Array(items)
    })
}

fn group_entry(group: &Text, versions: &[(Text, Vec<&ResourceInfo>)]) -> Doc {
    let versions: Vec<Doc> = versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Doc> = resources.iter().map(|info| resource(info)).collect();
            doc!({"version": version.as_str(), "resources": Doc::Array(resources), "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { Doc::object() } else { doc!({"name": group.as_str()}) };
    doc!({"metadata": metadata, "versions": Doc::Array(versions)})
}

fn resource(info: &ResourceInfo) -> Doc {
    let kind = (info.group.clone(), info.version.clone(), info.kind.clone());
    let mut entry = doc!({
        "resource": info.plural.as_str(),
        "responseKind": response_kind(&kind),
        "scope": scope(info),
        "singularResource": info.singular.as_str(),
        "verbs": words(verb_words(&info.verbs, ""))
    });
    if !info.short_names.is_empty() {
        entry.set_at(&["shortNames"], texts(&info.short_names));
    }
    if !info.categories.is_empty() {
        entry.set_at(&["categories"], texts(&info.categories));
    }
    if !info.subresources.is_empty() {
        let below: Vec<Doc> = info.subresources.iter().map(|below| subresource(info, below)).collect();
        entry.set_at(&["subresources"], Doc::Array(below));
    }
    entry
}

fn subresource(info: &ResourceInfo, below: &Subresource) -> Doc {
    doc!({
        "subresource": below.name.as_str(),
        "responseKind": response_kind(&body_kind(info, below)),
        "verbs": words(verb_words(&below.verbs, &below.name))
    })
}

fn response_kind((group, version, kind): &(Text, Text, Text)) -> Doc {
    doc!({"group": group.as_str(), "version": version.as_str(), "kind": kind.as_str()})
}

fn scope(info: &ResourceInfo) -> &'static str {
    if info.is_namespaced() { "Namespaced" } else { "Cluster" }
}
