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
    api::api::core::v1::Taint,
    env::{Env, Task},
};
use k8s_net::{
    NftError,
    pod::{Routed, RoutedConfig},
    proxy::{
        self, Nftables, NftablesConfig, NftablesTraffic, NodeView, Proxy, ProxyError, ProxyMetrics, ServiceBackend,
        Userspace, UserspaceConfig,
    },
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

/// Where pods get their addresses unless said otherwise.
pub const DEFAULT_POD_CIDR: &str = "10.244.0.0/24";
/// The program that changes the kernel's packet rules.
pub const NFT: &str = "/usr/sbin/nft";

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
    /// The addresses of the node's pods.
    pub pod_cidr: IpNet,
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

/// Why this machine cannot be a node: one sentence that names what is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);

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

/// The node, running. Dropping it stops the agent at once; containers run on either way.
pub struct Machine {
    /// The agent.
    pub agent: Agent,
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
        let MachineOptions { name, folder, env, shim, pod_cidr, port, registries, log_limits, image_limits, dns, node } =
            options;
        let failed = |error: &dyn std::fmt::Display| MachineError(error.to_string());
        let mut config = native_config(&folder, shim, env.clone());
        config.images = Some(Arc::new(Registries::new(env.clone(), registries)));
        // Opening reads the disk; the runtime's other threads go on meanwhile.
        let native = tokio::task::spawn_blocking(move || Native::open(config)).await;
        let native = native.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut network = RoutedConfig::new(pod_cidr, folder.join("network"));
        network.nft = NFT.into();
        let network = Routed::open(network).await.map_err(|error| failed(&error))?;
        let address = node_address();
        let mut facts = node::Machine::detect(&folder);
        facts.max_pods = node.max_pods.unwrap_or(facts.max_pods);
        facts.reserved = node.reserved;
        let builder = Agent::builder(client, Arc::new(native), env, name)
            .network(Arc::new(network))
            .traffic(Arc::new(NftablesTraffic::new(NftablesConfig::default().table)))
            .folder(folder.join("pods"))
            .addresses(vec![address])
            .port(port)
            .machine(facts)
            .labels(node.labels)
            .taints(node.taints)
            .log_limits(log_limits)
            .image_limits(image_limits)
            .dns(dns);
        let agent = builder.start().map_err(|error| failed(&error))?;
        Ok(Self { agent })
    }

    /// Stops the agent in order; containers run on.
    pub async fn stop(self) {
        self.agent.stop().await;
    }
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
pub fn start_proxy(
    client: Client,
    env: &Env,
    node: &str,
    pod_cidr: IpNet,
    mode: ProxyMode,
    metrics: Arc<ProxyMetrics>,
) -> Task {
    let view = NodeView {
        name: node.to_owned(),
        addresses: vec![node_address()],
        pod_cidrs: vec![pod_cidr],
        ..NodeView::default()
    };
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
