//! A whole cluster in this process: API server, controllers, scheduler, and simulated nodes if asked for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_apiserver::{ApiServer, admission::Admission, auth::Authorizer, outer::Insider};
use k8s_controllers::start::{Controllers, NodeCidrs, Options as ControllerOptions};
use k8s_core::{
    env::Env,
    registry::{Registry, ResourceInfo},
    request::Caller,
    seam::transport::Transport,
    status::ApiError,
};
use k8s_node::agent::HollowNodes;
use k8s_reconcile::Client;
use k8s_sched::{
    Profile,
    service::{Running, Scheduler},
};
use k8s_store::{Memory, Store, StoreError};
use k8s_wire::{env::System, pki::PkiError, tls::TlsError};

use crate::{
    control_plane::{ControlPlane, ControlPlaneOptions, ControlPlaneSettings},
    credentials::{Credentials, identity, token_issuer},
    inert,
};

/// A way to look at, or interfere with, what each component asks of the API server.
type Wrap = Arc<dyn Fn(&str, Arc<dyn Transport>) -> Arc<dyn Transport> + Send + Sync>;

/// A cluster to be. The default is in memory, listens nowhere, and has no nodes.
#[derive(Default)]
pub struct ClusterBuilder {
    env: Option<Env>,
    store: Option<Arc<dyn Store>>,
    credentials: Option<Arc<Credentials>>,
    kinds: Vec<ResourceInfo>,
    admission: Vec<Arc<dyn Admission>>,
    without_admission: Vec<String>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    profile: Option<Profile>,
    controllers: Option<Vec<&'static str>>,
    without_scheduler: bool,
    hollow_nodes: usize,
    listen: Option<SocketAddr>,
    advertise: Option<IpAddr>,
    serving_names: Vec<String>,
    node_cidrs: Option<NodeCidrs>,
    wrap: Option<Wrap>,
}

/// A running cluster. Dropping it stops everything at once; [`Cluster::stop`] stops it in order.
pub struct Cluster {
    env: Env,
    credentials: Arc<Credentials>,
    wrap: Option<Wrap>,
    nodes: Option<HollowNodes>,
    scheduler: Option<Running>,
    controllers: Controllers,
    control_plane: ControlPlane,
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The store cannot be opened or read.
    #[error("store")]
    Store(#[from] StoreError),
    /// The port cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The audit log cannot be opened.
    #[error("audit log {}", path.display())]
    AuditLog {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Keys or certificates.
    #[error("keys and certificates")]
    Pki(#[from] PkiError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// The API server refused something that it needs itself.
    #[error("API server")]
    Api(#[from] ApiError),
    /// Nodes.
    #[error("nodes: {0}")]
    Nodes(String),
}

impl Cluster {
    /// A cluster to be.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// A client as the administrator.
    pub fn client(&self) -> Client {
        self.client_as("admin", Caller::new(identity::ADMIN, &[identity::MASTERS]))
    }

    /// A client under any identity; `name` is what traces call it.
    pub fn client_as(&self, name: &str, caller: Caller) -> Client {
        Client::new(self.transport(name, caller), self.env.clone())
    }

    /// A transport under any identity.
    pub fn transport(&self, name: &str, caller: Caller) -> Arc<dyn Transport> {
        transport(&self.control_plane.api, self.wrap.as_ref(), name, caller)
    }

    /// The HTTP API under any identity, for clients of other crates: a tower service that opens no port. `name` is the
    /// user agent of requests that bring none.
    ///
    /// Unlike [`Cluster::client_as`] it encodes and decodes as over a socket, and no
    /// [`wrap_transports`](ClusterBuilder::wrap_transports) comes between. What has to be upgraded needs a port: exec,
    /// attach, port-forward.
    pub fn service(&self, name: &str, caller: Caller) -> Insider {
        self.control_plane.outer.as_caller(caller.with_agent(name))
    }

    /// The API server and what belongs to it.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The keys of the cluster.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Time, randomness, tasks.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.control_plane.address
    }

    /// A kubeconfig for the administrator, if the cluster listens.
    pub fn kubeconfig(&self) -> Option<Result<String, PkiError>> {
        Some(self.credentials.kubeconfig(&self.control_plane.url()?, identity::ADMIN, &[identity::MASTERS]))
    }

    /// Whether controllers and scheduler have seen everything and have nothing to do, now or within `horizon`.
    pub fn is_settled(&self, horizon: Duration) -> bool {
        let revision = self.control_plane.api.revision();
        let scheduled = self.scheduler.as_ref().is_none_or(|scheduler| scheduler.is_settled(revision));
        scheduled && self.controllers.is_settled(revision, horizon)
    }

    /// Stops everything in order: nodes, scheduler, controllers, then the API server.
    pub async fn stop(self) {
        if let Some(nodes) = self.nodes {
            nodes.stop().await;
        }
        if let Some(scheduler) = self.scheduler {
            scheduler.stop().await;
        }
        self.controllers.stop().await;
        self.control_plane.stop().await;
    }
}

fn transport(api: &ApiServer, wrap: Option<&Wrap>, name: &str, caller: Caller) -> Arc<dyn Transport> {
    let inner = api.transport(caller.with_agent(name));
    match wrap {
        Some(wrap) => wrap(name, inner),
        None => inner,
    }
}

impl ClusterBuilder {
    /// Time, randomness and tasks; by default those of the tokio runtime it is started in.
    pub fn environment(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Where everything is kept; by default in memory.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// The keys of the cluster; by default new ones that are kept nowhere.
    pub fn credentials(mut self, credentials: Arc<Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Serves a kind of the embedder's own.
    pub fn kind(mut self, kind: ResourceInfo) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Leaves built-in admission plugins out, by name (see [`k8s_apiserver::admission::BUILTIN`]).
    pub fn without_admission(mut self, names: Vec<String>) -> Self {
        self.without_admission = names;
        self
    }

    /// Adds an admission plugin.
    pub fn admission(mut self, plugin: Arc<dyn Admission>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// Adds an authorizer.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizers.push(authorizer);
        self
    }

    /// Replaces the scheduler's plugins.
    pub fn scheduler_profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Runs only these controllers.
    pub fn controllers(mut self, enabled: Vec<&'static str>) -> Self {
        self.controllers = Some(enabled);
        self
    }

    /// Runs no scheduler.
    pub fn without_scheduler(mut self) -> Self {
        self.without_scheduler = true;
        self
    }

    /// Adds simulated nodes: pods on them run at once, without containers.
    pub fn hollow_nodes(mut self, count: usize) -> Self {
        self.hollow_nodes = count;
        self
    }

    /// Listens for HTTPS; without this no port is opened.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The address that pods and other machines reach the API server at.
    pub fn advertise(mut self, address: IpAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Names and addresses that others know the API server by besides.
    pub fn serving_names(mut self, names: Vec<String>) -> Self {
        self.serving_names = names;
        self
    }

    /// Gives nodes their pod CIDRs; by default nobody does, as simulated nodes need none.
    pub fn node_cidrs(mut self, cidrs: NodeCidrs) -> Self {
        self.node_cidrs = Some(cidrs);
        self
    }

    /// Puts something between each component and the API server; it is told the component's name.
    pub fn wrap_transports(
        mut self,
        wrap: impl Fn(&str, Arc<dyn Transport>) -> Arc<dyn Transport> + Send + Sync + 'static,
    ) -> Self {
        self.wrap = Some(Arc::new(wrap));
        self
    }

    /// Starts the cluster. When this returns, the API serves and everything else is starting.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let env = self.env.unwrap_or_else(System::current);
        let store: Arc<dyn Store> = match self.store {
            Some(store) => store,
            None => Arc::new(Memory::new(env.clone())),
        };
        let credentials = match self.credentials {
            Some(credentials) => credentials,
            None => Arc::new(Credentials::generate(&env)?),
        };
        let control_plane = ControlPlane::start(ControlPlaneOptions {
            env: env.clone(),
            store,
            credentials: credentials.clone(),
            registry: self.kinds.into_iter().fold(Registry::builtin(), Registry::with),
            admission: self.admission,
            authorizers: self.authorizers,
            authenticators: Vec::new(),
            encryption: None,
            listen: self.listen,
            advertise: self.advertise,
            settings: ControlPlaneSettings {
                inert: inert::resources(),
                without_admission: self.without_admission,
                ..ControlPlaneSettings::default()
            },
            serving_names: self.serving_names,
        })
        .await?;
        let (api, wrap, of) = (control_plane.api.clone(), self.wrap.clone(), env.clone());
        let client =
            move |name: &str, caller: Caller| Client::new(transport(&api, wrap.as_ref(), name, caller), of.clone());
        let mut options = ControllerOptions::all(control_plane.api.kinds().clone());
        options.root_ca_pem = Some(credentials.ca_pem().to_owned());
        options.token_issuer = Some(token_issuer(credentials.signing_key().clone()));
        options.node_cidrs = self.node_cidrs;
        if let Some(enabled) = self.controllers {
            options.enabled = enabled;
        }
        let controllers = k8s_controllers::start::start(&options, |account| {
            client(account, Caller::service_account("kube-system", account))
        });
        let scheduler = (!self.without_scheduler).then(|| {
            let client = client("kube-scheduler", Caller::new(identity::SCHEDULER, &[]));
            Scheduler::new(self.profile.unwrap_or_default()).start(client)
        });
        let nodes = match self.hollow_nodes {
            0 => None,
            count => Some(hollow_nodes(&env, count, client)?),
        };
        for agent in nodes.iter().flat_map(|nodes| nodes.agents().values()) {
            control_plane.nodes.add(agent);
        }
        Ok(Cluster { env, credentials, wrap: self.wrap, nodes, scheduler, controllers, control_plane })
    }
}

fn hollow_nodes(
    env: &Env,
    count: usize,
    client: impl Fn(&str, Caller) -> Client + Send + 'static,
) -> Result<HollowNodes, ClusterError> {
    let count = u32::try_from(count).map_err(|_| ClusterError::Nodes(format!("{count} are too many")))?;
    let own = client("hollow-nodes", Caller::new("system:hollow-nodes", &[identity::MASTERS]));
    let nodes = HollowNodes::builder(own, env.clone(), count)
        .identity(move |name| client(name, Caller::new(identity::node(name), &[identity::NODES])));
    nodes.start().map_err(|error| ClusterError::Nodes(error.to_string()))
}
