//! What the endpoint controllers ask of a service and of a pod behind it.

use std::collections::BTreeMap;

use k8s_core::api::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

#[cfg(feature = "service")]
pub(crate) use changes::services_of_pod;

/// Whether the service has no address of its own: its name leads to its pods.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Services without a selector, and external names, are somebody else's.
pub(crate) fn is_excluded(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return true };
    spec.type_.as_deref() == Some("ExternalName") || spec.selector.as_ref().is_none_or(BTreeMap::is_empty)
}

/// The address families of the service, its own first.
pub(crate) fn families(service: &Service) -> Vec<String> {
    let listed = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if listed.is_empty() { vec!["IPv4".into()] } else { listed }
}

/// The pod's address of a family.
pub(crate) fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    let all = listed.chain(status.pod_ip.clone());
    let is_family = |ip: &String| ip.contains(':') == (family == "IPv6");
    all.into_iter().find(|ip| !ip.is_empty() && is_family(ip))
}

/// Whether pods count as ready for this service before they are.
pub(crate) fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The pod's own port behind a service port; a name is looked up in the pod's containers.
pub(crate) fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let named = |p: &&k8s_core::api::api::core::v1::ContainerPort| {
        p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(named).map(|port| port.container_port)
}

#[cfg(feature = "service")]
mod changes {
    use std::sync::Arc;

    use k8s_core::{
        doc::Text,
        object::{Object, ObjectKey},
        selector::Labels,
    };
    use k8s_reconcile::informer::{Delta, DynamicInformer};

    use super::*;

    /// Services whose selector matches the pod as it was or as it is, if anything that shows in their endpoints changed.
    pub(crate) fn services_of_pod(delta: &Delta, services: &DynamicInformer) -> Vec<ObjectKey> {
        let selects = |service: &Arc<Object>| {
            let selector = service.part::<BTreeMap<Text, Text>>(&["spec", "selector"]).unwrap_or_default();
            let matches = |pod: &Arc<Object>| selector.iter().all(|(k, v)| pod.meta.label(k) == Some(v));
            !selector.is_empty() && delta.old.iter().chain(&delta.new).any(matches)
        };
        let services = services.list_in(&delta.object().meta.namespace).into_iter().filter(selects);
        let services: Vec<ObjectKey> = services.map(|service| service.meta.key()).collect();
        // Most pods are behind no service: only those that are get decoded.
        match (&delta.old, &delta.new) {
            (Some(old), Some(new)) if !services.is_empty() && shown(old) == shown(new) => Vec::new(),
            _ => services,
        }
    }

    /// What of a pod shows in endpoints, cheaply compared.
    fn shown(object: &Object) -> impl PartialEq {
        let pod = object.typed::<Pod>().ok();
        let status = pod.as_ref().and_then(|pod| pod.status.clone());
        let ready = pod.as_ref().is_some_and(|pod| crate::pod_state::is_ready(pod));
        let finished = pod.as_ref().is_some_and(|pod| crate::pod_state::is_finished(pod));
        let addresses = status.map(|status| (status.pod_ip, status.pod_ips));
        (ready, finished, addresses, object.meta.labels.clone(), object.meta.deleted, object.meta.node_name.clone())
    }
}
