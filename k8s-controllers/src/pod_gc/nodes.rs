//! Pods of nodes that are gone, or marked as out of service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    api::api::core::v1::{Node, Pod, Taint},
    doc::Text,
    object::{Object, ObjectKey},
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    informer::{Delta, DynamicInformer},
};
use parking_lot::Mutex;

use super::plan::{OUT_OF_SERVICE, QUARANTINE, is_out_of_service};
use crate::{
    disruption_target::{Why, mark, remove},
    pod_state::is_finished,
};

/// The part that looks at nodes, ready to start.
pub fn controller() -> Controller<NodesOfPods> {
    Controller::new("pod-garbage-collector", NodesOfPods::default())
        .watches::<Pod>(InformerScope::all(), troubled_node_of_pod)
        .workers(1)
}

/// The pod's node, if it is not there, or if it is marked and the pod is on its way out.
fn troubled_node_of_pod(delta: &Delta, nodes: &DynamicInformer) -> Vec<ObjectKey> {
    let Some(pod) = delta.new.as_ref().filter(|pod| !pod.meta.node_name.is_empty()) else { return Vec::new() };
    let key = ObjectKey::new("", pod.meta.node_name.clone());
    let is_troubled = match nodes.get(&key) {
        None => true,
        Some(node) => pod.meta.deleted.is_some() && is_marked(&node),
    };
    is_troubled.then_some(key).into_iter().collect()
}

fn is_marked(node: &Arc<Object>) -> bool {
    let taints = node.part::<Vec<Taint>>(&["spec", "taints"]).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Its reconciler.
#[derive(Default)]
pub struct NodesOfPods {
    /// Since when nodes that pods name are missing, on the monotonic clock.
    missing: Mutex<BTreeMap<Text, Duration>>,
}

impl Reconciler for NodesOfPods {
    type Object = Node;
    type Error = ApiError;

    async fn reconcile(&self, node: Stored<Node>, cx: Cx) -> Result<Next, ApiError> {
        self.missing.lock().remove(node.name());
        if !is_out_of_service(&node) {
            return Ok(Next::Done);
        }
        let why = Why { reason: "DeletionByPodGC", message: "PodGC: node is out of service", phase: Some("Failed") };
        for pod in cx.cached::<Pod>()?.on_node(node.name()) {
            if pod.object().meta.deleted.is_some() {
                take_away(&cx, &pod, why).await?;
            }
        }
        Ok(Next::Done)
    }

    async fn gone(&self, key: ObjectKey, cx: Cx) -> Result<Next, ApiError> {
        let orphans = cx.cached::<Pod>()?.on_node(&key.name);
        if orphans.is_empty() {
            self.missing.lock().remove(&key.name);
            return Ok(Next::Done);
        }
        let now = cx.env().monotonic();
        let since = *self.missing.lock().entry(key.name.clone()).or_insert(now);
        let left = QUARANTINE.saturating_sub(now - since);
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        // The cache may be behind, and a pod that is removed does not come back: the server decides.
        if cx.client().all::<Node>().find(&key.name).await?.is_some() {
            return Ok(Next::Done);
        }
        let why = Why { reason: "DeletionByPodGC", message: "PodGC: node no longer exists", phase: Some("Failed") };
        for pod in &orphans {
            take_away(&cx, pod, why).await?;
        }
        Ok(Next::Done)
    }
}

async fn take_away(cx: &Cx, pod: &Stored<Pod>, why: Why) -> Result<(), ApiError> {
    if !is_finished(pod) {
        mark(cx, pod, why).await?;
    }
    remove(cx, pod).await
}
