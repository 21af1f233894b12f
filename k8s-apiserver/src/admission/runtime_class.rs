//! `RuntimeClass`: a pod's class must exist. The kind is not served yet, so no class does, and a pod that wants one is
//! refused rather than run by another runtime than it asked for.

use async_trait::async_trait;
use k8s_core::{request::Verb, status::ApiResult};

use super::{Admission, AdmissionRequest};

/// The plugin.
pub struct RuntimeClass;

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "pods")
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        match request.object().map_or("", |pod| pod.str_at(&["spec", "runtimeClassName"])) {
            "" => Ok(()),
            class => Err(request.forbidden(format!("pod rejected: RuntimeClass {class:?} not found"))),
        }
    }
}
