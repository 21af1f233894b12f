//! Get, list and watch: all from the cache.

use std::sync::Arc;

use k8s_core::{
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, ResponseBody, Target},
    status::{ApiError, ApiResult},
};

use super::Shared;
use crate::cache::{Filter, KindCache};

impl Shared {
    /// The cache of a stored kind.
    pub(super) fn kind(&self, info: &ResourceInfo) -> ApiResult<&Arc<KindCache>> {
        self.cache.kind(&info.resource()).ok_or_else(ApiError::no_such_path)
    }

    /// An object as the cache has it now.
    pub(super) fn cached(&self, info: &ResourceInfo, target: &Target) -> Option<Arc<Object>> {
        let kind = self.cache.kind(&info.resource())?;
        kind.state().get(&ObjectKey::new(target.namespace.clone(), target.name.clone())).cloned()
    }

    pub(super) async fn get(&self, info: &Arc<ResourceInfo>, request: &ApiRequest) -> ApiResult<ApiResponse> {
        let target = &request.target;
        let key = ObjectKey::new(target.namespace.clone(), target.name.clone());
        let found = self.cache.get(self.kind(info)?, &key, &request.options).await?;
        let object = found.ok_or_else(|| ApiError::not_found(&info.plural, &info.group, &target.name))?;
        Ok(ApiResponse::ok(ResponseBody::Object(object)))
    }

    pub(super) async fn list(&self, info: &Arc<ResourceInfo>, request: &ApiRequest) -> ApiResult<ApiResponse> {
        check_fields(info, request)?;
        let filter = Filter::new(&request.target, &request.options);
        let list = self.cache.list(self.kind(info)?, &filter, &request.options).await?;
        Ok(ApiResponse::ok(ResponseBody::List(list)))
    }

    pub(super) async fn watch(&self, info: &Arc<ResourceInfo>, request: &ApiRequest) -> ApiResult<ApiResponse> {
        check_fields(info, request)?;
        let filter = Filter::new(&request.target, &request.options);
        let stream = self.cache.watch(self.kind(info)?, filter, &request.options).await?;
        Ok(ApiResponse::ok(ResponseBody::Watch(stream)))
    }
}

fn check_fields(info: &ResourceInfo, request: &ApiRequest) -> ApiResult<()> {
    let unknown = request.options.field_selector.terms.iter().find(|term| !info.is_selectable(&term.path));
    unknown.map_or(Ok(()), |term| Err(ApiError::bad_request(format!("field label not supported: {}", term.path))))
}
