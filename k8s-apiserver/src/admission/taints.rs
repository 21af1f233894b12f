//! `TaintNodesByCondition`: a new node gets no pods until the node lifecycle controller finds it ready and lifts the
//! taint.

use async_trait::async_trait;
use k8s_core::{doc, doc::Doc, request::Verb, status::ApiResult};

use super::{Admission, AdmissionRequest};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodes;

#[async_trait]
impl Admission for TaintNodes {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "nodes")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(node) = request.edit() else { return Ok(()) };
        let taints = node.entry_at(&["spec", "taints"]);
        if taints.as_array().is_none() {
            *taints = Doc::Array(Vec::new());
        }
        let Some(list) = taints.as_array_mut() else { return Ok(()) };
        if !list.iter().any(|taint| taint.str_at(&["key"]) == NOT_READY && taint.str_at(&["effect"]) == "NoSchedule") {
            list.push(doc!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
