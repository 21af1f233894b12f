//! The endpoints of one Service port, gathered from its EndpointSlices, and which of them may be used.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_core::api::api::discovery::v1::{self, EndpointSlice};

use super::{NodeView, Protocol, Target};

/// What the proxy needs to know of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoint {
    /// Accepts new connections.
    ready: bool,
    /// Answers, though it may be on its way out.
    serving: bool,
    /// On its way out.
    terminating: bool,
    /// Runs on this node.
    local: bool,
    /// Which part of the traffic it is meant for, if that was said; and whether this node is in it.
    node_hint: Hint,
    zone_hint: Hint,
}

/// What an endpoint's hints say about this node. Set by the cluster for `trafficDistribution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    Ours,
    Others,
}

/// The endpoints of one Service port in one address family, by address.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    by_target: BTreeMap<Target, Endpoint>,
}

/// Which endpoints count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Cluster,
    Node,
}

impl Endpoints {
    /// Gathers the endpoints for the port named `port_name` (empty when unnamed) from a Service's slices.
    ///
    /// An endpoint that two slices list is ready if either says so: slices overlap while endpoints move.
    pub(super) fn gather(
        slices: &[&EndpointSlice],
        port_name: &str,
        protocol: Protocol,
        ipv6: bool,
        node: &NodeView,
    ) -> Self {
        let mut gathered = Self::default();
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        for slice in slices.iter().filter(|slice| slice.address_type == family) {
            let Some(port) = port_number(slice, port_name, protocol) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                gathered.add(endpoint, port, ipv6, node);
            }
        }
        gathered
    }

    fn add(&mut self, endpoint: &v1::Endpoint, port: u16, ipv6: bool, node: &NodeView) {
        // Further addresses of one endpoint have no meaning.
        let Some(address) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else { return };
        if address.is_ipv6() != ipv6 {
            return;
        }
        let found = Endpoint::read(endpoint, node);
        self.by_target
            .entry(Target { address, port })
            .and_modify(|known| {
                if found.ready && !known.ready {
                    *known = found;
                }
            })
            .or_insert(found);
    }

    /// The endpoints that take new connections: the ready ones, or, when there are none, those that still serve
    /// while they terminate.
    pub(super) fn usable(&self, scope: Scope) -> Arc<[Target]> {
        let in_scope = |endpoint: &Endpoint| match scope {
            Scope::Cluster => true,
            Scope::Node => endpoint.local,
        };
        let ready = match (scope, self.preference()) {
            (Scope::Cluster, Some(hint)) => self.select(|endpoint| endpoint.ready && hint(endpoint) == Hint::Ours),
            _ => self.select(|endpoint| in_scope(endpoint) && endpoint.ready),
        };
        if ready.is_empty() {
            return self.select(|endpoint| in_scope(endpoint) && endpoint.serving && endpoint.terminating);
        }
        ready
    }

    /// All endpoints, also those that take no new connections.
    pub(super) fn known(&self) -> Arc<[Target]> {
        self.by_target.keys().copied().collect()
    }

    /// The kind of hint that narrows the choice: node before zone, if every ready endpoint has it and some are meant for
    /// this node. Half a set of hints is out of date.
    fn preference(&self) -> Option<fn(&Endpoint) -> Hint> {
        let kinds: [fn(&Endpoint) -> Hint; 2] = [|endpoint| endpoint.node_hint, |endpoint| endpoint.zone_hint];
        kinds.into_iter().find(|hint| {
            let mut hints = self.by_target.values().filter(|endpoint| endpoint.ready).map(hint);
            let mut ours = false;
            let complete = hints.all(|hint| {
                ours |= hint == Hint::Ours;
                hint != Hint::None
            });
            complete && ours
        })
    }

    fn select(&self, wanted: impl Fn(&Endpoint) -> bool) -> Arc<[Target]> {
        self.by_target.iter().filter(|(_, endpoint)| wanted(endpoint)).map(|(target, _)| *target).collect()
    }
}

impl Endpoint {
    /// Absent conditions mean ready, and serving as far as ready, and not terminating.
    fn read(endpoint: &v1::Endpoint, node: &NodeView) -> Self {
        let hints = endpoint.hints.as_ref();
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
        let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        Self {
            ready,
            serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
            local: endpoint.node_name.as_deref() == Some(&node.name),
            node_hint: Hint::read(nodes.iter().map(|hint| hint.name == node.name)),
            zone_hint: Hint::read(zones.iter().map(|hint| Some(&hint.name) == node.zone.as_ref())),
        }
    }
}

impl Hint {
    /// From whether each of the hinted places is ours.
    fn read(mut ours: impl ExactSizeIterator<Item = bool>) -> Self {
        match ours.len() {
            0 => Self::None,
            _ if ours.any(|ours| ours) => Self::Ours,
            _ => Self::Others,
        }
    }
}

fn port_number(slice: &EndpointSlice, name: &str, protocol: Protocol) -> Option<u16> {
    slice
        .ports
        .iter()
        .flatten()
        .filter(|port| port.name.as_deref().unwrap_or("") == name)
        .filter(|port| Protocol::of(port.protocol.as_deref()) == Some(protocol))
        .find_map(|port| u16::try_from(port.port?).ok().filter(|port| *port != 0))
}
