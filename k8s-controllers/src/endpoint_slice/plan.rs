//! What slices a service needs, as a pure function of the service, its pods, their nodes and the present slices.
//!
//! Follows upstream's endpoint slice controller: at most [`MAX_ENDPOINTS`] endpoints in a slice, slices grouped by the
//! ports their pods resolve to, and as few writes as possible: what is right stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::api::{
    api::{
        core::v1::{Node, ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    pod_state::{is_finished, is_ready},
    service_pods::{address, families, is_excluded, is_headless, publishes_unready, target_port},
};

/// How many endpoints a slice holds at most.
pub const MAX_ENDPOINTS: usize = 100;
/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names who manages a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What this controller puts there.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What to do. Slices without a name are to be created with the service's name as prefix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Changed slices: the index of the present one, and what it should be.
    pub update: Vec<(usize, EndpointSlice)>,
    /// Slices that are no longer needed, by index.
    pub delete: Vec<usize>,
}

/// A group of endpoints that share address family and ports.
type Group = (String, Vec<PortKey>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PortKey {
    name: Option<String>,
    port: Option<i32>,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

/// Plans the slices of a service. `pods` are those that its selector matches; `present` are the slices that this
/// controller manages for it.
pub fn plan(service: &Service, pods: &[&Pod], node: impl Fn(&str) -> Option<Node>, present: &[&EndpointSlice]) -> Plan {
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for family in families(service) {
        for pod in pods.iter().filter(|pod| belongs(pod, service)) {
            let Some(address) = address(pod, &family) else { continue };
            let group = (family.clone(), ports(service, pod));
            wanted.entry(group).or_default().push(endpoint(service, pod, address, &node));
        }
        // A service with no pods still has one empty slice, so that watchers see that it was looked at.
        if wanted.keys().all(|(f, _)| *f != family) && !is_excluded(service) {
            wanted.insert((family, Vec::new()), Vec::new());
        }
    }
    if service.metadata.deletion_timestamp.is_some() || is_excluded(service) {
        wanted.clear();
    }
    let mut plan = Plan::default();
    let mut unused: BTreeSet<usize> = (0..present.len()).collect();
    for (group, endpoints) in wanted {
        let mine: Vec<usize> = unused.iter().copied().filter(|index| group_of(present[*index]) == group).collect();
        for index in &mine {
            unused.remove(index);
        }
        plan_group(service, &group, endpoints, present, &mine, &mut plan);
    }
    // Slices of groups that are gone are reused for new ones before any is deleted.
    for index in unused {
        match plan.create.pop() {
            Some(slice) => {
                let meta = present[index].metadata.clone();
                let same_family = slice.address_type == present[index].address_type;
                if same_family {
                    let labels = slice.metadata.labels.clone();
                    plan.update.push((index, EndpointSlice { metadata: ObjectMeta { labels, ..meta }, ..slice }));
                } else {
                    plan.create.push(slice);
                    plan.delete.push(index);
                }
            }
            None => plan.delete.push(index),
        }
    }
    plan
}

/// Keeps what is right in the slices that are there, fills their gaps, and opens new ones for the rest.
fn plan_group(
    service: &Service,
    group: &Group,
    endpoints: Vec<Endpoint>,
    present: &[&EndpointSlice],
    mine: &[usize],
    plan: &mut Plan,
) {
    let mut left: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (e.addresses.join(","), e)).collect();
    let mut kept: Vec<(usize, Vec<Endpoint>)> = Vec::new();
    for index in mine {
        let stay =
            present[*index].endpoints.iter().flatten().filter_map(|e| left.remove(&e.addresses.join(","))).collect();
        kept.push((*index, stay));
    }
    let mut rest: Vec<Endpoint> = left.into_values().collect();
    for (_, endpoints) in &mut kept {
        let room = MAX_ENDPOINTS.saturating_sub(endpoints.len()).min(rest.len());
        endpoints.extend(rest.drain(..room));
    }
    let is_needed = |at: usize, endpoints: &[Endpoint]| !endpoints.is_empty() || at == 0;
    for (at, (index, endpoints)) in kept.iter().enumerate() {
        if !is_needed(at, endpoints) {
            plan.delete.push(*index);
            continue;
        }
        let slice = slice(service, group, endpoints.clone(), present[*index].metadata.clone());
        if differs(&slice, present[*index]) {
            plan.update.push((*index, slice));
        }
    }
    let mut more = rest.chunks(MAX_ENDPOINTS).map(<[Endpoint]>::to_vec).collect::<Vec<_>>();
    if kept.is_empty() && more.is_empty() {
        more.push(Vec::new());
    }
    plan.create.extend(more.into_iter().map(|endpoints| slice(service, group, endpoints, ObjectMeta::default())));
}

fn differs(wanted: &EndpointSlice, have: &EndpointSlice) -> bool {
    wanted.endpoints.as_deref().unwrap_or_default() != have.endpoints.as_deref().unwrap_or_default()
        || wanted.ports.as_deref().unwrap_or_default() != have.ports.as_deref().unwrap_or_default()
        || wanted.metadata.labels != have.metadata.labels
}

fn slice(service: &Service, group: &Group, endpoints: Vec<Endpoint>, meta: ObjectMeta) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    let is_new = meta.name.is_none();
    let metadata = ObjectMeta {
        generate_name: if is_new { Some(format!("{name}-")) } else { meta.generate_name.clone() },
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels),
        ..meta
    };
    let port = |key: &PortKey| EndpointPort {
        name: Some(key.name.clone().unwrap_or_default()),
        port: key.port,
        protocol: key.protocol.clone(),
        app_protocol: key.app_protocol.clone(),
    };
    EndpointSlice {
        metadata,
        address_type: group.0.clone(),
        endpoints: Some(endpoints),
        ports: (!group.1.is_empty()).then(|| group.1.iter().map(port).collect()),
    }
}

fn group_of(slice: &EndpointSlice) -> Group {
    let key = |port: &EndpointPort| PortKey {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port,
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    };
    (slice.address_type.clone(), slice.ports.iter().flatten().map(key).collect())
}

/// Ended pods are out; pods that are leaving stay in as long as they serve.
fn belongs(pod: &Pod, service: &Service) -> bool {
    !is_finished(pod) && (pod.metadata.deletion_timestamp.is_none() || is_ready(pod) || publishes_unready(service))
}

fn endpoint(service: &Service, pod: &Pod, address: String, node: &impl Fn(&str) -> Option<Node>) -> Endpoint {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let serving = is_ready(pod);
    let spec = pod.spec.as_ref();
    let node_name = spec.and_then(|spec| spec.node_name.clone());
    let zone = node_name.as_deref().and_then(node).and_then(|node| node.metadata.labels?.get(ZONE).cloned());
    let name = service.metadata.name.as_deref();
    let hostname = spec.and_then(|spec| spec.hostname.clone().filter(|_| spec.subdomain.as_deref() == name));
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_unready(service) || (serving && !leaving)),
            serving: Some(serving),
            terminating: Some(leaving),
        }),
        hostname,
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        zone,
        ..Default::default()
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<PortKey> {
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    let key = |port: &ServicePort| {
        Some(PortKey {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: Some(target_port(port, pod)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    listed.iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests;
