//! The decision: Nodes in, networks and the machines that they are behind out. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use k8s_core::api::api::core::v1::Node;

/// What the plan depends on besides the Nodes.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// This node's name: its own pods need no route.
    pub node: String,
    /// Where pods live, cluster-wide. A Node that claims anything else gets no route, so that none can draw other
    /// traffic to itself.
    pub cluster_cidrs: Vec<IpNet>,
}

/// The machine that a network of pods is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The Node's name.
    pub node: String,
    /// Its `InternalIP` of the network's address family.
    pub address: IpAddr,
}

/// A network that gets no route, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The Node that claims it.
    pub node: String,
    /// What is wrong with it.
    pub why: String,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// This node's `InternalIP`s, as its Node says.
    pub own_addresses: Vec<IpAddr>,
    /// This node's pod networks, as its Node says.
    pub own_nets: Vec<IpNet>,
    /// Every other network.
    pub peers: BTreeMap<IpNet, Peer>,
    /// The Nodes whose claims are not followed.
    pub refused: Vec<Refused>,
}

/// Decides which networks are reached through which machines.
///
/// Deterministic: the order of the Nodes does not matter. Networks never overlap: of two Nodes that claim the same, this
/// node's claim wins, then the older Node's, then the lower name's.
pub fn plan<'a>(nodes: impl IntoIterator<Item = &'a Node>, view: &View) -> Plan {
    let mut plan = Plan::default();
    let mut others = Vec::new();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(&view.node) {
            plan.own_addresses = addresses(node).collect();
            plan.own_nets = nets(node);
        } else {
            others.push(node);
        }
    }
    let age = |node: &Node| node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    others.sort_by_key(|node| (age(node), node.metadata.name.clone()));
    for node in others {
        for net in nets(node) {
            let name = node.metadata.name.clone().unwrap_or_default();
            match plan.peer(node, &name, net, view) {
                Ok(peer) => drop(plan.peers.insert(net, peer)),
                Err(why) => plan.refused.push(Refused { node: name, why }),
            }
        }
    }
    plan
}

impl Plan {
    fn peer(&self, node: &Node, name: &str, net: IpNet, view: &View) -> Result<Peer, String> {
        if !view.cluster_cidrs.iter().any(|cidr| cidr.contains(&net)) {
            return Err(format!("pod CIDR {net} is not in the cluster's range"));
        }
        if let Some(own) = self.own_nets.iter().find(|own| overlap(own, &net)) {
            return Err(format!("pod CIDR {net} overlaps {own}, which node {} has", view.node));
        }
        if let Some((taken, peer)) = self.peers.iter().find(|(taken, _)| overlap(taken, &net)) {
            return Err(format!("pod CIDR {net} overlaps {taken}, which node {} has", peer.node));
        }
        let is_v4 = net.addr().is_ipv4();
        let address = addresses(node).find(|address| address.is_ipv4() == is_v4);
        let address = address.ok_or_else(|| format!("it has no InternalIP to reach pod CIDR {net} through"))?;
        Ok(Peer { node: name.to_owned(), address })
    }
}

fn nets(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let all = if all.is_empty() { spec.and_then(|spec| spec.pod_cidr.clone()).into_iter().collect() } else { all };
    all.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc()).collect()
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    all.iter().filter(|address| address.type_ == "InternalIP").filter_map(|address| address.address.parse().ok())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn node(name: &str, second: u32, address: &str, cidrs: &[&str]) -> Node {
        from_value(json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
        .unwrap()
    }

    fn view() -> View {
        View { node: "here".into(), cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()] }
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let peers = plan.peers.iter().map(|(net, peer)| format!("{net} via {} ({})", peer.address, peer.node));
        peers.chain(plan.refused.iter().map(|refused| format!("{}: {}", refused.node, refused.why))).collect()
    }

    #[test]
    fn each_other_node_has_a_route_for_each_of_its_networks() {
        let nodes = [
            node("here", 0, "192.0.2.1", &["10.244.0.0/24"]),
            node("a", 1, "192.0.2.2", &["10.244.1.0/24"]),
            node("b", 2, "192.0.2.3", &["10.244.2.0/24"]),
            node("young", 3, "192.0.2.4", &[]),
        ];
        let plan = plan(&nodes, &view());
        assert_eq!(shown(&plan), ["10.244.1.0/24 via 192.0.2.2 (a)", "10.244.2.0/24 via 192.0.2.3 (b)"]);
        assert_eq!(plan.own_nets, ["10.244.0.0/24".parse().unwrap()]);
        assert_eq!(plan, super::plan(nodes.iter().rev(), &view()), "the order does not matter");
    }

    #[test]
    fn nobody_draws_traffic_that_is_not_theirs() {
        let nodes = [
            node("here", 9, "192.0.2.1", &["10.244.0.0/24"]),
            node("all", 1, "192.0.2.2", &["0.0.0.0/0"]),
            node("ours", 2, "192.0.2.3", &["10.244.0.0/25"]),
            node("late", 4, "192.0.2.4", &["10.244.1.0/24"]),
            node("first", 3, "192.0.2.5", &["10.244.1.0/24"]),
            node("family", 5, "2001:db8::1", &["10.244.7.0/24"]),
        ];
        assert_eq!(
            shown(&plan(&nodes, &view())),
            [
                "10.244.1.0/24 via 192.0.2.5 (first)",
                "all: pod CIDR 0.0.0.0/0 is not in the cluster's range",
                "ours: pod CIDR 10.244.0.0/25 overlaps 10.244.0.0/24, which node here has",
                "late: pod CIDR 10.244.1.0/24 overlaps 10.244.1.0/24, which node first has",
                "family: it has no InternalIP to reach pod CIDR 10.244.7.0/24 through",
            ]
        );
    }
}
