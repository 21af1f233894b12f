//! The replication controller: what replica sets grew out of, run by their plan.

use k8s_core::api::api::core::v1::{Pod, ReplicationController};
use k8s_reconcile::Controller;

use crate::replica_set::Replicas;

/// The replication controller's controller, ready to start.
pub fn controller() -> Controller<Replicas<ReplicationController>> {
    Controller::new("replication-controller", Replicas::default()).owns::<Pod>().workers(5)
}
