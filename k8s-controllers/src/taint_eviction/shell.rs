//! The taint eviction plan as a running controller. It looks at nodes; a node without `NoExecute` taints costs nothing.

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
    event::EventType,
    informer::{Delta, DynamicInformer},
};
use parking_lot::Mutex;

use super::plan::{NO_EXECUTE, Since, Verdict, note, verdict};
use crate::disruption_target::{Why, mark};

/// The taint eviction controller, ready to start.
pub fn controller() -> Controller<TaintEviction> {
    Controller::new("taint-eviction-controller", TaintEviction::default())
        .watches::<Pod>(InformerScope::all(), tainted_node_of_pod)
        .workers(5)
}

fn tainted_node_of_pod(delta: &Delta, nodes: &DynamicInformer) -> Vec<ObjectKey> {
    let Some(pod) = delta.new.as_ref().filter(|pod| !pod.meta.node_name.is_empty()) else { return Vec::new() };
    let key = ObjectKey::new("", pod.meta.node_name.clone());
    nodes.get(&key).filter(|node| !evicting(node).is_empty()).map(|_| key).into_iter().collect()
}

fn evicting(node: &Arc<Object>) -> Vec<Taint> {
    let mut taints = node.part::<Vec<Taint>>(&["spec", "taints"]).unwrap_or_default();
    taints.retain(|taint| taint.effect == NO_EXECUTE);
    taints
}

/// Its reconciler.
#[derive(Default)]
pub struct TaintEviction {
    /// Since when the taints of each tainted node are known.
    since: Mutex<BTreeMap<Text, Since>>,
}

impl Reconciler for TaintEviction {
    type Object = Node;
    type Error = ApiError;

    async fn reconcile(&self, node: Stored<Node>, cx: Cx) -> Result<Next, ApiError> {
        let taints = evicting(node.object());
        if taints.is_empty() {
            self.since.lock().remove(node.name());
            return Ok(Next::Done);
        }
        let since = self.since(node.name(), &taints, &cx);
        let mut wake: Option<Duration> = None;
        for pod in cx.cached::<Pod>()?.on_node(node.name()) {
            if pod.object().meta.deleted.is_some() {
                continue;
            }
            match verdict(&pod, &taints, &since, cx.now()) {
                Verdict::Stays => {}
                Verdict::GoesAfter(left) => wake = Some(wake.map_or(left, |wake| wake.min(left))),
                Verdict::Goes => evict(&cx, &pod).await?,
            }
        }
        Ok(wake.map_or(Next::Done, Next::After))
    }

    async fn gone(&self, key: ObjectKey, _: Cx) -> Result<Next, ApiError> {
        self.since.lock().remove(&key.name);
        Ok(Next::Done)
    }
}

impl TaintEviction {
    fn since(&self, node: &str, taints: &[Taint], cx: &Cx) -> Since {
        let mut all = self.since.lock();
        let since = all.entry(node.into()).or_default();
        note(since, taints, cx.now());
        since.clone()
    }
}

async fn evict(cx: &Cx, pod: &Stored<Pod>) -> Result<(), ApiError> {
    let message = format!("Marking for deletion Pod {}", pod.key());
    cx.event(pod.object(), EventType::Normal, "TaintManagerEviction", message).await;
    let why = Why {
        reason: "DeletionByTaintManager",
        message: "Taint manager: deleting due to NoExecute taint",
        phase: None,
    };
    mark(cx, pod, why).await?;
    cx.delete::<Pod>(pod.object()).await
}
