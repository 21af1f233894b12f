//! Resources of a whole pod, from what its containers say.

use std::collections::BTreeMap;

use super::object_at;
use crate::{
    doc::{Doc, Map},
    quantity::Quantity,
};

/// What the whole pod may use follows from its containers where only a part of it is said.
///
/// Limits come first, so that doing it twice changes nothing.
pub(super) fn of_pod(spec: &mut Map) {
    let said = |spec: &Map, what: &str| {
        let resources = spec.get("resources").and_then(|resources| resources.get(what));
        resources.and_then(Doc::as_object).is_some_and(|list| !list.is_empty())
    };
    let (limits, requests) = (said(spec, "limits"), said(spec, "requests"));
    if !limits && !requests {
        return;
    }
    let used = Totals::of(spec, "limits");
    let asked = Totals::of(spec, "requests");
    let Some(resources) = object_at(spec, "resources") else { return };
    huge_page_limits(resources, &used);
    if resources.get("limits").and_then(Doc::as_object).is_none_or(Map::is_empty) {
        fill(resources, "limits", used.of_every_container().filter(|(name, _)| overcommits(name)));
    }
    let limits = entries(resources, "limits");
    if !limits.is_empty() {
        fill(resources, "requests", asked.of_all().filter(|(name, _)| overcommits(name)));
        fill(resources, "requests", limits.into_iter().filter(|(name, _)| is_pod_level(name)));
    }
}

fn entries(resources: &Map, which: &str) -> Vec<(String, Doc)> {
    let list = resources.get(which).and_then(Doc::as_object);
    list.into_iter().flat_map(Map::iter).map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// Huge pages that containers are limited to limit the pod, unless the pod requests them itself.
fn huge_page_limits(resources: &mut Map, used: &Totals) {
    let requested = entries(resources, "requests");
    let pages = used.of_all().filter(|(name, _)| name.starts_with("hugepages-"));
    let pages = pages.filter(|(name, _)| !requested.iter().any(|(asked, _)| asked == name));
    fill(resources, "limits", pages);
}

fn fill(resources: &mut Map, which: &str, values: impl Iterator<Item = (String, Doc)>) {
    let values: Vec<(String, Doc)> = values.collect();
    if values.is_empty() {
        return;
    }
    let Some(list) = object_at(resources, which) else { return };
    for (name, value) in values {
        if !list.contains(&name) {
            list.insert(name, value);
        }
    }
}

fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// Whether more of it may be promised than there is; not so for huge pages.
fn overcommits(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory")
}

/// What all containers of a pod together say about resources.
#[derive(Default)]
struct Totals {
    sums: BTreeMap<String, Total>,
    containers: usize,
}

#[derive(Clone, Copy, Default)]
struct Total {
    value: Quantity,
    /// How many containers name it.
    named: usize,
}

impl Totals {
    /// Sums `which` (`limits` or `requests`) as the pod needs them at the same time: sidecars run beside everything
    /// that starts after them, other init containers alone.
    fn of(spec: &Map, which: &str) -> Self {
        let (mut totals, mut sidecars, mut peak) = (Self::default(), Self::default(), Self::default());
        for container in spec.get("containers").map_or(&[][..], Doc::items) {
            totals.add(container, which);
        }
        for container in spec.get("initContainers").map_or(&[][..], Doc::items) {
            if container.str_at(&["restartPolicy"]) == "Always" {
                totals.add(container, which);
                sidecars.add(container, which);
                peak.raise(&sidecars);
            } else {
                let mut alone = Totals { sums: sidecars.sums.clone(), containers: 0 };
                alone.add(container, which);
                peak.raise(&alone);
                totals.note(container, which);
            }
        }
        totals.raise(&peak);
        totals
    }

    fn quantities(container: &Doc, which: &str) -> Vec<(String, Quantity)> {
        let list = container.at(&["resources", which]).and_then(Doc::as_object);
        let entries = list.into_iter().flat_map(Map::iter).filter(|(name, _)| is_pod_level(name));
        entries.filter_map(|(name, value)| Some((name.to_owned(), Quantity::parse(value.as_str()?).ok()?))).collect()
    }

    fn add(&mut self, container: &Doc, which: &str) {
        for (name, value) in Self::quantities(container, which) {
            let total = self.sums.entry(name).or_default();
            total.value = total.value + value;
            total.named += 1;
        }
        self.containers += 1;
    }

    /// Counts a container that says something without adding to the sum.
    fn note(&mut self, container: &Doc, which: &str) {
        for (name, _) in Self::quantities(container, which) {
            self.sums.entry(name).or_default().named += 1;
        }
        self.containers += 1;
    }

    fn raise(&mut self, other: &Totals) {
        for (name, theirs) in &other.sums {
            let total = self.sums.entry(name.clone()).or_default();
            total.value = total.value.max(theirs.value);
        }
    }

    fn of_all(&self) -> impl Iterator<Item = (String, Doc)> {
        self.sums.iter().map(|(name, total)| (name.clone(), total.value.to_string().into()))
    }

    /// Only what every single container names.
    fn of_every_container(&self) -> impl Iterator<Item = (String, Doc)> {
        let named = self.sums.iter().filter(|(_, total)| total.named == self.containers);
        named.map(|(name, total)| (name.clone(), total.value.to_string().into()))
    }
}
