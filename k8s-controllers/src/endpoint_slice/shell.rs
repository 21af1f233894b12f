//! The endpoint slice plan as a running controller.

use k8s_core::{
    api::api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    object::ObjectKey,
    resource::Stored,
    selector::{LabelSelector, Labels},
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler, event::EventType, informer::Delta};

use super::plan::{MANAGED_BY, MANAGER, SERVICE_NAME, plan};
use crate::{ownership::controller_reference, service_pods::services_of_pod};

/// The endpoint slice controller, ready to start.
pub fn controller() -> Controller<EndpointSlices> {
    let managed = InformerScope { labels: LabelSelector::equal([(MANAGED_BY, MANAGER)]), ..Default::default() };
    Controller::new("endpointslice-controller", EndpointSlices)
        .watches::<Pod>(InformerScope::all(), services_of_pod)
        .watches::<EndpointSlice>(managed, |delta, _| service_of_slice(delta))
        .watches::<Node>(InformerScope::all(), |_, _| Vec::new())
        .workers(5)
}

fn service_of_slice(delta: &Delta) -> Vec<ObjectKey> {
    let meta = &delta.object().meta;
    meta.label(SERVICE_NAME).map(|name| ObjectKey::new(meta.namespace.clone(), name)).into_iter().collect()
}

/// Its reconciler.
pub struct EndpointSlices;

impl Reconciler for EndpointSlices {
    type Object = Service;
    type Error = ApiError;

    async fn reconcile(&self, service: Stored<Service>, cx: Cx) -> Result<Next, ApiError> {
        let selected = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let pods = match selected.is_empty() {
            true => Vec::new(),
            false => cx.cached::<Pod>()?.select(service.namespace(), &LabelSelector::equal(selected)),
        };
        let of_service = LabelSelector::equal([(SERVICE_NAME, service.name())]);
        let present = cx.cached::<EndpointSlice>()?.select(service.namespace(), &of_service);
        let nodes = cx.cached::<Node>()?;
        let pod_refs: Vec<&Pod> = pods.iter().map(|pod| &**pod.typed()).collect();
        let slice_refs: Vec<&EndpointSlice> = present.iter().map(|slice| &**slice.typed()).collect();
        let node = |name: &str| nodes.get(&ObjectKey::new("", name)).map(|node| (**node.typed()).clone());
        let plan = plan(&service, &pod_refs, node, &slice_refs);
        for mut slice in plan.create {
            slice.metadata.owner_references = Some(vec![controller_reference(&service)]);
            let created = cx.create(slice).await;
            tell(&cx, &service, created).await?;
        }
        for (index, wanted) in plan.update {
            let mut draft = present[index].draft();
            *draft = wanted;
            let updated = cx.update(draft).await;
            tell(&cx, &service, updated).await?;
        }
        for index in plan.delete {
            cx.delete::<EndpointSlice>(present[index].object()).await?;
        }
        Ok(Next::Done)
    }
}

async fn tell<T>(cx: &Cx, service: &Stored<Service>, outcome: Result<T, ApiError>) -> Result<T, ApiError> {
    if let Err(error) = &outcome
        && !error.is_conflict()
    {
        let message = format!("Error updating Endpoint Slices for Service {}: {error}", service.key());
        cx.event(service.object(), EventType::Warning, "FailedToUpdateEndpointSlices", message).await;
    }
    outcome
}
