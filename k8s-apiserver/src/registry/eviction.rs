//! Evicting a pod: a deletion that asks first. No kind that could object is served yet, so nothing does.

use k8s_core::{
    doc::Doc,
    path::read_delete_options,
    request::{ApiRequest, ApiResponse, Options, ResourceType, ResponseBody, Verb},
    status::{ApiError, ApiResult, Status},
    structure::Mode,
};

use super::operation::{Operation, accept_type, metadata};

impl Operation<'_> {
    /// Deletes the target pod as an `Eviction` says.
    pub async fn evict(&mut self, mut eviction: Doc) -> ApiResult<ApiResponse> {
        accept_type(&mut eviction, &ResourceType::new("policy", "v1", "evictions"), "Eviction")?;
        let schema = self.server.registry.schemas().schema("policy", "v1", "Eviction");
        let schema = schema.ok_or_else(|| ApiError::internal("the kind Eviction has no schema"))?;
        self.check(&schema, &mut eviction, Mode::Whole)?;
        let name = metadata(&eviction, "name");
        if !name.is_empty() && *name != *self.target().name {
            return Err(ApiError::bad_request(format!("name in URL does not match name in Eviction object: {name}")));
        }
        let mut options = Options { dry_run: self.options().dry_run, ..Options::default() };
        if let Some(wanted) = eviction.get("deleteOptions") {
            read_delete_options(&mut options, &wanted.to_json())?;
        }
        let mut target = self.target().clone();
        target.subresource = Default::default();
        let fence = self.request.fence.clone();
        let request = ApiRequest { verb: Verb::Delete, target, options, fence, ..ApiRequest::default() };
        let mut deletion = Operation { request: &request, warnings: Vec::new(), ..*self };
        deletion.delete().await?;
        let mut warnings = deletion.warnings;
        self.warnings.append(&mut warnings);
        Ok(ApiResponse::created(ResponseBody::Status(Status { code: 201, ..Status::success() })))
    }
}
