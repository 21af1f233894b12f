//! `GET /stats/summary`: what pods use, as far as the runtime measures it.

use std::sync::Arc;

use k8s_core::status::{ApiError, ApiResult};
use serde_json::{Value, json};

use crate::{
    agent::Shared,
    runtime::{ContainerState, ContainerStats},
};

/// The summary. A container that ended meanwhile is left out.
pub(super) async fn summary(shared: &Arc<Shared>) -> ApiResult<Value> {
    let stats = shared.runtime.stats().ok_or_else(|| ApiError::not_implemented("figures of this container runtime"))?;
    let sight = shared.observatory.look().await.map_err(ApiError::internal)?;
    let now = shared.env.now().to_string();
    let mut pods = vec![];
    for pod in sight.values() {
        let Some(sandbox) = pod.sandboxes.first() else { continue };
        let mut containers = vec![];
        for container in pod.containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })) {
            if let Ok(usage) = stats.container(&container.id).await {
                let mut figures = figures(&usage, &now);
                figures["name"] = json!(container.name);
                containers.push(figures);
            }
        }
        let mut entry = json!({
            "podRef": {"name": sandbox.name, "namespace": sandbox.namespace, "uid": sandbox.uid},
            "startTime": sandbox.created_at.to_string(),
            "containers": containers,
        });
        if let Ok(whole) = stats.sandbox(&sandbox.id).await {
            let usage = figures(&whole.usage, &now);
            entry["cpu"] = usage["cpu"].clone();
            entry["memory"] = usage["memory"].clone();
            entry["process_stats"] = json!({"process_count": whole.usage.pids});
            if let (Some(received), Some(sent)) = (whole.network_received_bytes, whole.network_sent_bytes) {
                entry["network"] = json!({"time": now, "rxBytes": received, "txBytes": sent});
            }
        }
        pods.push(entry);
    }
    Ok(json!({"node": {"nodeName": shared.node_name}, "pods": pods}))
}

fn figures(usage: &ContainerStats, now: &str) -> Value {
    json!({
        "cpu": {"time": now, "usageCoreNanoSeconds": usage.cpu_usage_ns},
        "memory": {
            "time": now,
            "usageBytes": usage.memory_usage_bytes,
            "workingSetBytes": usage.memory_working_set_bytes,
            "rssBytes": usage.memory_rss_bytes,
            "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults,
        },
        "rootfs": {"time": now, "usedBytes": usage.writable_layer_bytes},
    })
}
