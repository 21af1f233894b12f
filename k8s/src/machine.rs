//! This machine as a node: real containers, a pod network, and the service proxy.

mod requirements;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use k8s_core::{
    api::api::core::v1::{Node, Taint},
    env::{Env, Task},
    seam::network::PodNetwork,
};
use k8s_net::{
    NftError,
    pod::{AwaitedNetwork, Routed, RoutedConfig, pod_cidrs},
    proxy::{
        self, Nftables, NftablesConfig, NftablesTraffic, NodeView, Proxy, ProxyError, ProxyMetrics, ServiceBackend,
        Userspace, UserspaceConfig,
    },
    routes::{self, View},
};
use k8s_node::{
    agent::{Agent, ImageLimits, LogLimits},
    environment::DnsSettings,
    image::registry::{Registries, RegistrySettings},
    native::{Native, NativeConfig, ShimCommand},
    node::{self, Reserved},
};
use k8s_reconcile::Client;

pub use self::requirements::{check_kernel, check_privileges};

/// Where all pods of a cluster get their addresses unless said otherwise.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Where the pods of the first node get theirs.
pub const FIRST_POD_CIDR: &str = "10.244.0.0/24";
/// How long the prefixes of nodes' pod CIDRs are, of IPv4 and of IPv6, unless said otherwise.
pub const NODE_MASKS: [u8; 2] = [24, 64];
/// The program that changes the kernel's packet rules.
pub const NFT: &str = "/usr/sbin/nft";

/// What an operator says of a Node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Labels besides the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints for a Node that is registered for the first time.
    pub taints: Vec<Taint>,
    /// How many pods it takes; the agent's default without.
    pub max_pods: Option<u32>,
    /// What is kept from pods.
    pub reserved: Reserved,
}

/// How a node's service proxy leads traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// By rules of the kernel's packet filter. Needs root and the program `nft`.
    #[default]
    Nftables,
    /// By sockets of this process. Node ports need no privileges; cluster IPs need `CAP_NET_ADMIN`.
    Userspace,
}

impl FromStr for ProxyMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nftables" => Ok(Self::Nftables),
            "userspace" => Ok(Self::Userspace),
            _ => Err("expected `nftables` or `userspace`".into()),
        }
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Userspace => "userspace",
        })
    }
}

/// What makes this machine a node.
pub struct MachineOptions {
    /// The node's name.
    pub name: String,
    /// Everything of the node is kept below this folder.
    pub folder: PathBuf,
    /// Time, randomness, tasks.
    pub env: Env,
    /// How containers' shims are started: this program, with arguments that lead to `k8s_node::shim::main`.
    pub shim: ShimCommand,
    /// The addresses of the node's pods: one network for each address family. Empty: what its Node is given.
    pub pod_cidrs: Vec<IpNet>,
    /// The addresses of all pods of the cluster. What leaves them has the node's address.
    pub cluster_cidrs: Vec<IpNet>,
    /// The addresses that others reach this machine at, primary first.
    pub addresses: Vec<IpAddr>,
    /// The port of the node's own server.
    pub port: u16,
    /// How registries are spoken to.
    pub registries: RegistrySettings,
    /// How large the logs of containers may grow.
    pub log_limits: LogLimits,
    /// When images that nobody uses are removed.
    pub image_limits: ImageLimits,
    /// How pods resolve names.
    pub dns: DnsSettings,
    /// What the Node says beside what it finds out about the machine.
    pub node: NodeOptions,
}

/// Why this machine cannot be a node: one sentence that names what is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);

/// The node, running. Dropping it stops the agent at once; containers run on either way.
pub struct Machine {
    /// The agent.
    pub agent: Agent,
    /// Waits for the Node's pod CIDRs, if they were not known at the start.
    _network: Option<Task>,
}

/// The address that others reach this machine at: that of the interface with the default route.
pub fn node_address() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only chooses the route.
    let route = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    route().unwrap_or_else(|_| [127, 0, 0, 1].into())
}

impl Machine {
    /// Starts the agent with native containers and a routed pod network.
    pub async fn start(client: Client, options: MachineOptions) -> Result<Self, MachineError> {
        let MachineOptions { name, folder, env, shim, port, registries, log_limits, image_limits, dns, node, .. } =
            options;
        let failed = |error: &dyn std::fmt::Display| MachineError(error.to_string());
        let mut config = native_config(&folder, shim, env.clone());
        config.images = Some(Arc::new(Registries::new(env.clone(), registries)));
        let network = RoutedConfig {
            pod_cidrs: options.pod_cidrs,
            cluster_cidrs: options.cluster_cidrs,
            nft: NFT.into(),
            state_dir: folder.join("network"),
            ..RoutedConfig::default()
        };
        // Opening reads the disk; the runtime's other threads go on meanwhile.
        let native = tokio::task::spawn_blocking(move || Native::open(config)).await;
        let native = native.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let (network, waiting) = open_network(&client, &env, &name, network).await?;
        let mut facts = node::Machine::detect(&folder);
        facts.max_pods = node.max_pods.unwrap_or(facts.max_pods);
        facts.reserved = node.reserved;
        let builder = Agent::builder(client, Arc::new(native), env, name)
            .network(network)
            .traffic(Arc::new(NftablesTraffic::new(NftablesConfig::default().table)))
            .folder(folder.join("pods"))
            .addresses(options.addresses)
            .port(port)
            .machine(facts)
            .labels(node.labels)
            .taints(node.taints)
            .log_limits(log_limits)
            .image_limits(image_limits)
            .dns(dns);
        let agent = builder.start().map_err(|error| failed(&error))?;
        Ok(Self { agent, _network: waiting })
    }

    /// Stops the agent in order; containers run on.
    pub async fn stop(self) {
        self.agent.stop().await;
    }
}

/// Opens the pod network if it is known which addresses it has; otherwise waits for the Node to say so, beside the agent.
async fn open_network(
    client: &Client,
    env: &Env,
    node: &str,
    mut config: RoutedConfig,
) -> Result<(Arc<dyn PodNetwork>, Option<Task>), MachineError> {
    if config.pod_cidrs.is_empty()
        && let Ok(Some(known)) = client.all::<Node>().find(node).await
    {
        config.pod_cidrs = pod_cidrs(&known);
    }
    if config.pod_cidrs.is_empty() {
        let awaited = AwaitedNetwork::new();
        let task = awaited.await_node(client.clone(), env, node, config);
        return Ok((Arc::new(awaited), Some(task)));
    }
    let routed = Routed::open(config).await.map_err(|error| MachineError(error.to_string()))?;
    Ok((Arc::new(routed), None))
}

/// The container runtime of the node in a folder. It knows no registries.
pub fn native_config(folder: &Path, shim: ShimCommand, env: Env) -> NativeConfig {
    NativeConfig { root: folder.to_owned(), cgroup_prefix: cgroup_prefix(folder), shim, images: None, env }
}

/// Two data folders on one machine never share cgroups.
fn cgroup_prefix(folder: &Path) -> PathBuf {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    folder.hash(&mut hasher);
    PathBuf::from(format!("/k8s-{:08x}", hasher.finish() as u32))
}

/// Starts the service proxy of a node. It runs until the task is dropped; rules of the kernel stay in force then, and what
/// sockets of this process serve ends.
///
/// Node ports answer on `addresses`; without any, on those that the Node says.
pub fn start_proxy(
    client: Client,
    env: &Env,
    node: &str,
    (cluster_cidrs, addresses): (Vec<IpNet>, Vec<IpAddr>),
    mode: ProxyMode,
    metrics: Arc<ProxyMetrics>,
) -> Task {
    let view = NodeView { name: node.to_owned(), addresses, pod_cidrs: cluster_cidrs, ..NodeView::default() };
    let userspace = Userspace::new(env.clone(), UserspaceConfig::default());
    let run = async move {
        let mut proxy = match mode {
            ProxyMode::Nftables => {
                retire(userspace).await;
                Proxy::new(view, nftables())
            }
            ProxyMode::Userspace => {
                if Path::new(NFT).exists() {
                    retire(nftables()).await;
                }
                Proxy::new(view, userspace)
            }
        };
        proxy::follow(&client, &mut proxy, &metrics).await;
    };
    env.spawn("service-proxy", Box::pin(run))
}

/// The packet filter's backend, with this machine's program.
pub fn nftables() -> Nftables {
    Nftables::new(NftablesConfig { nft: NFT.into(), ..NftablesConfig::default() })
}

/// Takes back what a proxy of the other mode left in force: it would stand in the way.
async fn retire(mut other: impl ServiceBackend) {
    match other.cleanup().await {
        Ok(()) => {}
        Err(ProxyError::Filter(NftError::Privilege { message })) => {
            tracing::debug!(message, "rules of an earlier service proxy, if there are any, stay in force");
        }
        Err(error) => tracing::warn!(%error, "what an earlier service proxy left stays in force"),
    }
}

/// Starts to keep a node's routes to other nodes' pods. It runs until the task is dropped; the routes stay in force.
///
/// The client needs to see all Nodes, which a node's own identity does not: the service proxy's does.
pub fn start_routes(client: Client, env: &Env, node: &str, cluster_cidrs: Vec<IpNet>) -> Task {
    let view = View { node: node.to_owned(), cluster_cidrs };
    env.spawn("node-routes", Box::pin(async move { routes::follow(&client, &view).await }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_mode_is_read_as_it_is_written() {
        for mode in [ProxyMode::Nftables, ProxyMode::Userspace] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let unknown = "iptables".parse::<ProxyMode>();
        assert_eq!(unknown, Err("expected `nftables` or `userspace`".into()));
    }
}
