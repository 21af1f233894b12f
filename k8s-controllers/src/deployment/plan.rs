//! What a deployment needs, as a pure function of itself, its replica sets and its pods.
//!
//! Follows upstream's deployment controller: find or make the replica set of the present template, then scale the
//! new one up and the old ones down as the strategy allows.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::{
        api::{
            apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
            core::v1::{Pod, PodTemplateSpec},
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    env::Timestamp,
};

use super::{history, rolling, status};
use crate::pod_state::is_finished;

/// The label that tells the pods of one template from those of another.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// One step towards what the deployment asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this replica set (the owner reference is the shell's to add).
    Create(Box<ReplicaSet>),
    /// Change a replica set, by index into those given.
    Scale {
        /// Which.
        index: usize,
        /// How many pods it should have.
        replicas: i32,
    },
    /// Set annotations of a replica set, by index.
    Annotate {
        /// Which.
        index: usize,
        /// What to set.
        annotations: BTreeMap<String, String>,
    },
    /// Set annotations of the deployment itself.
    AnnotateSelf(BTreeMap<String, String>),
    /// Delete a replica set that history no longer needs, by index.
    Delete(usize),
    /// The name of the new replica set is taken by another template: count the collision and plan again.
    CountCollision,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps, in order.
    pub actions: Vec<Action>,
    /// What the status should say.
    pub status: DeploymentStatus,
    /// When to look again although nothing changes: the progress deadline.
    pub wake_after: Option<Duration>,
}

/// What a plan looks at.
pub(super) struct View<'a> {
    pub deployment: &'a Deployment,
    pub sets: &'a [&'a ReplicaSet],
    pub pods: &'a [&'a Pod],
    /// The replica set of the present template, by index.
    pub new: Option<usize>,
    /// The others, oldest first.
    pub old: Vec<usize>,
    pub now: Timestamp,
}

impl View<'_> {
    pub fn wanted(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1).max(0)
    }

    pub fn size(&self, index: usize) -> i32 {
        self.sets[index].spec.replicas.unwrap_or(1)
    }

    pub fn total_size(&self) -> i32 {
        (0..self.sets.len()).map(|index| self.size(index)).sum()
    }

    pub fn available(&self, index: usize) -> i32 {
        self.sets[index].status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }
}

/// Plans for a deployment that owns exactly these replica sets; `pods` are theirs.
pub fn plan(deployment: &Deployment, sets: &[&ReplicaSet], pods: &[&Pod], now: Timestamp) -> Plan {
    let new = find_new(deployment, sets);
    let mut old: Vec<usize> = (0..sets.len()).filter(|index| Some(*index) != new).collect();
    old.sort_by_key(|index| age_key(sets[*index]));
    let view = View { deployment, sets, pods, new, old, now };
    let mut actions = Vec::new();
    if deployment.metadata.deletion_timestamp.is_none() {
        act(&view, &mut actions);
    }
    let (status, wake_after) = status::status(&view);
    Plan { actions, status, wake_after }
}

fn act(view: &View<'_>, actions: &mut Vec<Action>) {
    let spec = &view.deployment.spec;
    let is_paused = spec.paused.unwrap_or(false);
    if is_paused || rolling::is_scaling_event(view) {
        rolling::scale(view, actions);
        if is_paused {
            history::clean_up(view, actions);
        }
        return;
    }
    history::number(view, actions);
    let strategy = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    if strategy == Some("Recreate") {
        recreate(view, actions);
    } else {
        rolling::roll(view, actions);
    }
    history::clean_up(view, actions);
}

/// All old pods go before the first new one comes.
fn recreate(view: &View<'_>, actions: &mut Vec<Action>) {
    let down = view.old.iter().filter(|index| view.size(**index) > 0);
    let before = actions.len();
    actions.extend(down.map(|index| Action::Scale { index: *index, replicas: 0 }));
    if actions.len() > before || old_pods_run(view) {
        return;
    }
    match view.new {
        None => actions.push(create_new(view, view.wanted())),
        Some(index) if view.size(index) != view.wanted() => {
            actions.push(Action::Scale { index, replicas: view.wanted() });
        }
        Some(_) => {}
    }
}

fn old_pods_run(view: &View<'_>) -> bool {
    let new_uid = view.new.and_then(|index| view.sets[index].metadata.uid.as_deref());
    let controller = |pod: &Pod| {
        let owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid)
    };
    view.pods.iter().any(|pod| !is_finished(pod) && controller(pod).as_deref() != new_uid)
}

/// A new replica set of the present template with `replicas` pods; or, where its name is taken, the collision.
pub(super) fn create_new(view: &View<'_>, replicas: i32) -> Action {
    let deployment = view.deployment;
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let name = format!("{}-{hash}", deployment.metadata.name.clone().unwrap_or_default());
    if view.sets.iter().any(|set| set.metadata.name.as_deref() == Some(&name)) {
        return Action::CountCollision;
    }
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.into(), hash);
    Action::Create(Box::new(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(history::annotations_of_new(view)),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }))
}

/// The replica set whose template is the deployment's, the oldest if there are several.
fn find_new(deployment: &Deployment, sets: &[&ReplicaSet]) -> Option<usize> {
    let wanted = without_hash(&deployment.spec.template);
    let same = |set: &ReplicaSet| set.spec.template.as_ref().is_some_and(|template| without_hash(template) == wanted);
    (0..sets.len()).filter(|index| same(sets[*index])).min_by_key(|index| age_key(sets[*index]))
}

fn age_key(set: &ReplicaSet) -> (Option<Timestamp>, Option<String>) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone())
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

/// A short name for a template: the same for equal templates, in letters that are safe in names.
fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Invariant: a pod template has string keys only, so it always serializes.
    let mut text = serde_json::to_vec(&without_hash(template)).unwrap_or_default();
    text.extend_from_slice(&collisions.to_le_bytes());
    // FNV-1a, 64 bits, folded to 50: ten letters.
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let letter = |at: u32| LETTERS[((hash >> (at * 6)) % LETTERS.len() as u64) as usize] as char;
    (0..10).map(letter).collect()
}

#[cfg(test)]
mod tests;
