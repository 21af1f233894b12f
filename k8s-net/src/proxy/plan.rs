//! The decision: Services and EndpointSlices in, rules for one node out. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use k8s_core::api::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::EndpointSlice,
};

use super::{
    Backends, Destination, Frontend, Masquerade, Protocol, Rules, Target,
    endpoints::{Endpoints, Scope},
};

/// Links a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On Services: only the proxy of this name serves it.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// On Services and slices: there is no cluster IP to serve.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long a client keeps its endpoint when the Service does not say, as upstream.
const AFFINITY_DEFAULT: Duration = Duration::from_secs(10_800);

/// What the plan depends on besides the cluster's objects.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// The Node's name, as EndpointSlices say it.
    pub name: String,
    /// The Node's zone (label `topology.kubernetes.io/zone`), for Services that prefer endpoints nearby.
    pub zone: Option<String>,
    /// The addresses on which node ports answer. Usually the Node's `InternalIP`s.
    pub addresses: Vec<IpAddr>,
    /// Where pods live, cluster-wide. Empty means unknown: then nothing counts as off-cluster.
    pub pod_cidrs: Vec<IpNet>,
    /// Serves the Services labelled `service.kubernetes.io/service-proxy-name` with this name; without a name, those
    /// that lack the label.
    pub proxy_name: Option<String>,
}

/// Decides what `node` does with traffic to `services`.
///
/// Deterministic: the order of the arguments does not matter. Headless and `ExternalName` Services have no rules. When
/// two Services claim one address and port, a cluster IP wins over a load-balancer IP, that over an external IP,
/// that over a node port, and then the lower namespace and name. What cannot be parsed is passed over: the API
/// server does not let it in.
pub fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &NodeView,
) -> Rules {
    let slices = by_service(slices);
    let mut services: Vec<_> = services.into_iter().filter_map(|service| Subject::of(service, node)).collect();
    services.sort_by_key(|subject| (subject.namespace, subject.name));

    let mut rules = Rules {
        node_ips: node.addresses.iter().copied().collect(),
        pod_cidrs: IpNet::aggregate(&node.pod_cidrs),
        ..Rules::default()
    };
    let mut claims = Vec::new();
    for subject in &services {
        let slices = slices.get(&(subject.namespace, subject.name)).map_or(&[][..], Vec::as_slice);
        rules.cluster_ips.extend(subject.cluster_ips());
        for port in subject.spec.ports.iter().flatten() {
            claim_port(subject, port, slices, node, &mut claims);
        }
    }
    // Stable, so that within a class the order of the Services decides.
    claims.sort_by_key(|claim| claim.class);
    for claim in claims {
        rules.frontends.entry(claim.frontend).or_insert(claim.destination);
    }
    rules
}

/// A Service that this proxy serves.
struct Subject<'a> {
    namespace: &'a str,
    name: &'a str,
    spec: &'a ServiceSpec,
    service: &'a Service,
}

/// The kinds of address a Service has, the strongest claim first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    ClusterIp,
    LoadBalancer,
    ExternalIp,
    NodePort,
}

struct Claim {
    class: Class,
    frontend: Frontend,
    destination: Destination,
}

impl<'a> Subject<'a> {
    fn of(service: &'a Service, node: &NodeView) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let label = |name| service.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        if spec.type_.as_deref() == Some("ExternalName") || label(HEADLESS).is_some() {
            return None;
        }
        if label(PROXY_NAME) != node.proxy_name.as_ref() {
            return None;
        }
        let subject = Self {
            namespace: service.metadata.namespace.as_deref().unwrap_or(""),
            name: service.metadata.name.as_deref()?,
            spec,
            service,
        };
        (subject.cluster_ips().next().is_some()).then_some(subject)
    }

    /// None for a headless Service, whose cluster IP is the word `None`.
    fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> + 'a {
        let all = self.spec.cluster_ips.as_deref().unwrap_or_default();
        let all = if all.is_empty() { self.spec.cluster_ip.as_slice() } else { all };
        all.iter().filter_map(|text| text.parse().ok())
    }

    /// Addresses that the load balancer delivers on unchanged. In mode `Proxy` it sends to the node itself.
    fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> + 'a {
        let status = self.service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        ingress
            .iter()
            .filter(|point| point.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|point| point.ip.as_deref()?.parse().ok())
    }

    fn external_ips(&self) -> impl Iterator<Item = IpAddr> + 'a {
        self.spec.external_ips.iter().flatten().filter_map(|text| text.parse().ok())
    }

    fn source_ranges(&self) -> Option<Vec<IpNet>> {
        let ranges = self.spec.load_balancer_source_ranges.as_deref().filter(|ranges| !ranges.is_empty())?;
        let ranges: Vec<IpNet> = ranges.iter().filter_map(|text| text.trim().parse::<IpNet>().ok()).collect();
        Some(IpNet::aggregate(&ranges))
    }

    fn affinity(&self) -> Option<Duration> {
        if self.spec.session_affinity.as_deref() != Some("ClientIP") {
            return None;
        }
        let config = self.spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|client_ip| client_ip.timeout_seconds);
        Some(seconds.and_then(|s| u64::try_from(s).ok()).map_or(AFFINITY_DEFAULT, Duration::from_secs))
    }

    fn is_local(policy: &Option<String>) -> bool {
        policy.as_deref() == Some("Local")
    }
}

fn by_service<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>> {
    let mut by_service = BTreeMap::<_, Vec<_>>::new();
    for slice in slices {
        let Some(labels) = &slice.metadata.labels else { continue };
        let Some(service) = labels.get(SERVICE_NAME) else { continue };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or("");
        by_service.entry((namespace, service.as_str())).or_default().push(slice);
    }
    by_service
}

/// What one address family of one Service port leads to.
struct Choices {
    internal: Backends,
    /// What callers inside the cluster reach through an external address.
    cluster: Backends,
    outside: Option<Backends>,
    known: Arc<[Target]>,
}

impl Choices {
    fn of(endpoints: &Endpoints, spec: &ServiceSpec) -> Self {
        let all = endpoints.usable(Scope::Cluster);
        let local = || match endpoints.usable(Scope::Node) {
            local if !local.is_empty() => Backends::Balance(local),
            _ if all.is_empty() => Backends::Reject,
            _ => Backends::Drop,
        };
        let outside = Subject::is_local(&spec.external_traffic_policy).then(local);
        let internal = Subject::is_local(&spec.internal_traffic_policy).then(local);
        let cluster = if all.is_empty() { Backends::Reject } else { Backends::Balance(all.clone()) };
        Self { internal: internal.unwrap_or_else(|| cluster.clone()), cluster, outside, known: endpoints.known() }
    }
}

fn claim_port(
    subject: &Subject<'_>,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    node: &NodeView,
    claims: &mut Vec<Claim>,
) {
    let Some(protocol) = Protocol::of(port.protocol.as_deref()) else { return };
    let name = port.name.as_deref().unwrap_or("");
    let service: Arc<str> = format!("{}/{}:{name}", subject.namespace, subject.name).into();
    let service_port = u16::try_from(port.port).ok().filter(|port| *port != 0);
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);

    for ipv6 in [false, true] {
        // A Service lives in the families of its cluster IPs, whatever other addresses there are.
        if !subject.cluster_ips().any(|ip| ip.is_ipv6() == ipv6) {
            continue;
        }
        let mut places: Vec<(Class, IpAddr, u16)> = Vec::new();
        if let Some(port) = service_port {
            places.extend(subject.cluster_ips().map(|ip| (Class::ClusterIp, ip, port)));
            places.extend(subject.load_balancer_ips().map(|ip| (Class::LoadBalancer, ip, port)));
            places.extend(subject.external_ips().map(|ip| (Class::ExternalIp, ip, port)));
        }
        if let Some(port) = node_port {
            places.extend(node.addresses.iter().map(|ip| (Class::NodePort, *ip, port)));
        }
        places.retain(|(_, address, _)| address.is_ipv6() == ipv6);
        let choices = Choices::of(&Endpoints::gather(slices, name, protocol, ipv6, node), subject.spec);
        claims.extend(places.into_iter().map(|(class, address, port)| Claim {
            class,
            frontend: Frontend { address, protocol, port },
            destination: destination(class, subject, &service, &choices),
        }));
    }
}

fn destination(class: Class, subject: &Subject<'_>, service: &Arc<str>, choices: &Choices) -> Destination {
    let internal = class == Class::ClusterIp;
    let outside = if internal { None } else { choices.outside.clone() };
    Destination {
        service: Arc::clone(service),
        backends: if internal { choices.internal.clone() } else { choices.cluster.clone() },
        masquerade: match (internal, &outside) {
            (true, _) => Masquerade::OffCluster,
            (false, None) => Masquerade::Always,
            (false, Some(_)) => Masquerade::Node,
        },
        outside,
        known: Arc::clone(&choices.known),
        affinity: subject.affinity(),
        sources: if class == Class::LoadBalancer { subject.source_ranges() } else { None },
    }
}

#[cfg(test)]
mod tests;
