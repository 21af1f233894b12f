//! A pod network without a bridge: every pod has its own link to the node and its own route on it.
//!
//! Why not a bridge: two pods on one bridge answer each other below the routing layer, so replies to translated
//! Service traffic escape the translation unless `br_netfilter` is loaded. Routed pods have no such case: every
//! packet passes the node's routing, where Services, policies and masquerading see both directions.

use std::{
    fs, io,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_core::seam::network::{Attached, Attachment, HostPort, NetworkError, PodNetwork};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    leases::{Lease, Leases, Port, gateway},
    links::{self, Leg},
    table,
};
use crate::{conntrack, netlink::Netlink, nft::Nft, proxy::Protocol};

/// What a [`Routed`] network is made of.
#[derive(Debug, Clone)]
pub struct RoutedConfig {
    /// This node's pod CIDRs: one, or one for each address family, the primary first. The first address of each is
    /// the node's. With an IPv6 CIDR the node becomes an IPv6 router, which by default ignores router advertisements.
    pub pod_cidrs: Vec<IpNet>,
    /// Where pods are seen under their own address: the pod CIDRs of all nodes. Everything else outside the node
    /// sees the node's address.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where Services have their cluster IPs, if the node's own processes shall reach them without a default route. A
    /// CIDR of a family without pod CIDR has no effect.
    pub service_cidrs: Vec<IpNet>,
    /// The largest packet of the pods' links, in bytes.
    pub mtu: u32,
    /// The name of the `inet` table for masquerading and host ports.
    pub table: String,
    /// Remembers which pod has which address. One directory for each network; kept over restarts.
    pub state_dir: PathBuf,
    /// The `nft` program: a path, or a name to look for.
    pub nft: PathBuf,
}

impl Default for RoutedConfig {
    /// The usual: 1500 bytes, table `k8s-pods`, `nft` from the search path; no addresses and no directory yet.
    fn default() -> Self {
        Self {
            pod_cidrs: Vec::new(),
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            mtu: 1500,
            table: "k8s-pods".into(),
            state_dir: PathBuf::new(),
            nft: "nft".into(),
        }
    }
}

impl RoutedConfig {
    /// The usual for one network, with nothing beyond this node in the cluster.
    pub fn new(pod_cidr: IpNet, state_dir: impl Into<PathBuf>) -> Self {
        Self { pod_cidrs: vec![pod_cidr], state_dir: state_dir.into(), ..Self::default() }
    }
}

/// The pod network of one node, in the network namespace of this process.
///
/// Works on tokio's blocking threads and attaches one pod at a time, as the kernel would anyway; needs a tokio runtime,
/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`. Links, addresses and tables stay when it is dropped: a restarted agent goes on
/// with the same state directory.
pub struct Routed {
    config: Arc<RoutedConfig>,
    nft: Nft,
    state: Arc<Mutex<State>>,
    /// Held by whoever works on an id that falls to it.
    ids: [Arc<Mutex<()>>; LOCKS],
}

/// Ids share this many locks.
const LOCKS: usize = 64;

struct State {
    leases: Leases,
    netlink: Netlink,
    gateways: Vec<IpAddr>,
    /// Whether the table says what the leases say.
    table_is_current: bool,
}

impl Routed {
    /// Opens the network: reads the state, turns forwarding on, and brings up gateway addresses and table.
    ///
    /// Errors when another process has the state directory, a privilege or `nft` is missing, or the table's name is
    /// taken by somebody else.
    pub async fn open(config: RoutedConfig) -> Result<Self, NetworkError> {
        let state = State::open(&config).map_err(|error| failed("open the pod network", &error))?;
        let nft = Nft::new(config.nft.clone());
        nft.claim(&config.table, table::MARK).await.map_err(|error| failed("open the pod network", &error))?;
        let ids = std::array::from_fn(|_| Arc::default());
        let network = Self { config: Arc::new(config), nft, state: Arc::new(Mutex::new(state)), ids };
        network.ensure().await?;
        Ok(network)
    }

    /// Restores what the node needs for all pods, should somebody have removed it: forwarding, gateway addresses,
    /// routes, table. A link is restored by attaching again.
    pub async fn ensure(&self) -> Result<(), NetworkError> {
        let mut state = self.with_state("prepare the node", |state, config| state.prepare_host(config)).await?.0;
        state.table_is_current = false;
        self.update_table(&mut state).await
    }

    /// Keeps others from working on `id`.
    async fn exclusively(&self, id: &str) -> OwnedMutexGuard<()> {
        let hash = id.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        Arc::clone(&self.ids[hash % LOCKS]).lock_owned().await
    }

    /// Runs `work` on the state, on a blocking thread. It goes on when the caller is dropped, and later calls wait for it.
    async fn with_state<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&mut State, &RoutedConfig) -> io::Result<T> + Send + 'static,
    ) -> Result<(OwnedMutexGuard<State>, T), NetworkError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let config = Arc::clone(&self.config);
        blocking(what, move || work(&mut state, &config).map(|answer| (state, answer))).await
    }

    async fn update_table(&self, state: &mut State) -> Result<(), NetworkError> {
        if state.table_is_current {
            return Ok(());
        }
        let script = table::script(&table::Contents {
            table: &self.config.table,
            pod_cidrs: &self.config.pod_cidrs,
            cluster_cidrs: &self.config.cluster_cidrs,
            leases: state.leases.iter().map(|(_, lease)| lease).collect(),
        });
        self.nft.apply(&script).await.map_err(|error| failed("write the packet filter table", &error))?;
        state.table_is_current = true;
        Ok(())
    }
}

#[async_trait]
impl PodNetwork for Routed {
    async fn attach(&self, attachment: Attachment) -> Result<Attached, NetworkError> {
        let what = format!("attach {}", attachment.id);
        let ports = check(&attachment)?;
        let id = self.exclusively(&attachment.id).await;
        let (mut state, lease) = self
            .with_state(&what, move |state, config| {
                let _id = id;
                state.attach(&attachment, ports, config)
            })
            .await?;
        self.update_table(&mut state).await?;
        if lease.ports.iter().any(|port| port.protocol == Protocol::Udp.as_str()) {
            let lease = lease.clone();
            blocking(&what, move || end_astray(&lease)).await?;
        }
        Ok(Attached { addresses: lease.addresses })
    }

    async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        check_id(id)?;
        let (what, id) = (format!("detach {id}"), id.to_owned());
        let exclusively = self.exclusively(&id).await;
        // The kernel takes tens of milliseconds to remove a link, mostly waiting, so others do not wait for it.
        let (id, exclusively) = blocking(&what, move || {
            links::disconnect(&mut Netlink::open()?, &id)?;
            Ok((id, exclusively))
        })
        .await?;
        let (mut state, ()) = self
            .with_state(&what, move |state, _| {
                let _id = exclusively;
                state.give_back(&id)
            })
            .await?;
        self.update_table(&mut state).await
    }

    async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        Ok(self.state.lock().await.leases.iter().map(|(id, _)| id.clone()).collect())
    }

    fn pod_cidrs(&self) -> Vec<String> {
        self.config.pod_cidrs.iter().map(|net| net.trunc().to_string()).collect()
    }
}

impl State {
    fn open(config: &RoutedConfig) -> io::Result<Self> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let gateways = config
            .pod_cidrs
            .iter()
            .map(|net| gateway(net).ok_or_else(|| invalid(format!("pod CIDR {net} is too small"))))
            .collect::<io::Result<Vec<_>>>()?;
        if gateways.is_empty() {
            return Err(invalid("there is no pod CIDR".into()));
        }
        let leases = Leases::open(&config.state_dir, &config.pod_cidrs).map_err(|error| {
            io::Error::new(error.kind(), format!("state directory {}: {error}", config.state_dir.display()))
        })?;
        Ok(Self { leases, netlink: Netlink::open()?, gateways, table_is_current: false })
    }

    fn prepare_host(&mut self, config: &RoutedConfig) -> io::Result<()> {
        for net in &config.pod_cidrs {
            turn_on(match net {
                IpNet::V4(_) => "/proc/sys/net/ipv4/ip_forward",
                IpNet::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
            })?;
        }
        links::prepare_host(&mut self.netlink, &self.gateways)?;
        links::route_services(&mut self.netlink, &config.service_cidrs, &self.gateways)?;
        for (id, lease) in self.leases.iter() {
            links::restore(&mut self.netlink, id, &legs(&self.gateways, lease))?;
        }
        Ok(())
    }

    fn attach(&mut self, attachment: &Attachment, ports: Vec<Port>, config: &RoutedConfig) -> io::Result<Lease> {
        let id = &attachment.id;
        let netns = fs::File::open(&attachment.netns).map_err(|error| {
            io::Error::new(error.kind(), format!("network namespace {}: {error}", attachment.netns.display()))
        })?;
        let before = self.leases.get(id).cloned();
        let lease = self.leases.take(id, ports)?;
        if before.as_ref().map_or(&[][..], |before| &before.ports) != lease.ports {
            self.table_is_current = false;
        }
        let legs = legs(&self.gateways, &lease);
        let outcome = links::connect(&mut self.netlink, id, &netns, &legs, config.mtu);
        match outcome {
            Ok(()) => Ok(lease),
            Err(error) => {
                // Whoever never got an address must not hold one.
                if before.is_none()
                    && let Err(error) = links::disconnect(&mut self.netlink, id).and_then(|()| self.give_back(id))
                {
                    tracing::warn!(id, %error, "a failed attachment left something behind");
                }
                Err(error)
            }
        }
    }

    fn give_back(&mut self, id: &str) -> io::Result<()> {
        if self.leases.get(id).is_some_and(|lease| !lease.ports.is_empty()) {
            self.table_is_current = false;
        }
        self.leases.give_back(id)
    }
}

/// Pairs each address with the gateway of its family. The CIDRs may have changed since it was leased.
fn legs(gateways: &[IpAddr], lease: &Lease) -> Vec<Leg> {
    let gateway = |pod: &IpAddr| gateways.iter().copied().find(|gateway| gateway.is_ipv4() == pod.is_ipv4());
    lease.addresses.iter().filter_map(|pod| Some(Leg { pod: *pod, gateway: gateway(pod)? })).collect()
}

/// Ends UDP flows to the lease's host ports that go elsewhere: they began before these ports led here.
fn end_astray(lease: &Lease) -> io::Result<()> {
    for address in &lease.addresses {
        conntrack::end_udp(address.is_ipv6(), |flow| {
            let ports = || lease.ports.iter().filter(|port| port.protocol == Protocol::Udp.as_str());
            let ours = ports()
                .any(|port| port.host == flow.to.port() && port.host_address.is_none_or(|ip| ip == flow.to.ip()));
            // Only an address of this node can be bound to.
            ours && flow.goes_to.ip() != *address && UdpSocket::bind((flow.to.ip(), 0)).is_ok()
        })?;
    }
    Ok(())
}

/// Sets a kernel switch unless it is set: in a container the file may be right and not writable.
fn turn_on(switch: &str) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{switch}: {error}"));
    if fs::read_to_string(switch).map_err(failed)?.trim() == "1" {
        return Ok(());
    }
    fs::write(switch, "1").map_err(failed)
}

fn check(attachment: &Attachment) -> Result<Vec<Port>, NetworkError> {
    check_id(&attachment.id)?;
    attachment.host_ports.iter().map(port).collect()
}

fn port(port: &HostPort) -> Result<Port, NetworkError> {
    let Some(protocol) = Protocol::of(Some(&port.protocol)) else {
        return Err(NetworkError {
            message: format!("host port {}: `{}` is not TCP, UDP or SCTP", port.host_port, port.protocol),
        });
    };
    Ok(Port {
        protocol: protocol.as_str().into(),
        host_address: port.host_ip.filter(|address| !address.is_unspecified()),
        host: port.host_port,
        pod: port.container_port,
    })
}

/// Ids become file names.
fn check_id(id: &str) -> Result<(), NetworkError> {
    let fits = (1..=64).contains(&id.len());
    if fits && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Ok(());
    }
    Err(NetworkError { message: format!("`{id}` is not an id: 1 to 64 characters of a-z, 0-9 and -") })
}

/// Runs `work` on a blocking thread, to its end even when the caller is dropped.
async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetworkError> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|error| failed(what, &error))?;
    outcome.map_err(|error| failed(what, &error))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> NetworkError {
    NetworkError { message: format!("cannot {what}: {error}") }
}
