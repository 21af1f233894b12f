//! `k8s up`: a whole cluster in this process, on the embedded store, with this machine as its node.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use ipnet::IpNet;
use k8s::{
    Cluster, Credentials,
    cluster_dns::{self, ClusterDns, ClusterDnsOptions},
    controllers::{node_ipam::Range, start::NodeCidrs},
    core::{
        api::api::core::v1::Node,
        env::{Env, Task},
        request::Caller,
    },
    credentials::identity,
    machine::{self, Machine, MachineOptions, NodeOptions, ProxyMode},
    node::{
        agent::{ImageLimits, LogLimits},
        environment::DnsSettings,
        image::registry::RegistrySettings,
        native::ShimCommand,
    },
    reconcile::Client,
    store::{Embedded, EmbeddedOptions},
    wire::{env::System, pki::write_private},
};

use crate::{
    apiserver_flags::check_plugins,
    data_dir,
    program::{Failure, stop_signal},
    progress::Progress,
};

/// The hidden subcommand that runs a container's shim.
pub const SHIM: &str = "container-shim";

/// Names the machine's resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The flags of `k8s up`.
#[derive(Args)]
pub struct Up {
    /// The folder that keeps everything [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to serve the API on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    /// The port to serve the API on; 0 chooses a free one
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    secure_port: u16,
    /// `local` runs containers on this machine; `hollow:N` simulates N nodes and needs no privileges
    #[arg(long, default_value = "local", value_name = "NODES")]
    nodes: Nodes,
    /// The address that pods and other machines reach the API at [default: this machine's]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,
    /// Another name or address that the API's certificate holds for; may be given several times
    #[arg(long, value_name = "NAME_OR_IP")]
    tls_san: Vec<String>,
    /// Admission plugins to turn off; all that there are are on
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    disable_admission_plugins: Vec<String>,
    /// The name of this machine's node [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The address that other nodes reach this machine at [default: that of the default route]
    #[arg(long, value_name = "IP")]
    node_ip: Option<IpAddr>,
    /// A registry that is asked over plain HTTP; may be given several times. Those on this machine always are
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// How traffic for services is led on this machine's node: `nftables` by rules of the kernel, `userspace` by sockets of
    /// this process
    #[arg(long, default_value_t, value_name = "MODE")]
    proxy_mode: ProxyMode,
    /// Names the resolvers for what is outside the cluster [default: the machine's]
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
}

/// Which nodes there are.
#[derive(Clone, Copy)]
enum Nodes {
    Local,
    Hollow(usize),
}

impl std::str::FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.strip_prefix("hollow:").and_then(|count| count.parse().ok());
        match (text, count) {
            ("local", _) => Ok(Self::Local),
            (_, Some(count)) if (1..=10_000).contains(&count) => Ok(Self::Hollow(count)),
            _ => Err("expected `local`, or `hollow:N` with N from 1 to 10000".into()),
        }
    }
}

impl Up {
    /// Runs the cluster until it is told to stop.
    pub async fn run(self) -> Result<(), Failure> {
        let progress = Progress::default();
        check_plugins("disable-admission-plugins", &self.disable_admission_plugins)?;
        if matches!(self.nodes, Nodes::Local) {
            machine::check_privileges()?;
            machine::check_kernel()?;
        }
        let folder = data_dir::prepare(self.data_dir.clone())?;
        let env = System::current();
        let store = open_store(&folder, &env)?;
        progress.done(format_args!("store opened in {}", folder.display()));
        let credentials = Arc::new(Credentials::load_or_generate(&folder.join("pki"), &env)?);
        progress.done("keys and certificates ready");

        let mut builder = Cluster::builder()
            .environment(env.clone())
            .store(store.clone())
            .credentials(credentials)
            .listen(SocketAddr::new(self.bind_address, self.secure_port))
            .advertise(self.advertise_address.unwrap_or_else(|| self.node_ip()))
            .serving_names(self.tls_san.clone())
            .without_admission(self.disable_admission_plugins.clone());
        builder = match self.nodes {
            Nodes::Hollow(count) => builder.hollow_nodes(count),
            Nodes::Local => builder.node_cidrs(node_cidrs(&self.node_name())?),
        };
        let cluster = builder.start().await?;
        let kubeconfig = folder.join("admin.kubeconfig");
        if let Some(text) = cluster.kubeconfig() {
            write_private(&kubeconfig, text?.as_bytes())?;
        }
        let url = cluster.control_plane().url().unwrap_or_default();
        progress.done(format_args!("API server, controllers and scheduler ready on {url}"));

        let local = match self.nodes {
            Nodes::Local => Some(self.start_node(&cluster, &folder, &env).await?),
            Nodes::Hollow(_) => None,
        };
        match &local {
            Some(local) => progress.done(format_args!(
                "node, service proxy and cluster DNS ({} at {}) started",
                cluster_dns::CLUSTER_IP,
                local.dns.address
            )),
            None => progress.done("simulated nodes started"),
        }
        progress.say(format_args!("ready: export KUBECONFIG={}", kubeconfig.display()));

        stop_signal().await?;
        progress.begin("stopping; containers keep running");
        if let Some(local) = local {
            local.stop().await;
            progress.done("node, service proxy and cluster DNS stopped");
        }
        cluster.stop().await;
        progress.done("API server stopped");
        store.close();
        progress.done("store closed");
        Ok(())
    }

    fn node_name(&self) -> String {
        self.node_name.clone().unwrap_or_else(host_name)
    }

    fn node_ip(&self) -> IpAddr {
        self.node_ip.unwrap_or_else(machine::node_address)
    }

    async fn start_node(&self, cluster: &Cluster, folder: &Path, env: &Env) -> Result<Local, Failure> {
        let (name, cluster_cidrs) = (self.node_name(), vec![machine::CLUSTER_CIDR.parse()?]);
        let resolv_conf = self.resolv_conf.as_deref().map(read_resolv_conf).transpose()?;
        let as_proxy = cluster.client_as("kube-proxy", Caller::new(identity::PROXY, &[]));
        let pod_cidr = own_cidr(&as_proxy, &name).await?;
        let caller = Caller::new(identity::node(&name), &[identity::NODES]);
        let options = MachineOptions {
            name: name.clone(),
            folder: folder.join("node"),
            env: env.clone(),
            shim: shim()?,
            pod_cidrs: vec![pod_cidr],
            cluster_cidrs: cluster_cidrs.clone(),
            addresses: vec![self.node_ip()],
            port: 0,
            registries: RegistrySettings { insecure: self.insecure_registry.clone(), ..RegistrySettings::default() },
            log_limits: LogLimits::default(),
            image_limits: ImageLimits::default(),
            dns: DnsSettings {
                cluster_servers: vec![cluster_dns::CLUSTER_IP],
                cluster_domain: cluster_dns::DOMAIN.to_owned(),
                host_resolv_conf: resolv_conf.clone().unwrap_or_default(),
            },
            node: NodeOptions::default(),
        };
        let machine = Machine::start(cluster.client_as("kubelet", caller), options).await?;
        cluster.control_plane().nodes.add(&machine.agent);
        let routes = machine::start_routes(as_proxy.clone(), env, &name, cluster_cidrs.clone());
        let places = (cluster_cidrs.clone(), vec![self.node_ip()]);
        let proxy = machine::start_proxy(as_proxy, env, &name, places, self.proxy_mode, Arc::default());
        let account = identity::DNS_ACCOUNT;
        let client = cluster.client_as("cluster-dns", Caller::service_account("kube-system", account));
        let resolv_conf = resolv_conf.or_else(|| read_resolv_conf(Path::new(RESOLV_CONF)).ok()).unwrap_or_default();
        let options = ClusterDnsOptions::new(&name, pod_cidr, cluster_cidrs, resolv_conf);
        let dns = ClusterDns::start(client, env, options).await?;
        Ok(Local { machine, proxy, routes, dns })
    }
}

/// The blocks for nodes. The first one is this machine's: its node comes with it, and waits for nobody.
fn node_cidrs(node: &str) -> Result<NodeCidrs, Failure> {
    let range = Range::new(machine::CLUSTER_CIDR.parse()?, machine::NODE_MASKS[0])?;
    Ok(NodeCidrs { ranges: vec![range], reserved: vec![(node.to_owned(), vec![machine::FIRST_POD_CIDR.parse()?])] })
}

/// What this machine's node has, or else the block that is kept for it.
async fn own_cidr(client: &Client, node: &str) -> Result<IpNet, Failure> {
    let known = client.all::<Node>().find(node).await?;
    let given = known.and_then(|known| k8s::net::pod::pod_cidrs(&known).first().copied());
    given.map_or_else(|| Ok(machine::FIRST_POD_CIDR.parse()?), Ok)
}

/// This machine as a node.
struct Local {
    machine: Machine,
    proxy: Task,
    routes: Task,
    dns: ClusterDns,
}

impl Local {
    async fn stop(self) {
        self.dns.stop().await;
        self.proxy.stop().await;
        self.routes.stop().await;
        self.machine.stop().await;
    }
}

/// What a `resolv.conf` says.
pub fn read_resolv_conf(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|why| format!("--resolv-conf {}: {why}", path.display()).into())
}

fn open_store(folder: &Path, env: &Env) -> Result<Arc<Embedded>, Failure> {
    match Embedded::open(&folder.join("store"), env.clone(), EmbeddedOptions::default()) {
        Err(k8s::store::StoreError::Locked { .. }) => {
            Err(format!("--data-dir {}: in use by another process", folder.display()).into())
        }
        opened => Ok(opened?),
    }
}

/// How this program starts itself as a container's shim.
pub fn shim() -> Result<ShimCommand, Failure> {
    let program = std::env::current_exe().map_err(|why| format!("the path of this program: {why}"))?;
    Ok(ShimCommand { program, args: vec![SHIM.into()] })
}

/// The machine's host name, as a node's name has to be written.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() { "node".into() } else { name }
}
