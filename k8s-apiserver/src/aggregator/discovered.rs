//! What another server said that it serves, and how that shows in the documents of the whole.

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{doc, doc::Doc};

use super::{Entry, Part, availability::by_group};
use crate::aggregator::Aggregator;

/// The documents of one version of one group.
#[derive(Debug)]
pub(crate) struct Discovered {
    /// Its resources, as the aggregated document has them.
    resources: Vec<Doc>,
    /// Where its OpenAPI document is, if it has one: `/openapi/v3/apis/GROUP/VERSION?hash=...`.
    pub openapi: Option<String>,
    /// What its OpenAPI document of version 2 says, if it has one.
    pub part: Option<Arc<Part>>,
}

impl Discovered {
    /// From the server's `APIResourceList`, and from its index of OpenAPI documents.
    pub fn new(entry: &Entry, list: &Doc, openapi: Option<&Doc>) -> Self {
        let path = format!("apis/{}", entry.group_version());
        let own = format!("/openapi/v3/{path}");
        let url = openapi.map(|index| index.str_at(&["paths", &path, "serverRelativeURL"]).to_owned());
        let openapi =
            url.filter(|url| url.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('?')));
        let resources = resources(entry, list.get("resources").map_or(&[][..], Doc::items));
        Self { resources, openapi, part: None }
    }
}

/// The resources of an `APIResourceList`, with what is below each in it.
fn resources(entry: &Entry, listed: &[Doc]) -> Vec<Doc> {
    let mut below: BTreeMap<&str, Vec<Doc>> = BTreeMap::new();
    let kind = |one: &Doc| {
        let or = |field: &str, usual: &str| match one.str_at(&[field]) {
            "" => usual.to_owned(),
            said => said.to_owned(),
        };
        let (group, version) = (or("group", &entry.group), or("version", &entry.version));
        doc!({"group": group, "version": version, "kind": one.str_at(&["kind"])})
    };
    let verbs = |one: &Doc| one.get("verbs").cloned().unwrap_or_else(|| Doc::Array(Vec::new()));
    for one in listed {
        if let Some((resource, sub)) = one.str_at(&["name"]).split_once('/') {
            let entry = doc!({"subresource": sub, "responseKind": kind(one), "verbs": verbs(one)});
            below.entry(resource).or_default().push(entry);
        }
    }
    let whole = listed.iter().filter(|one| !one.str_at(&["name"]).contains('/'));
    whole
        .map(|one| {
            let name = one.str_at(&["name"]);
            let namespaced = one.get("namespaced").and_then(Doc::as_bool) == Some(true);
            let mut shown = doc!({
                "resource": name,
                "responseKind": kind(one),
                "scope": if namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": one.str_at(&["singularName"]),
                "verbs": verbs(one)
            });
            for field in ["shortNames", "categories"] {
                if let Some(words) = one.get(field).filter(|words| !words.items().is_empty()) {
                    shown.set_at(&[field], words.clone());
                }
            }
            if let Some(below) = below.remove(name) {
                shown.set_at(&["subresources"], Doc::Array(below));
            }
            shown
        })
        .collect()
}

impl Aggregator {
    /// Adds the groups of other servers to `/apis`, the list of groups.
    pub(crate) fn add_groups(&self, list: &mut Doc) {
        for (group, entries) in by_group(&self.remotes()) {
            let of = |entry: &Entry| doc!({"groupVersion": entry.group_version(), "version": entry.version.as_str()});
            let versions: Vec<Doc> = entries.iter().map(|entry| of(entry)).collect();
            let Some(all) = list.entry_at(&["groups"]).as_array_mut() else { return };
            match all.iter_mut().find(|one| one.str_at(&["name"]) == group) {
                Some(known) => {
                    let Some(there) = known.entry_at(&["versions"]).as_array_mut() else { continue };
                    there.extend(versions);
                }
                None => {
                    let preferred = versions.first().cloned().unwrap_or_default();
                    all.push(doc!({"name": group, "versions": Doc::Array(versions), "preferredVersion": preferred}));
                }
            }
        }
    }

    /// Adds the groups of other servers to the aggregated document of `/apis`. What is not known of one that does not
    /// answer is left out, and what was known of it is called stale.
    pub(crate) fn add_discovered(&self, list: &mut Doc) {
        for (group, entries) in by_group(&self.remotes()) {
            let versions = entries.iter().map(|entry| {
                let discovered = self.discovered(&entry.name);
                let resources = discovered.map_or_else(Vec::new, |found| found.resources.clone());
                let freshness = if entry.is_available { "Current" } else { "Stale" };
                doc!({"version": entry.version.as_str(), "resources": Doc::Array(resources), "freshness": freshness})
            });
            let versions: Vec<Doc> = versions.collect();
            let Some(all) = list.entry_at(&["items"]).as_array_mut() else { return };
            match all.iter_mut().find(|one| one.str_at(&["metadata", "name"]) == group) {
                Some(known) => {
                    let Some(there) = known.entry_at(&["versions"]).as_array_mut() else { continue };
                    there.extend(versions);
                }
                None => all.push(doc!({"metadata": {"name": group}, "versions": Doc::Array(versions)})),
            }
        }
    }

    /// What other servers have to add to `/openapi/v2`, as last told.
    pub(crate) fn openapi_parts(&self) -> Vec<Arc<Part>> {
        let remotes = self.remotes();
        remotes.iter().filter_map(|entry| self.discovered(&entry.name)?.part.clone()).collect()
    }

    /// Adds the OpenAPI documents of other servers to `/openapi/v3`.
    pub(crate) fn add_openapi(&self, index: &mut Doc) {
        for entry in self.remotes() {
            if let Some(url) = self.discovered(&entry.name).and_then(|found| found.openapi.clone()) {
                let name = format!("apis/{}", entry.group_version());
                index.set_at(&["paths", &name], doc!({"serverRelativeURL": url}));
            }
        }
    }
}
