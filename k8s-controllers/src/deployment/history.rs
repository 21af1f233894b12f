//! Revisions: which replica set was which, and how many old ones are kept.

use std::collections::BTreeMap;

use k8s_core::api::{api::apps::v1::ReplicaSet, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    plan::{Action, View},
    rolling::bounds,
};

/// The number of a replica set, which `kubectl rollout history` shows.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// How many pods the deployment wanted when the set was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many pods the deployment may have at most, likewise.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Never copied from a deployment to its sets.
const NOT_COPIED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAXIMUM,
];

/// The number of a replica set, 0 if it has none.
pub fn revision(meta: &ObjectMeta) -> i64 {
    let text = meta.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The number that the set of the present template should have: above all old ones.
fn new_revision(view: &View<'_>) -> i64 {
    let highest = view.old.iter().map(|index| revision(&view.sets[*index].metadata)).max().unwrap_or(0);
    let own = view.new.map_or(0, |index| revision(&view.sets[index].metadata));
    own.max(highest + 1)
}

/// The annotations of a set that is about to be made.
pub(super) fn annotations_of_new(view: &View<'_>) -> BTreeMap<String, String> {
    let mut annotations = copied(view);
    annotations.extend(size_annotations(view));
    annotations.insert(REVISION.into(), new_revision(view).to_string());
    annotations
}

/// What a set is told of the deployment's size when it is scaled.
pub(super) fn size_annotations(view: &View<'_>) -> BTreeMap<String, String> {
    let (surge, _) = bounds(view.deployment, view.wanted());
    let pairs = [(DESIRED, view.wanted()), (MAXIMUM, view.wanted() + surge)];
    pairs.map(|(key, value)| (key.to_owned(), value.to_string())).into()
}

fn copied(view: &View<'_>) -> BTreeMap<String, String> {
    let all = view.deployment.metadata.annotations.iter().flatten();
    all.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Numbers the new set, and tells the deployment.
pub(super) fn number(view: &View<'_>, actions: &mut Vec<Action>) {
    let number = new_revision(view).to_string();
    if let Some(index) = view.new {
        let mut wanted = copied(view);
        wanted.insert(REVISION.into(), number.clone());
        let have = view.sets[index].metadata.annotations.clone().unwrap_or_default();
        wanted.retain(|key, value| have.get(key) != Some(value));
        if !wanted.is_empty() {
            actions.push(Action::Annotate { index, annotations: wanted });
        }
    }
    let own = view.deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    if own != Some(&number) {
        actions.push(Action::AnnotateSelf([(REVISION.to_owned(), number)].into()));
    }
}

/// Deletes the oldest empty sets beyond `revisionHistoryLimit`, once the rollout is complete.
pub(super) fn clean_up(view: &View<'_>, actions: &mut Vec<Action>) {
    let limit = view.deployment.spec.revision_history_limit.unwrap_or(10).max(0) as usize;
    let is_complete =
        view.new.is_some_and(|new| view.size(new) == view.wanted() && view.available(new) >= view.wanted());
    if !is_complete {
        return;
    }
    let mut old: Vec<usize> = view.old.iter().copied().filter(|i| is_disposable(view.sets[*i])).collect();
    old.sort_by_key(|index| revision(&view.sets[*index].metadata));
    let surplus = old.len().saturating_sub(limit);
    actions.extend(old.into_iter().take(surplus).map(Action::Delete));
}

fn is_disposable(set: &ReplicaSet) -> bool {
    let wanted = set.spec.replicas.unwrap_or(1);
    let have = set.status.as_ref().map_or(0, |status| status.replicas);
    let observed = set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation;
    wanted == 0 && have == 0 && observed && set.metadata.deletion_timestamp.is_none()
}
