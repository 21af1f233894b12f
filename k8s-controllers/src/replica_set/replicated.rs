//! The kinds that keep a number of equal pods, each seen as a replica set.

use std::borrow::Cow;

use k8s_core::{
    api::{
        api::{
            apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
            core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus},
        },
        apimachinery::pkg::apis::meta::v1::LabelSelector,
    },
    resource::Resource,
};

/// A kind that the replica set plan can be asked about.
pub trait Replicated: Resource {
    /// The object as a replica set of the same name: what it wants, and what its status says.
    fn as_replica_set(&self) -> Cow<'_, ReplicaSet>;

    /// Takes the status over.
    fn take_status(&mut self, status: ReplicaSetStatus);
}

impl Replicated for ReplicaSet {
    fn as_replica_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn take_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Replicated for ReplicationController {
    fn as_replica_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition_of_set).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            },
            status,
        })
    }

    fn take_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition_of_controller).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        });
    }
}

fn condition_of_set(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: Some(condition.type_),
        status: Some(condition.status),
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

fn condition_of_controller(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        type_: condition.type_.unwrap_or_default(),
        status: condition.status.unwrap_or_default(),
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_replication_controller_is_a_replica_set_with_a_plain_selector() {
        let controller: ReplicationController = from_value(json!({
            "metadata": {"name": "rc", "namespace": "n", "generation": 2},
            "spec": {"replicas": 3, "minReadySeconds": 5, "selector": {"app": "web"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
            "status": {"replicas": 1, "conditions": [{"type": "ReplicaFailure", "status": "True"}]}}))
        .unwrap();
        let set = controller.as_replica_set();
        assert_eq!((set.spec.replicas, set.spec.min_ready_seconds), (Some(3), Some(5)));
        assert_eq!(set.spec.selector.match_labels.as_ref().unwrap()["app"], "web");
        let status = set.status.clone().unwrap();
        assert_eq!(status.conditions.as_ref().map(Vec::len), Some(1));
        let mut back = controller.clone();
        back.take_status(ReplicaSetStatus { ready_replicas: Some(2), terminating_replicas: Some(1), ..status });
        let expected = ReplicationControllerStatus { ready_replicas: Some(2), ..controller.status.clone().unwrap() };
        assert_eq!(back.status, Some(expected));
    }
}
