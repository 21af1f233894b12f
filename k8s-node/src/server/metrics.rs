//! `GET /metrics`: what the node runs, under the kubelet's names.

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{
    metrics::Samples,
    status::{ApiError, ApiResult},
};

use crate::{agent::Shared, runtime::ContainerState};

/// The samples in the Prometheus text format.
pub(super) async fn samples(shared: &Arc<Shared>) -> ApiResult<String> {
    let sight = shared.observatory.look().await.map_err(ApiError::internal)?;
    let mut running_pods = 0;
    let mut containers: BTreeMap<&str, u64> = [("created", 0), ("exited", 0), ("running", 0)].into();
    for pod in sight.values() {
        let states = pod.containers.iter().map(|container| state(&container.state));
        let mut is_running = false;
        for state in states {
            is_running |= state == "running";
            *containers.entry(state).or_default() += 1;
        }
        running_pods += u64::from(is_running);
    }
    let mut out = Samples::default();
    let name = "kubelet_node_name";
    out.family(name, "gauge", "The node's name. The value is always 1.");
    out.sample(name, &[("node", &shared.node_name)], 1);
    out.single("kubelet_running_pods", "gauge", "Pods with a running container.", running_pods);
    let name = "kubelet_running_containers";
    out.family(name, "gauge", "Containers by the state that they are in.");
    for (state, count) in containers {
        out.sample(name, &[("container_state", state)], count);
    }
    let bound = shared.pods.on_node(&shared.node_name).len();
    out.single("kubelet_desired_pods", "gauge", "Pods that are bound to the node.", bound);
    Ok(out.into_text())
}

fn state(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
    }
}
