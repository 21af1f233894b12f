//! `DefaultTolerationSeconds`: pods stay five minutes on a node that has gone quiet, unless they say otherwise.

use async_trait::async_trait;
use k8s_core::{doc, doc::Doc, request::Verb, status::ApiResult};

use super::{Admission, AdmissionRequest};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The plugin.
pub struct DefaultTolerations;

#[async_trait]
impl Admission for DefaultTolerations {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(pod) = request.edit() else { return Ok(()) };
        let tolerations = pod.entry_at(&["spec", "tolerations"]);
        if tolerations.as_array().is_none() {
            *tolerations = Doc::Array(Vec::new());
        }
        let Some(list) = tolerations.as_array_mut() else { return Ok(()) };
        for taint in TAINTS {
            if !list.iter().any(|toleration| tolerates(toleration, taint)) {
                list.push(
                    doc!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
                );
            }
        }
        Ok(())
    }
}

/// Whether a toleration is about this taint with the effect `NoExecute`, or about all of either.
fn tolerates(toleration: &Doc, taint: &str) -> bool {
    let (key, effect) = (toleration.str_at(&["key"]), toleration.str_at(&["effect"]));
    (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
}
