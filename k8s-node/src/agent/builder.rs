//! Putting an agent together.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use k8s_core::{
    api::api::core::v1::{Pod, Taint},
    env::{Env, Task},
    seam::{network::PodNetwork, traffic::PodTraffic},
};
use k8s_reconcile::{Client, Informer, InformerScope};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    Agent, ImageLimits, LogLimits, NoNetwork, Shared, events::Events, image_keeper, inbox::Inbox, log_keeper,
    observatory::Observatory, provision::NoProvision, pull::PULLS_AT_ONCE,
};
use crate::{
    environment::DnsSettings,
    node::{Machine, NodeSettings, Pressure, allocatable, keeper::Keeper},
    plan::Host,
    runtime::PodRuntime,
    volume::HostFiles,
};

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node's folder cannot be used.
    #[error("node folder {}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An agent in the making.
pub struct AgentBuilder {
    client: Client,
    runtime: Arc<dyn PodRuntime>,
    env: Env,
    settings: NodeSettings,
    network: Arc<dyn PodNetwork>,
    traffic: Option<Arc<dyn PodTraffic>>,
    folder: Option<PathBuf>,
    dns: DnsSettings,
    machine: Option<Machine>,
    pods: Option<Informer<Pod>>,
    quiet: Quiet,
    log_limits: LogLimits,
    image_limits: ImageLimits,
}

/// Whether the agent writes events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quiet {
    No,
    Yes,
}

impl AgentBuilder {
    pub(super) fn new(client: Client, runtime: Arc<dyn PodRuntime>, env: Env, node_name: String) -> Self {
        let settings = NodeSettings { name: node_name, runtime_version: runtime.version(), ..NodeSettings::default() };
        let dns = DnsSettings { cluster_domain: "cluster.local".to_owned(), ..DnsSettings::default() };
        Self {
            client,
            runtime,
            env,
            settings,
            network: Arc::new(NoNetwork),
            traffic: None,
            folder: None,
            dns,
            machine: None,
            pods: None,
            quiet: Quiet::No,
            log_limits: LogLimits::default(),
            image_limits: ImageLimits::default(),
        }
    }

    /// What gives pods their addresses. Without it only pods on the host's network run.
    pub fn network(mut self, network: Arc<dyn PodNetwork>) -> Self {
        self.network = network;
        self
    }

    /// What knows whether clients are still led to a pod. With it, a pod that is deleted is told to end only when they are
    /// not, or when that takes too long; without it, at once.
    pub fn traffic(mut self, traffic: Arc<dyn PodTraffic>) -> Self {
        self.traffic = Some(traffic);
        self
    }

    /// Where volumes, files and logs of pods are kept (absolute). Without it pods get none of these, as on simulated
    /// nodes, and nothing is read from or written to the disk.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The machine's addresses, primary first.
    pub fn addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.settings.addresses = addresses;
        self
    }

    /// Labels of the Node besides the usual ones.
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.settings.labels = labels;
        self
    }

    /// Taints of a Node that is registered for the first time.
    pub fn taints(mut self, taints: Vec<Taint>) -> Self {
        self.settings.taints = taints;
        self
    }

    /// The port that the node's own server listens on, as the Node tells it. 0: none.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = port;
        self
    }

    /// How pods resolve names. Where this does not say what the machine's `resolv.conf` holds, it is read at the start.
    pub fn dns(mut self, dns: DnsSettings) -> Self {
        self.dns = dns;
        self
    }

    /// How large the logs of containers may grow.
    pub fn log_limits(mut self, limits: LogLimits) -> Self {
        self.log_limits = limits;
        self
    }

    /// When images that nobody uses are removed.
    pub fn image_limits(mut self, limits: ImageLimits) -> Self {
        self.image_limits = limits;
        self
    }

    /// What the Node says of the machine. Default: this machine if there is a folder, else a simulated one.
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = Some(machine);
        self
    }

    /// An informer of pods shared with others; pods of other nodes in it are not looked at. Such an agent must be told
    /// of changes by whoever shares the informer.
    pub(super) fn shared_pods(mut self, pods: Informer<Pod>) -> Self {
        self.pods = Some(pods);
        self
    }

    /// Writes no events.
    pub(super) fn quiet(mut self) -> Self {
        self.quiet = Quiet::Yes;
        self
    }

    /// Starts the agent. Blocks on the disk for a moment.
    pub fn start(mut self) -> Result<Agent, StartError> {
        if self.folder.is_some() && self.dns.host_resolv_conf.is_empty() {
            self.dns.host_resolv_conf = host_resolv_conf();
        }
        let machine = self.machine.clone().unwrap_or_else(|| match &self.folder {
            Some(folder) => {
                let existing = folder.ancestors().find(|folder| folder.exists());
                Machine::detect(existing.unwrap_or(folder))
            }
            None => Machine::simulated(),
        });
        let provision: Arc<dyn super::provision::Provision> = match &self.folder {
            Some(folder) => {
                let unusable = |source| StartError::Folder { folder: folder.clone(), source };
                let (client, env, node) = (self.client.clone(), self.env.clone(), self.settings.clone());
                let runtime = self.runtime.clone();
                let files = HostFiles::open(client, env, node, &machine, folder, self.dns.clone(), runtime);
                Arc::new(files.map_err(unusable)?)
            }
            None => Arc::new(NoProvision { node_name: self.settings.name.clone() }),
        };
        let (events, event_task) = match self.quiet {
            Quiet::Yes => (Events::default(), None),
            Quiet::No => {
                let (events, task) = Events::start(self.client.clone(), &self.env, &self.settings.name);
                (events, Some(task))
            }
        };
        let is_shared = self.pods.is_some();
        let pods = self
            .pods
            .clone()
            .unwrap_or_else(|| self.client.informer(InformerScope::field("spec.nodeName", &self.settings.name)));
        let name = self.runtime.version();
        let runtime_name = name.split("://").next().unwrap_or_default().to_owned();
        let shared = Arc::new(Shared {
            node_name: self.settings.name.clone(),
            client: self.client.clone(),
            env: self.env.clone(),
            runtime: self.runtime.clone(),
            network: self.network.clone(),
            traffic: self.traffic.clone(),
            provision,
            pods,
            events,
            observatory: Observatory::new(self.runtime.clone()),
            host: Host { addresses: self.settings.addresses.clone(), runtime: runtime_name },
            inbox: Inbox::default(),
            pulls: Semaphore::new(PULLS_AT_ONCE),
            allocatable: allocatable(&machine),
            labels: Mutex::new(crate::node::labels(&self.settings, &machine)),
            admitted: Mutex::default(),
            workers: Mutex::default(),
        });
        let subscription = (!is_shared).then(|| {
            let told = Arc::downgrade(&shared);
            shared.pods.subscribe(Arc::new(move |delta| {
                if let Some(shared) = told.upgrade() {
                    shared.inbox.informed(&shared.node_name, delta);
                }
            }))
        });
        let mut tasks: Vec<Task> = event_task.into_iter().collect();
        let env = self.env.clone();
        tasks.push(env.spawn("node dispatch", Box::pin(shared.clone().dispatch())));
        tasks.push(env.spawn("node hints", Box::pin(shared.clone().listen())));
        tasks.push(env.spawn("node adoption", Box::pin(shared.clone().adopt())));
        if let Some(folder) = self.folder.clone() {
            tasks.push(env.spawn("node logs", Box::pin(log_keeper::keep(shared.clone(), self.log_limits))));
            let images = image_keeper::keep(shared.clone(), self.image_limits, folder);
            tasks.push(env.spawn("node images", Box::pin(images)));
        }
        tasks.extend(self.keep_node(&shared, machine));
        Ok(Agent { shared, tasks, _subscription: subscription })
    }

    fn keep_node(self, shared: &Arc<Shared>, machine: Machine) -> [Task; 2] {
        let told = Arc::downgrade(shared);
        let pressure: Arc<dyn Fn() -> Pressure + Send + Sync> = match self.folder {
            Some(folder) => Arc::new(move || Pressure::detect(&folder)),
            None => Arc::new(Pressure::default),
        };
        let keeper = Arc::new(Keeper {
            client: self.client,
            env: self.env.clone(),
            settings: self.settings,
            machine,
            runtime: self.runtime,
            network: self.network,
            pressure,
            labels: Arc::new(move |labels| {
                if let Some(shared) = told.upgrade() {
                    *shared.labels.lock() = labels;
                }
            }),
        });
        [
            self.env.spawn("node status", Box::pin(keeper.clone().keep_status())),
            self.env.spawn("node lease", Box::pin(keeper.keep_lease())),
        ]
    }
}

/// The machine's `resolv.conf`: the one behind it where a local stub answers, which pods cannot reach.
fn host_resolv_conf() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let usual = read("/etc/resolv.conf");
    let behind = read("/run/systemd/resolve/resolv.conf");
    let is_stub = usual.lines().any(|line| line.starts_with("nameserver 127."));
    if is_stub && !behind.is_empty() { behind } else { usual }
}
