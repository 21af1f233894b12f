//! A pod that names its node goes there or nowhere.

use crate::{
    framework::{ClusterChange, Filter, Reject},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The filter.
pub struct NodeName;

impl Filter for NodeName {
    type State = ();

    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded]
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        Ok((!pod.node_name.is_empty()).then_some(()))
    }

    fn filter(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        if pod.node_name == node.name() {
            Ok(())
        } else {
            Err(Reject::new("node(s) didn't match the requested node name"))
        }
    }
}
