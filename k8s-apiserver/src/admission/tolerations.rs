//! Pods tolerate a node that is briefly away; new nodes take no pods before they are ready.

use async_trait::async_trait;
use k8s_core::{doc::Doc, request::Verb, status::ApiResult};
use serde_json::json;

use super::{Admission, AdmissionRequest};

/// How long pods stay on a node that is not ready or not reachable, unless they say otherwise.
const SECONDS: i64 = 300;

/// The plugin that gives pods their default tolerations.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &AdmissionRequest<'_>, doc: &mut Doc) -> ApiResult<()> {
        if request.info.kind != "Pod" || !request.target.subresource.is_empty() || request.verb != Verb::Create {
            return Ok(());
        }
        for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerations = doc.at(&["spec", "tolerations"]).map(Doc::items).unwrap_or_default();
            let covers = |toleration: &Doc| {
                let (key, effect) = (toleration.str_at(&["key"]), toleration.str_at(&["effect"]));
                (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
            };
            if !tolerations.iter().any(covers) {
                let toleration =
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
                push(doc, &["spec", "tolerations"], &toleration);
            }
        }
        Ok(())
    }
}

/// The plugin that keeps pods off a node until something says that it is ready.
pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    /// The node agent registers ready nodes; nothing removes the taint of others yet, so only nodes that say that
    /// they are not ready are tainted.
    async fn mutate(&self, request: &AdmissionRequest<'_>, doc: &mut Doc) -> ApiResult<()> {
        if request.info.kind != "Node" || !request.target.subresource.is_empty() || request.verb != Verb::Create {
            return Ok(());
        }
        let conditions = doc.at(&["status", "conditions"]).map(Doc::items).unwrap_or_default();
        let is_unready = |condition: &Doc| condition.str_at(&["type"]) == "Ready" && condition.str_at(&["status"]) != "True";
        if conditions.iter().any(is_unready) {
            push(doc, &["spec", "taints"], &json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

fn push(doc: &mut Doc, path: &[&str], value: &serde_json::Value) {
    let Ok(value) = Doc::from_serialize(value) else { return };
    match doc.at_mut(path).and_then(Doc::as_array_mut) {
        Some(list) => list.push(value),
        None => doc.set_at(path, Doc::Array(vec![value])),
    }
}
