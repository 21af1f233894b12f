//! A host port can be claimed once per node.

use crate::{
    framework::{ClusterChange, Filter, Reject},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The filter.
pub struct NodePorts;

impl Filter for NodePorts {
    type State = ();

    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded, ClusterChange::PodRemoved]
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        Ok((!pod.ports.is_empty()).then_some(()))
    }

    fn filter(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        let taken = pod.ports.iter().any(|port| node.ports().iter().any(|claimed| claimed.conflicts(port)));
        if taken { Err(Reject::new("node(s) didn't have free ports for the requested pod ports")) } else { Ok(()) }
    }
}
