//! Collections: what a list, a watch or a deletion of many is about.

use k8s_core::{
    object::Object,
    request::{ApiRequest, ApiResponse, ObjectList, Options, ResponseBody, Target, Verb},
    status::{ApiError, ApiResult},
};

use super::operation::Operation;
use crate::cache::Filter;

impl Operation<'_> {
    /// What is wanted of the collection. 400 for a field that the kind cannot be selected by.
    pub fn filter(&self) -> ApiResult<Filter> {
        for term in &self.options().field_selector.terms {
            if !self.info.is_selectable(&term.path) {
                let message = format!("field label not supported: {}", term.path);
                return Err(ApiError::bad_request(message));
            }
        }
        let Some(view) = self.view() else {
            let mut filter = Filter::new(self.target(), self.options());
            let selects = !filter.labels.is_everything() || !filter.fields.is_everything();
            if self.kind.converter.is_some() && selects {
                filter.version = self.info.api_version().into();
            }
            return Ok(filter);
        };
        let mut options = self.options().clone();
        for term in &mut options.field_selector.terms {
            term.path = view.stored_path(&term.path).into_owned();
        }
        Ok(Filter::new(self.target(), &options))
    }

    /// Deletes every object that the selectors match, one after the other, and answers them as they were.
    pub async fn delete_collection(&mut self) -> ApiResult<ApiResponse> {
        let filter = self.filter()?;
        let page = Options {
            limit: self.options().limit,
            continue_token: self.options().continue_token.clone(),
            resource_version: self.options().resource_version,
            resource_version_match: self.options().resource_version_match,
            ..Options::default()
        };
        let found = self.listed(&filter, &page).await?;
        for object in &found.items {
            match self.delete_one(object).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(ApiResponse::ok(ResponseBody::List(ObjectList { revision: self.server.cache.revision(), ..found })))
    }

    async fn delete_one(&mut self, object: &Object) -> ApiResult<()> {
        let request = ApiRequest {
            verb: Verb::Delete,
            target: Target {
                namespace: object.meta.namespace.clone(),
                name: object.meta.name.clone(),
                ..self.target().clone()
            },
            options: Options {
                // What was listed is deleted, not its successor of the same name.
                precondition_uid: Some(object.meta.uid.clone()),
                dry_run: self.options().dry_run,
                propagation: self.options().propagation,
                grace_period_seconds: self.options().grace_period_seconds,
                ..Options::default()
            },
            fence: self.request.fence.clone(),
            ..ApiRequest::default()
        };
        let mut one = Operation { request: &request, warnings: Vec::new(), ..*self };
        let done = one.delete().await.map(drop);
        let mut warnings = one.warnings;
        self.warnings.append(&mut warnings);
        done
    }
}
