//! What stands in the proxy's table, as a sorted map of elements. Pure.
//!
//! The number of chains depends on how many different endpoint counts and affinity timeouts there are, never on how
//! many Services; except that an IPv6 frontend with affinity has chains of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::proxy::{Backends, Destination, Frontend, Masquerade, Protocol, Rules, Target};

/// The content of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) elements: BTreeMap<Element, Value>,
    pub(super) chains: BTreeSet<Chain>,
    /// IPv6 frontends with affinity.
    pub(super) own: BTreeMap<Place, Sticky>,
    /// Changes with the node's configuration only, and then everything is replaced.
    pub(super) pod_cidrs: Vec<IpNet>,
}

/// A frontend, as seen by insiders or by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) frontend: Frontend,
    pub(super) outside: bool,
}

/// Where clients go and for how long they keep going there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sticky {
    pub(super) seconds: u64,
    pub(super) targets: Arc<[Target]>,
}

/// One element: where it stands and under which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) set: Set,
    pub(super) ipv6: bool,
    pub(super) key: Key,
}

/// The sets and maps. Each exists once for each address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Frontend to the chain that picks an endpoint.
    Services,
    /// The same, for sources that are neither pods nor this node, where it differs.
    Outside,
    /// Frontend and a number to the endpoint. One map for each protocol, because only then does `nft` 1.0.6 read its
    /// own definition of the map back.
    Endpoints(Protocol),
    /// The same for `Outside`.
    OutsideEndpoints(Protocol),
    /// Frontends that are rejected or dropped.
    Refused,
    /// The same, for sources that are neither pods nor this node.
    RefusedOutside,
    /// Frontends that only some sources may use.
    Restricted,
    /// Frontend and source network.
    Allowed,
    /// Frontend to the chain that decides about the source address.
    Masquerade,
    /// Frontend to the chain that remembers the client's endpoint.
    Sticky,
    /// Addresses of Services.
    ClusterIps,
    /// Pairs of equal endpoint addresses.
    Hairpin,
    /// Addresses of endpoints that take new connections and stay. No rule asks for it: it stands beside the rules, and
    /// changes with them, for those who are about to end a pod.
    Accepting,
}

/// What an element is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Frontend(Frontend),
    Numbered(Frontend, u32),
    Source(Frontend, IpNet),
    Address(IpAddr),
    Twice(IpAddr),
}

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// The element is a member of a set.
    Member,
    /// A verdict that every table has.
    Fixed(&'static str),
    /// A chain that this table has.
    Chain(Chain),
    Target(Target),
}

/// The chains whose number depends on the Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chain {
    Pick(Pick),
    /// Remembers IPv4 clients for so many seconds.
    Remember(u64),
    /// Serves one IPv6 frontend with affinity.
    Own(Place),
}

/// Picks one of `count` endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) outside: bool,
    pub(super) protocol: Protocol,
    pub(super) ipv6: bool,
    pub(super) count: u32,
    /// The endpoint remembered for the client comes first. IPv4 only.
    pub(super) sticky: bool,
}

pub(super) const REJECT: Value = Value::Fixed("goto unreachable");
pub(super) const DROP: Value = Value::Fixed("drop");

impl Table {
    /// Lowers the rules.
    pub(super) fn of(rules: &Rules) -> Self {
        let mut table = Self { pod_cidrs: rules.pod_cidrs.clone(), ..Self::default() };
        for (frontend, destination) in &rules.frontends {
            table.route(*frontend, destination, &destination.backends, false);
            if let Some(outside) = &destination.outside {
                table.route(*frontend, destination, outside, true);
            }
            table.masquerade(*frontend, destination.masquerade);
            table.restrict(*frontend, destination.sources.as_deref());
            if let Some(affinity) = destination.affinity {
                table.remember(*frontend, affinity.as_secs());
            }
        }
        for address in &rules.cluster_ips {
            table.put(Set::ClusterIps, Key::Address(*address), Value::Member);
        }
        for address in &rules.accepting {
            table.put(Set::Accepting, Key::Address(*address), Value::Member);
        }
        table
    }

    fn route(&mut self, frontend: Frontend, destination: &Destination, backends: &Backends, outside: bool) {
        let (services, endpoints, refused) = if outside {
            (Set::Outside, Set::OutsideEndpoints(frontend.protocol), Set::RefusedOutside)
        } else {
            (Set::Services, Set::Endpoints(frontend.protocol), Set::Refused)
        };
        let targets = match backends {
            Backends::Balance(targets) => targets,
            Backends::Reject => return self.put(refused, Key::Frontend(frontend), REJECT),
            Backends::Drop => return self.put(refused, Key::Frontend(frontend), DROP),
        };
        for (number, target) in (0..).zip(targets.iter()) {
            self.put(endpoints, Key::Numbered(frontend, number), Value::Target(*target));
            self.put(Set::Hairpin, Key::Twice(target.address), Value::Member);
        }
        let ipv6 = frontend.address.is_ipv6();
        let chain = match destination.affinity {
            Some(affinity) if ipv6 => {
                let place = Place { frontend, outside };
                self.own.insert(place, Sticky { seconds: affinity.as_secs(), targets: Arc::clone(targets) });
                Chain::Own(place)
            }
            affinity => {
                let count = targets.len() as u32;
                Chain::Pick(Pick { outside, protocol: frontend.protocol, ipv6, count, sticky: affinity.is_some() })
            }
        };
        self.chains.insert(chain);
        self.put(services, Key::Frontend(frontend), Value::Chain(chain));
    }

    fn remember(&mut self, frontend: Frontend, seconds: u64) {
        // IPv6 frontends see to it themselves.
        if frontend.address.is_ipv4() {
            let chain = Chain::Remember(seconds);
            self.chains.insert(chain);
            self.put(Set::Sticky, Key::Frontend(frontend), Value::Chain(chain));
        }
    }

    fn masquerade(&mut self, frontend: Frontend, masquerade: Masquerade) {
        let knows_pods = self.pod_cidrs.iter().any(|net| net.addr().is_ipv6() == frontend.address.is_ipv6());
        let verdict = match masquerade {
            Masquerade::Always => "goto masquerade-always",
            Masquerade::Node => "goto masquerade-node",
            Masquerade::OffCluster if knows_pods => "goto masquerade-off-cluster",
            Masquerade::OffCluster => return,
        };
        self.put(Set::Masquerade, Key::Frontend(frontend), Value::Fixed(verdict));
    }

    fn restrict(&mut self, frontend: Frontend, sources: Option<&[IpNet]>) {
        let Some(sources) = sources else { return };
        self.put(Set::Restricted, Key::Frontend(frontend), Value::Member);
        for net in sources.iter().filter(|net| net.addr().is_ipv6() == frontend.address.is_ipv6()) {
            self.put(Set::Allowed, Key::Source(frontend, *net), Value::Member);
        }
    }

    fn put(&mut self, set: Set, key: Key, value: Value) {
        self.elements.insert(Element { set, ipv6: key.address().is_ipv6(), key }, value);
    }
}

impl Key {
    fn address(&self) -> IpAddr {
        match self {
            Self::Frontend(frontend) | Self::Numbered(frontend, _) | Self::Source(frontend, _) => frontend.address,
            Self::Address(address) | Self::Twice(address) => *address,
        }
    }
}

impl Set {
    /// Every set, in the order of their definition.
    pub(super) const ALL: [Self; 17] = [
        Self::Services,
        Self::Outside,
        Self::Endpoints(Protocol::Tcp),
        Self::Endpoints(Protocol::Udp),
        Self::Endpoints(Protocol::Sctp),
        Self::OutsideEndpoints(Protocol::Tcp),
        Self::OutsideEndpoints(Protocol::Udp),
        Self::OutsideEndpoints(Protocol::Sctp),
        Self::Refused,
        Self::RefusedOutside,
        Self::Restricted,
        Self::Allowed,
        Self::Masquerade,
        Self::Sticky,
        Self::ClusterIps,
        Self::Hairpin,
        Self::Accepting,
    ];

    /// Its name, but for the family's number at the end.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Outside => "outside",
            Self::Endpoints(Protocol::Tcp) => "endpoints-tcp",
            Self::Endpoints(Protocol::Udp) => "endpoints-udp",
            Self::Endpoints(Protocol::Sctp) => "endpoints-sctp",
            Self::OutsideEndpoints(Protocol::Tcp) => "outside-endpoints-tcp",
            Self::OutsideEndpoints(Protocol::Udp) => "outside-endpoints-udp",
            Self::OutsideEndpoints(Protocol::Sctp) => "outside-endpoints-sctp",
            Self::Refused => "refused",
            Self::RefusedOutside => "refused-outside",
            Self::Restricted => "restricted",
            Self::Allowed => "allowed",
            Self::Masquerade => "masquerade",
            Self::Sticky => "sticky",
            Self::ClusterIps => "cluster-ips",
            Self::Hairpin => "hairpin",
            Self::Accepting => "accepting",
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remember(seconds) => write!(f, "remember-{seconds}"),
            Self::Own(place) => write!(f, "own-{place}"),
            Self::Pick(Pick { outside, protocol, ipv6, count, sticky }) => {
                let place = if *outside { "-outside" } else { "" };
                let sticky = if *sticky { "-sticky" } else { "" };
                write!(f, "pick{place}{sticky}-{}{}-{count}", protocol.as_str(), family(*ipv6))
            }
        }
    }
}

impl fmt::Display for Key {
    /// The protocol is left out where the set has it in its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontend(Frontend { address, protocol, port }) => {
                write!(f, "{address} . {} . {port}", protocol.as_str())
            }
            Self::Numbered(Frontend { address, port, .. }, number) => write!(f, "{address} . {port} . {number}"),
            Self::Source(Frontend { address, protocol, port }, net) => {
                write!(f, "{address} . {} . {port} . {net}", protocol.as_str())
            }
            Self::Address(address) => write!(f, "{address}"),
            Self::Twice(address) => write!(f, "{address} . {address}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member => Ok(()),
            Self::Fixed(verdict) => write!(f, " : {verdict}"),
            // Chains of the last kind are called, so that the source address is decided about afterwards.
            Self::Chain(chain @ Chain::Remember(_)) => write!(f, " : jump {chain}"),
            Self::Chain(chain) => write!(f, " : goto {chain}"),
            Self::Target(target) => write!(f, " : {} . {}", target.address, target.port),
        }
    }
}

/// As part of a name, where no colon can stand.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frontend { address, protocol, port } = self.frontend;
        let place = if self.outside { "outside-" } else { "" };
        write!(f, "{place}{}-{}-{port}", address.to_string().replace(':', "_"), protocol.as_str())
    }
}

/// `4` or `6`.
pub(super) fn family(ipv6: bool) -> char {
    if ipv6 { '6' } else { '4' }
}
