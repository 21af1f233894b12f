//! Pods that no node is concerned with: finished ones, and ones that never had a node.

use k8s_core::{
    api::api::core::v1::Pod,
    doc::Text,
    resource::Stored,
    selector::{FieldSelector, FieldTerm},
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler};

use super::plan::{Finished, surplus};
use crate::disruption_target::remove;

/// Pods on their way out that were never bound; nobody would confirm that they ended.
pub fn unscheduled() -> Controller<Unscheduled> {
    Controller::new("pod-garbage-collector-unscheduled", Unscheduled)
        .scope(InformerScope::field("spec.nodeName", ""))
        .workers(1)
}

/// Its reconciler.
pub struct Unscheduled;

impl Reconciler for Unscheduled {
    type Object = Pod;
    type Error = ApiError;

    async fn reconcile(&self, pod: Stored<Pod>, cx: Cx) -> Result<Next, ApiError> {
        if pod.object().meta.deleted.is_some() {
            remove(&cx, &pod).await?;
        }
        Ok(Next::Done)
    }
}

/// Removes the oldest of more than `limit` finished pods.
pub fn terminated(limit: usize) -> Controller<Terminated> {
    let differs = |phase: &str| FieldTerm { path: "status.phase".into(), value: phase.into(), negated: true };
    let terms = ["Pending", "Running", "Unknown"].map(differs).into();
    let scope = InformerScope { fields: FieldSelector { terms }, ..InformerScope::all() };
    Controller::new("pod-garbage-collector-terminated", Terminated { limit }).scope(scope).workers(1)
}

/// Its reconciler. Whichever pod it is called for, it looks at how many there are.
pub struct Terminated {
    limit: usize,
}

impl Reconciler for Terminated {
    type Object = Pod;
    type Error = ApiError;

    async fn reconcile(&self, _: Stored<Pod>, cx: Cx) -> Result<Next, ApiError> {
        let informer = cx.cached::<Pod>()?;
        if informer.dynamic().len() <= self.limit {
            return Ok(Next::Done);
        }
        let pods = informer.dynamic().list();
        let finished: Vec<Finished> = pods
            .iter()
            .map(|pod| Finished {
                evicted: pod.part::<Text>(&["status", "reason"]).is_some_and(|reason| reason == "Evicted"),
                created: pod.meta.created,
            })
            .collect();
        for index in surplus(&finished, self.limit) {
            remove(&cx, &Stored::new(pods[index].clone())?).await?;
        }
        Ok(Next::Done)
    }
}
