//! `DenyServiceExternalIPs`: nobody draws the traffic of others' addresses to a Service of theirs.
//!
//! Upstream has the plugin and leaves it off. Here it is on, as all are: an address in `externalIPs` is taken from
//! whoever had it, on every node, by anybody who may write a Service.

use async_trait::async_trait;
use k8s_core::{doc::Doc, request::Verb, status::ApiResult};

use super::{Admission, AdmissionRequest};

/// The plugin.
pub struct DenyServiceExternalIps;

#[async_trait]
impl Admission for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.verb, Verb::Create | Verb::Update) && request.is_on("", "services")
    }

    /// What a Service has it keeps, or gives up.
    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let had = request.old.map_or(&[][..], external);
        let wanted = request.object().map_or(&[][..], external);
        if wanted.iter().all(|address| had.contains(address)) {
            return Ok(());
        }
        Err(request.forbidden("Use of external IPs is denied by admission control"))
    }
}

fn external(service: &Doc) -> &[Doc] {
    service.at(&["spec", "externalIPs"]).map_or(&[], Doc::items)
}
