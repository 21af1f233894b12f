//! What the proxy wants the node to do, in no packet filter's language.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

/// Everything that one node does with traffic to Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What happens to new connections, by where they were sent.
    pub frontends: BTreeMap<Frontend, Destination>,
    /// Addresses that belong to Services alone: what is sent there on a port without frontend is refused.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// Addresses of the node itself, on which node ports answer. Whoever has one of them is the node.
    pub node_ips: BTreeSet<IpAddr>,
    /// Where pods live. Traffic from elsewhere is off-cluster.
    pub pod_cidrs: Vec<IpNet>,
}

/// Where a client sends: one port of a Service on one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Cluster IP, external IP, load-balancer IP, or node address.
    pub address: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The Service's port, or its node port.
    pub port: u16,
}

/// Where a connection ends: one port of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The pod's address.
    pub address: IpAddr,
    /// The port that the pod listens on.
    pub port: u16,
}

/// Transport protocols that Services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What happens to a new connection to a [`Frontend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// `namespace/name:port`, for people who read the rules.
    pub service: Arc<str>,
    /// Where it goes.
    pub backends: Backends,
    /// Where it goes when it came from neither a pod nor this node, if that differs (`externalTrafficPolicy: Local`).
    pub outside: Option<Backends>,
    /// Every endpoint there is, also those that take no new connections: what is established with them goes on.
    /// Invariant: sorted, without duplicates.
    pub known: Arc<[Target]>,
    /// Whose source address is replaced by the node's.
    pub masquerade: Masquerade,
    /// How long a client address keeps its backend after its last new connection (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
    /// The only sources allowed, when restricted (`loadBalancerSourceRanges`). No two overlap.
    pub sources: Option<Vec<IpNet>>,
}

/// The choice a new connection has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// One of these, each as likely as the next. Invariant: not empty, sorted, without duplicates.
    Balance(Arc<[Target]>),
    /// Answered with ICMP port unreachable: the Service has no endpoints.
    Reject,
    /// Silently lost: there are endpoints, but none that the Service's traffic policy allows.
    Drop,
}

/// When the source address of a connection is replaced by the node's, so that replies come back through the node.
///
/// A pod that reaches itself through a Service is always masqueraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Masquerade {
    /// Connections from outside the pod CIDRs; none when no pod CIDR is known. Cluster IPs.
    OffCluster,
    /// Every connection. External addresses whose traffic may go on to another node.
    Always,
    /// Connections of this node itself. External addresses whose outside traffic stays on this node.
    Node,
}

impl Protocol {
    /// The protocol that an API object names; `None` for a name that Services do not have. Absent means TCP.
    pub fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The name in lower case, as packet filters write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Backends {
    /// The targets, none when refused.
    pub fn targets(&self) -> &[Target] {
        match self {
            Self::Balance(targets) => targets,
            Self::Reject | Self::Drop => &[],
        }
    }
}

impl Destination {
    /// Every target that some client may reach, some of them twice.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.backends.targets().iter().chain(self.outside.iter().flat_map(Backends::targets)).copied()
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", std::net::SocketAddr::new(self.address, self.port), self.protocol.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::net::SocketAddr::new(self.address, self.port))
    }
}

/// One line for each frontend: what tests and people read.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (frontend, destination) in &self.frontends {
            write!(f, "{frontend} [{}] -> {}", destination.service, destination.backends)?;
            if let Some(outside) = &destination.outside {
                write!(f, ", outside -> {outside}")?;
            }
            write!(f, ", masquerade {:?}", destination.masquerade)?;
            if let Some(affinity) = destination.affinity {
                write!(f, ", affinity {}s", affinity.as_secs())?;
            }
            if let Some(sources) = &destination.sources {
                write!(f, ", only from {sources:?}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance(targets) => {
                let targets: Vec<_> = targets.iter().map(Target::to_string).collect();
                f.write_str(&targets.join(" "))
            }
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
        }
    }
}
