//! The status of a deployment: counts, availability, progress and its deadline.

use std::time::Duration;

use k8s_core::{
    api::{
        api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus},
        apimachinery::pkg::apis::meta::v1::Time,
    },
    env::Timestamp,
};

use super::{plan::View, rolling::bounds};

/// The status, and when to look again because of the progress deadline.
pub(super) fn status(view: &View<'_>) -> (DeploymentStatus, Option<Duration>) {
    let sum = |read: fn(&ReplicaSetStatus) -> i32| -> i32 {
        view.sets.iter().filter_map(|set| set.status.as_ref()).map(read).sum()
    };
    let old = view.deployment.status.clone().unwrap_or_default();
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let updated = view.new.and_then(|index| view.sets[index].status.as_ref()).map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: view.deployment.metadata.generation,
        replicas: Some(sum(|status| status.replicas)),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((view.total_size() - available).max(0)),
        terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let mut conditions = Conditions { list: old.conditions.clone().unwrap_or_default(), now: view.now };
    conditions.set_available(view, available);
    conditions.set_failure(view);
    let wake = conditions.set_progress(view, &old, &status);
    status.conditions = Some(conditions.list).filter(|list| !list.is_empty());
    (status, wake)
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_.as_deref() == Some(kind))
    }

    /// Sets a condition; its times move only when what they mark changes.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let now = Time(self.now);
        let known = self.get(kind).cloned();
        if known.as_ref().is_some_and(|c| c.status.as_deref() == Some(status) && c.reason.as_deref() == Some(reason)) {
            return;
        }
        let transition = known.filter(|c| c.status.as_deref() == Some(status)).and_then(|c| c.last_transition_time);
        self.remove(kind);
        self.list.push(DeploymentCondition {
            type_: Some(kind.into()),
            status: Some(status.into()),
            reason: Some(reason.into()),
            message: Some(message),
            last_update_time: Some(now.clone()),
            last_transition_time: transition.or(Some(now)),
        });
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_.as_deref() != Some(kind));
    }

    fn set_available(&mut self, view: &View<'_>, available: i32) {
        let (_, unavailable) = bounds(view.deployment, view.wanted());
        if available >= view.wanted() - unavailable {
            let message = "Deployment has minimum availability.".to_owned();
            self.set("Available", "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            self.set("Available", "False", "MinimumReplicasUnavailable", message);
        }
    }

    /// A replica set that cannot create pods makes its deployment say so.
    fn set_failure(&mut self, view: &View<'_>) {
        let conditions = view.sets.iter().filter_map(|set| set.status.as_ref()?.conditions.as_ref()).flatten();
        let failure = conditions
            .into_iter()
            .find(|c| c.type_.as_deref() == Some("ReplicaFailure") && c.status.as_deref() == Some("True"))
            .cloned();
        match failure {
            Some(failure) => {
                let reason = failure.reason.unwrap_or_default();
                self.set("ReplicaFailure", "True", &reason, failure.message.unwrap_or_default());
            }
            None => self.remove("ReplicaFailure"),
        }
    }

    fn set_progress(&mut self, view: &View<'_>, old: &DeploymentStatus, new: &DeploymentStatus) -> Option<Duration> {
        let deadline = view.deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
        let name = new_set_name(view);
        if is_complete(view, new) {
            self.set("Progressing", "True", "NewReplicaSetAvailable", format!("{name} has successfully progressed."));
            return None;
        }
        if has_progressed(old, new)
            || self.get("Progressing").is_none_or(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"))
        {
            // The times must move, so that the deadline counts from here.
            let transition = self
                .get("Progressing")
                .filter(|c| c.status.as_deref() == Some("True"))
                .and_then(|c| c.last_transition_time.clone());
            self.remove("Progressing");
            self.set("Progressing", "True", "ReplicaSetUpdated", format!("{name} is progressing."));
            if let (Some(transition), Some(last)) = (transition, self.list.last_mut()) {
                last.last_transition_time = Some(transition);
            }
        }
        self.check_deadline(Duration::from_secs(deadline.max(0) as u64), &name, view)
    }

    fn check_deadline(&mut self, deadline: Duration, name: &str, view: &View<'_>) -> Option<Duration> {
        if view.deployment.spec.paused.unwrap_or(false) {
            return None;
        }
        let since = self.get("Progressing")?.last_update_time.as_ref()?.0;
        let waited = Duration::from_secs(self.now.duration_since(since).as_secs().max(0) as u64);
        if waited < deadline {
            return Some(deadline - waited);
        }
        self.set("Progressing", "False", "ProgressDeadlineExceeded", format!("{name} has timed out progressing."));
        None
    }
}

fn new_set_name(view: &View<'_>) -> String {
    let set = view.new.and_then(|index| view.sets[index].metadata.name.as_deref());
    let own = view.deployment.metadata.name.as_deref().unwrap_or("");
    set.map_or_else(|| format!("Deployment {own:?}"), |set| format!("ReplicaSet {set:?}"))
}

/// Every pod is of the present template and available, and no old one is left.
fn is_complete(view: &View<'_>, status: &DeploymentStatus) -> bool {
    let wanted = Some(view.wanted());
    status.updated_replicas == wanted && status.replicas == wanted && status.available_replicas == wanted
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |value: Option<i32>| value.unwrap_or(0);
    let old_ones = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || old_ones(new) < old_ones(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}
