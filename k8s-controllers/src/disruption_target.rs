//! Telling a pod why the control plane takes it away, before it does.
//!
//! Follows upstream's pod disruption conditions: whoever counts failures (a Job, say) can tell these from the pod's own.

use k8s_core::{
    api::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time},
    doc::Doc,
    request::{Options, PatchKind, Target},
    resource::{Resource, Stored},
    status::ApiError,
};
use k8s_reconcile::Cx;
use serde_json::json;

/// What the `DisruptionTarget` condition says.
#[derive(Debug, Clone, Copy)]
pub struct Why {
    /// For programs.
    pub reason: &'static str,
    /// For people.
    pub message: &'static str,
    /// The phase to end the pod with, where no node is left to say one.
    pub phase: Option<&'static str>,
}

/// Writes the condition. A pod that is gone needs none.
pub async fn mark(cx: &Cx, pod: &Stored<Pod>, why: Why) -> Result<(), ApiError> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": why.reason, "message": why.message,
        "lastTransitionTime": Time(cx.now()),
    });
    let mut patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    if let Some(phase) = why.phase {
        patch["status"]["phase"] = json!(phase);
    }
    let patch = Doc::from_serialize(&patch).map_err(ApiError::internal)?;
    let pods = cx.client().namespaced::<Pod>(pod.namespace());
    match pods.patch_status(pod.name(), PatchKind::Strategic, patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Removes a pod without waiting for a node that is not there. A pod that is gone is no error.
pub async fn remove(cx: &Cx, pod: &Stored<Pod>) -> Result<(), ApiError> {
    let options =
        Options { grace_period_seconds: Some(0), precondition_uid: Some(pod.uid().into()), ..Options::default() };
    let target = Target::one(Pod::resource(), pod.namespace(), pod.name());
    match cx.client().delete_object(target, options).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
