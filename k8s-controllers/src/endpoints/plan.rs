//! The Endpoints of a service, as a pure function of the service and its pods.

use std::collections::BTreeMap;

use k8s_core::api::{
    api::core::v1::{
        EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    pod_state::{is_finished, is_ready},
    service_pods::{address, families, is_excluded, is_headless, publishes_unready, target_port},
};

/// How many addresses an object holds at most; the rest is left out, and an annotation says so.
pub const MAX_ADDRESSES: usize = 1000;
/// Says that addresses were left out.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The label that names who manages the object.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// What this controller puts there.
pub const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRUNCATED: &str = "truncated";

/// The object as it should be; `None` if it is so, or if it is somebody else's business (the service selects no pods).
pub fn plan(service: &Service, pods: &[&Pod], present: Option<&Endpoints>) -> Option<Endpoints> {
    if is_excluded(service) || service.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut subsets = subsets(service, pods);
    let is_truncated = truncate(&mut subsets);
    let known = present.map(|present| present.metadata.clone()).unwrap_or_default();
    let mut annotations = known.annotations.clone().unwrap_or_default();
    match is_truncated {
        true => drop(annotations.insert(OVER_CAPACITY.into(), TRUNCATED.into())),
        false => drop(annotations.remove(OVER_CAPACITY)),
    }
    let wanted = Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..known
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    };
    present.is_none_or(|present| differs(&wanted, present)).then_some(wanted)
}

fn differs(wanted: &Endpoints, present: &Endpoints) -> bool {
    let annotations = |endpoints: &Endpoints| endpoints.metadata.annotations.clone().unwrap_or_default();
    wanted.subsets.as_deref().unwrap_or_default() != present.subsets.as_deref().unwrap_or_default()
        || wanted.metadata.labels != present.metadata.labels
        || annotations(wanted) != annotations(present)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    match is_headless(service) {
        true => drop(labels.insert(HEADLESS.into(), String::new())),
        false => drop(labels.remove(HEADLESS)),
    }
    labels
}

/// Name, number, protocol and application protocol of one port: what pods are grouped by.
type PortKey = (String, i32, String, Option<String>);

/// Pods whose ports resolve alike share a subset; addresses are in order, so that nothing is written for nothing.
fn subsets(service: &Service, pods: &[&Pod]) -> Vec<EndpointSubset> {
    let family = families(service).into_iter().next().unwrap_or_default();
    let accepts_unready = publishes_unready(service);
    let belongs = |pod: &&&Pod| !is_finished(pod) && (accepts_unready || pod.metadata.deletion_timestamp.is_none());
    let mut groups: BTreeMap<Vec<PortKey>, [BTreeMap<String, EndpointAddress>; 2]> = BTreeMap::new();
    for pod in pods.iter().filter(belongs) {
        let (Some(ip), Some(ports)) = (address(pod, &family), ports(service, pod)) else { continue };
        let is_ready = accepts_unready || is_ready(pod);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        groups.entry(ports).or_default()[usize::from(is_ready)].insert(format!("{ip}/{uid}"), entry(service, pod, ip));
    }
    let list = |addresses: BTreeMap<String, EndpointAddress>| {
        let all: Vec<EndpointAddress> = addresses.into_values().collect();
        (!all.is_empty()).then_some(all)
    };
    let subset = |(ports, [unready, ready]): (Vec<PortKey>, [BTreeMap<_, _>; 2])| EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(unready),
        ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
    };
    groups.into_iter().map(subset).collect()
}

/// The ports of one pod; `None` if the service has ports and the pod none of them. A headless service needs none.
fn ports(service: &Service, pod: &Pod) -> Option<Vec<PortKey>> {
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if listed.is_empty() {
        return is_headless(service).then(Vec::new);
    }
    let key = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((port.name.clone().unwrap_or_default(), target_port(port, pod)?, protocol, port.app_protocol.clone()))
    };
    let mut ports: Vec<PortKey> = listed.iter().filter_map(key).collect();
    ports.sort();
    (!ports.is_empty()).then_some(ports)
}

fn port((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    EndpointPort { name: (!name.is_empty()).then_some(name), port, protocol: Some(protocol), app_protocol }
}

fn entry(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.as_ref();
    let is_named = spec.is_some_and(|spec| spec.subdomain == service.metadata.name);
    EndpointAddress {
        ip,
        hostname: spec.and_then(|spec| spec.hostname.clone()).filter(|_| is_named),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}

/// Leaves out what is too much, unready addresses first, from each subset in proportion. Whether it did.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let unready: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + unready <= MAX_ADDRESSES {
        return false;
    }
    let only_ready = ready > MAX_ADDRESSES;
    let (total, room) = if only_ready { (ready, MAX_ADDRESSES) } else { (unready, MAX_ADDRESSES - ready) };
    let mut left = room;
    for subset in subsets {
        if only_ready {
            subset.not_ready_addresses = None;
        }
        let list = if only_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let Some(addresses) = list else { continue };
        addresses.truncate((addresses.len() * room).div_ceil(total).min(left));
        left -= addresses.len();
        if addresses.is_empty() {
            *list = None;
        }
    }
    true
}

#[cfg(test)]
mod tests;
