//! The userspace backend: sockets of this process in place of rules of the kernel.

mod addresses;
mod choice;
mod relay;
mod remembered;
mod tcp;
mod udp;
mod unserved;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_core::env::Env;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

pub use self::unserved::{Obstacle, Unserved};
use self::{
    addresses::Addresses,
    choice::{Choice, Inside},
    relay::Buffers,
    tcp::TcpPort,
    udp::UdpPort,
};
use super::{Applied, Destination, Frontend, Protocol, ProxyError, Rules, ServiceBackend};

/// Bytes of a buffer for one direction of a TCP connection.
const STREAM_BUFFER: usize = 32 * 1024;
/// No datagram is longer.
const DATAGRAM_BUFFER: usize = 64 * 1024;

/// What a [`Userspace`] backend may use.
#[derive(Debug, Clone)]
pub struct UserspaceConfig {
    /// The name of the link that carries addresses of Services: at most 11 bytes, because its other end is called the same
    /// with `-end` behind it. Two backends with different names do not see each other.
    pub link: String,
    /// TCP connections at one time; more wait to be accepted. Never more than a quarter of the descriptors that the process
    /// may open: a connection takes two.
    pub connections: usize,
    /// UDP flows at one time; for more, those idle for the longest make room. Never more than an eighth of the descriptors
    /// that the process may open: a flow takes one.
    pub udp_flows: usize,
    /// How long nothing may be heard of a UDP client or its endpoint until the flow is forgotten.
    pub udp_idle: Duration,
    /// How long an endpoint may take to accept a TCP connection until the next one is tried.
    pub connect_timeout: Duration,
}

impl Default for UserspaceConfig {
    fn default() -> Self {
        Self {
            link: "k8s-proxy".into(),
            connections: 8192,
            udp_flows: 8192,
            udp_idle: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

/// Serves [`Rules`] by sockets of this process: it takes connections and datagrams itself, and passes them on.
///
/// Addresses that the machine has, those of node ports for instance, need no privileges. Cluster IPs, external and
/// load-balancer addresses are added to a link of this backend's own, which takes `CAP_NET_ADMIN`; without it they are not
/// served, [`unserved`](Self::unserved) and a warning say so, and node ports are served all the same. Ports below 1024 take
/// `CAP_NET_BIND_SERVICE`. Needs a tokio runtime.
///
/// Dropping it ends everything a moment later: sockets and connections belong to the process.
/// [`intact`](ServiceBackend::intact) notices when somebody removes the link, and tries again what another process's socket
/// stood in the way of.
pub struct Userspace {
    shared: Arc<Shared>,
    addresses: Addresses,
    served: BTreeMap<Frontend, Served>,
    /// What is in force; `None` when unknown.
    applied: Option<Rules>,
    unserved: Unserved,
    /// What the next try may open.
    waiting: BTreeSet<Frontend>,
}

/// What all sockets share.
struct Shared {
    env: Env,
    config: UserspaceConfig,
    connections: Arc<Semaphore>,
    flows: Arc<Semaphore>,
    /// Who is inside the cluster.
    inside: Mutex<Inside>,
    stream_buffers: Arc<Buffers>,
    datagram_buffers: Arc<Buffers>,
}

/// One frontend: what it offers, and the socket that offers it.
struct Served {
    choice: Arc<Mutex<Choice>>,
    socket: Socket,
    /// Whether everything that does not fit the choice has ended: not so after a call that was dropped half-way.
    settled: bool,
}

enum Socket {
    Tcp(TcpPort),
    Udp(UdpPort),
    /// There are no such sockets.
    None,
}

impl Userspace {
    /// A backend that serves nothing yet.
    pub fn new(env: Env, config: UserspaceConfig) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|soft| usize::try_from(soft).ok());
        let descriptors = descriptors.unwrap_or(usize::MAX);
        let bound =
            |wanted: usize, most: usize| Arc::new(Semaphore::new(wanted.min(most).clamp(1, Semaphore::MAX_PERMITS)));
        let shared = Shared {
            connections: bound(config.connections, descriptors / 4),
            flows: bound(config.udp_flows, descriptors / 8),
            inside: Mutex::default(),
            stream_buffers: Buffers::of(STREAM_BUFFER),
            datagram_buffers: Buffers::of(DATAGRAM_BUFFER),
            env,
            config,
        };
        Self {
            addresses: Addresses::new(shared.config.link.clone()),
            shared: Arc::new(shared),
            served: BTreeMap::new(),
            applied: None,
            unserved: Unserved::default(),
            waiting: BTreeSet::new(),
        }
    }

    /// What is not served though the rules say so, and why.
    pub fn unserved(&self) -> &Unserved {
        &self.unserved
    }

    /// Brings what frontends offer to the rules, and ends what does not fit any more. Opens nothing. Answers the number of
    /// frontends that changed.
    async fn change(&mut self, rules: &Rules) -> usize {
        *self.shared.inside.lock() = Inside::of(rules);
        let gone = self.served.extract_if(.., |frontend, _| !rules.frontends.contains_key(frontend));
        let gone: Vec<_> = gone.map(|(_, served)| served).collect();
        let mut changes = gone.len();
        for served in gone {
            served.end().await;
        }
        for (frontend, destination) in &rules.frontends {
            let changed = match self.served.get_mut(frontend) {
                Some(served) => {
                    let changed = served.change(destination);
                    served.settle().await;
                    changed
                }
                None => {
                    let served = Served::new(*frontend, destination.clone(), &self.shared);
                    self.served.insert(*frontend, served);
                    true
                }
            };
            changes += usize::from(changed);
        }
        changes
    }

    /// Opens what should be open and is not, and says what cannot be.
    fn open(&mut self, lacking: &BTreeMap<IpAddr, io::Error>) {
        let mut unserved = Unserved::default();
        self.waiting.clear();
        for (frontend, served) in &mut self.served {
            let obstacle = match lacking.get(&frontend.address) {
                Some(error) => Some(Obstacle::of_address(&self.addresses.link, error)),
                None => served.open(*frontend).err(),
            };
            if let Some(obstacle) = obstacle {
                if obstacle.may_pass() {
                    self.waiting.insert(*frontend);
                }
                unserved.add(obstacle, served.choice.lock().service());
            }
        }
        for line in unserved.since(&self.unserved).to_string().lines() {
            tracing::warn!("userspace service proxy: {line}");
        }
        self.unserved = unserved;
    }

    async fn end(&mut self) {
        self.applied = None;
        self.waiting.clear();
        self.unserved = Unserved::default();
        for served in std::mem::take(&mut self.served).into_values() {
            served.end().await;
        }
    }
}

/// The addresses that Services give to the machine. The node's own are not among them: if it lacks one, adding it would
/// take it from whoever has it.
fn foreign(rules: &Rules) -> BTreeSet<IpAddr> {
    let all = rules.frontends.keys().map(|frontend| frontend.address).chain(rules.cluster_ips.iter().copied());
    all.filter(|address| !rules.node_ips.contains(address)).collect()
}

impl Served {
    fn new(frontend: Frontend, destination: Destination, shared: &Arc<Shared>) -> Self {
        let choice = Arc::new(Mutex::new(Choice::new(destination)));
        let (of_socket, shared) = (Arc::clone(&choice), Arc::clone(shared));
        let socket = match frontend.protocol {
            Protocol::Tcp => Socket::Tcp(TcpPort::new(frontend, of_socket, shared)),
            Protocol::Udp => Socket::Udp(UdpPort::new(frontend, of_socket, shared)),
            Protocol::Sctp => Socket::None,
        };
        Self { choice, socket, settled: true }
    }

    /// Offers `destination` from now on. Answers whether that is a change.
    fn change(&mut self, destination: &Destination) -> bool {
        let mut choice = self.choice.lock();
        let changes = !choice.is(destination);
        if changes {
            self.settled = false;
            choice.change(destination.clone());
        }
        changes
    }

    /// Ends what does not fit the choice.
    async fn settle(&mut self) {
        if self.settled {
            return;
        }
        let is_open = self.choice.lock().is_open();
        match &mut self.socket {
            Socket::Tcp(port) => {
                if !is_open {
                    port.close().await;
                }
                port.end_departed().await;
            }
            Socket::Udp(port) if is_open => port.end_departed().await,
            Socket::Udp(port) => port.close().await,
            Socket::None => {}
        }
        self.settled = true;
    }

    /// Listens, if there is anything to offer.
    fn open(&mut self, frontend: Frontend) -> Result<(), Obstacle> {
        let is_open = self.choice.lock().is_open();
        let outcome = match &mut self.socket {
            Socket::Tcp(port) if is_open && !port.is_listening() => port.listen(),
            Socket::Udp(port) if is_open && !port.is_listening() => port.listen(),
            Socket::None => return Obstacle::of_protocol(frontend.protocol).map_or(Ok(()), Err),
            _ => Ok(()),
        };
        outcome.map_err(|error| Obstacle::of_socket(frontend, &error))
    }

    async fn end(self) {
        match self.socket {
            Socket::Tcp(port) => port.end().await,
            Socket::Udp(mut port) => port.close().await,
            Socket::None => {}
        }
    }
}

#[async_trait]
impl ServiceBackend for Userspace {
    async fn apply(&mut self, rules: Rules) -> Result<Applied, ProxyError> {
        if self.applied.as_ref() == Some(&rules) {
            return Ok(Applied { full: false, changes: 0 });
        }
        // Taken out, so that dropping this future half-way leaves "unknown" behind.
        let full = self.applied.take().is_none();
        // What is not wanted any more stops listening before its address goes.
        let changes = self.change(&rules).await;
        let lacking = self.addresses.bring(&foreign(&rules));
        self.open(&lacking);
        self.applied = Some(rules);
        Ok(Applied { full, changes })
    }

    async fn intact(&mut self) -> Result<bool, ProxyError> {
        let Some(rules) = &self.applied else { return Ok(false) };
        if !self.addresses.intact().map_err(|source| ProxyError::Link { source })? {
            return Ok(false);
        }
        if !self.waiting.is_empty() {
            let lacking = self.addresses.bring(&foreign(rules));
            self.open(&lacking);
        }
        Ok(true)
    }

    fn forget(&mut self) {
        self.applied = None;
        self.addresses.doubt();
    }

    async fn cleanup(&mut self) -> Result<(), ProxyError> {
        self.end().await;
        self.addresses.remove().map_err(|source| ProxyError::Link { source })
    }
}

impl Drop for Userspace {
    fn drop(&mut self) {
        let served = std::mem::take(&mut self.served);
        if served.is_empty() {
            return;
        }
        let addresses = std::mem::replace(&mut self.addresses, Addresses::new(String::new()));
        let end = async move {
            // First the connections: a client hears of the end only from the address that it turned to.
            for served in served.into_values() {
                served.end().await;
            }
            drop(addresses);
        };
        self.shared.env.spawn("service-proxy-end", Box::pin(end)).detach();
    }
}
