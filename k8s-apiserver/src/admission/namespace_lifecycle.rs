//! Nothing is created in a namespace that is not there or is going; the first namespaces stay.

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    request::Verb,
    status::{ApiError, ApiResult, StatusCause},
};

use super::{Admission, AdmissionRequest};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, _: Option<&Doc>) -> ApiResult<()> {
        let (target, info) = (request.target, request.info);
        let is_namespace = info.group.is_empty() && info.plural == "namespaces";
        if is_namespace && request.verb == Verb::Delete && IMMORTAL.contains(&target.name.as_str()) {
            let why = "this namespace may not be deleted";
            return Err(ApiError::forbidden("namespaces", "", &target.name, why));
        }
        if !info.is_namespaced() || request.verb != Verb::Create {
            return Ok(());
        }
        let Some(namespace) = request.reads.find("", "namespaces", "", &target.namespace).await? else {
            return Err(ApiError::not_found("namespaces", "", &target.namespace));
        };
        if namespace.meta.deleted.is_none() {
            return Ok(());
        }
        let name = &target.namespace;
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let message = format!("namespace {name} is being terminated");
        let cause = StatusCause { reason: "NamespaceTerminating".into(), message, field: "metadata.namespace".into() };
        Err(ApiError::forbidden(&info.plural, &info.group, &target.name, why).cause(cause))
    }
}
