//! Cordoned nodes take no new pods, unless they tolerate it.

use crate::{
    framework::{ClusterChange, Filter, Reject},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};
use k8s_core::{api::api::core::v1::Taint, toleration::tolerates};

/// The filter.
pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    /// Whether the pod tolerates a cordon.
    type State = bool;

    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded, ClusterChange::NodeTaints, ClusterChange::PodItself]
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Result<Option<bool>, Reject> {
        let cordon =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Default::default() };
        Ok(Some(pod.tolerations.iter().any(|toleration| tolerates(toleration, &cordon))))
    }

    fn filter(&self, tolerated: &bool, _: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        if node.is_unschedulable() && !tolerated { Err(Reject::new("node(s) were unschedulable")) } else { Ok(()) }
    }
}
