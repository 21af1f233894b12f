//! The endpoints plan as a running controller.

use k8s_core::{
    api::api::core::v1::{Endpoints, Pod, Service},
    object::ObjectKey,
    resource::Stored,
    selector::{LabelSelector, Labels},
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler, event::EventType, informer::Delta};

use super::plan::{MANAGED_BY, MANAGER, plan};
use crate::service_pods::services_of_pod;

/// Objects with this annotation are locks of old components and belong to no service.
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";

/// The endpoints controller, ready to start.
pub fn controller() -> Controller<EndpointsOfServices> {
    Controller::new("endpoint-controller", EndpointsOfServices)
        .watches::<Pod>(InformerScope::all(), services_of_pod)
        .watches::<Endpoints>(InformerScope::all(), |delta, _| service_of_endpoints(delta))
        .workers(5)
}

/// Endpoints that are gone may be needed still; those of others are left alone, also where there is no service (yet).
fn service_of_endpoints(delta: &Delta) -> Vec<ObjectKey> {
    let is_ours = delta.object().meta.label(MANAGED_BY) == Some(MANAGER);
    (delta.new.is_none() || is_ours).then(|| delta.object().meta.key()).into_iter().collect()
}

/// Its reconciler.
pub struct EndpointsOfServices;

impl Reconciler for EndpointsOfServices {
    type Object = Service;
    type Error = ApiError;

    async fn reconcile(&self, service: Stored<Service>, cx: Cx) -> Result<Next, ApiError> {
        let selected = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let pods = match selected.is_empty() {
            true => Vec::new(),
            false => cx.cached::<Pod>()?.select(service.namespace(), &LabelSelector::equal(selected)),
        };
        let present = cx.cached::<Endpoints>()?.get(&service.key());
        let pod_refs: Vec<&Pod> = pods.iter().map(|pod| &**pod.typed()).collect();
        let Some(wanted) = plan(&service, &pod_refs, present.as_ref().map(|present| &**present.typed())) else {
            return Ok(Next::Done);
        };
        let (reason, written) = match present {
            None => ("FailedToCreateEndpoint", cx.create(wanted).await),
            Some(present) => {
                let mut draft = present.draft();
                *draft = wanted;
                ("FailedToUpdateEndpoint", cx.update(draft).await)
            }
        };
        match written {
            Ok(_) => Ok(Next::Done),
            Err(error) if is_namespace_leaving(&error) => Ok(Next::Done),
            Err(error) => {
                if !error.is_conflict() {
                    let message = format!("Failed to write endpoints for service {}: {error}", service.key());
                    cx.event(service.object(), EventType::Warning, reason, message).await;
                }
                Err(error)
            }
        }
    }

    async fn gone(&self, key: ObjectKey, cx: Cx) -> Result<Next, ApiError> {
        if let Some(left) = cx.cached::<Endpoints>()?.get(&key)
            && !left.metadata.annotations.iter().flatten().any(|(name, _)| name == LOCK)
        {
            cx.delete::<Endpoints>(left.object()).await?;
        }
        Ok(Next::Done)
    }
}

fn is_namespace_leaving(error: &ApiError) -> bool {
    let causes = error.status().details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
