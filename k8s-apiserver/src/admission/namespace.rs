//! `NamespaceLifecycle`: nothing is created in a namespace that is not there or is ending, and some never end.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    request::{Target, Verb},
    status::{ApiError, ApiResult, StatusCause},
};

use super::{Admission, AdmissionRequest, Cluster};

/// The namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.verb {
            Verb::Delete => request.is_on("", "namespaces"),
            Verb::Create => request.info.is_namespaced(),
            _ => false,
        }
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        if request.verb == Verb::Delete {
            let immortal = IMMORTAL.contains(&request.target.name.as_str());
            return if immortal { Err(request.forbidden("this namespace may not be deleted")) } else { Ok(()) };
        }
        check_namespace(request.cluster, request.info, request.target).await.map(drop)
    }
}

/// The namespace of something that is to be created; 404 if there is none, 403 if it is ending.
pub(crate) async fn check_namespace(cluster: &Cluster, info: &ResourceInfo, target: &Target) -> ApiResult<Arc<Object>> {
    let name = &target.namespace;
    let key = ObjectKey::new("", name.clone());
    let namespace = match cluster.get("", "v1", "namespaces", &key) {
        Some(namespace) => namespace,
        None => {
            let fresh = cluster.fresh("", "v1", "namespaces", &key).await?;
            fresh.ok_or_else(|| ApiError::not_found("namespaces", "", name))?
        }
    };
    // What is about access must work to the end: who deletes a namespace may look at it.
    if namespace.meta.deleted.is_none() || info.plural == "localsubjectaccessreviews" {
        return Ok(namespace);
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    Err(ApiError::forbidden(&info.plural, &info.group, &target.name, why).cause(StatusCause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    }))
}
