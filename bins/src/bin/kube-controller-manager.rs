//! The built-in controllers as a program of its own, each under a service account of its own.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Weak},
    time::Duration,
};

use bins::{
    component::{ClientConnection, Leadership, Reach, run_leading},
    controller_names,
    go_duration::GoDuration,
    program::{self, Failure, Refused, Verbosity},
    progress::Progress,
    serving::{Metrics, ServingArguments, read_flag},
};
use clap::{Args, Parser};
use ipnet::IpNet;
use k8s::{
    controllers::{
        node_ipam::Range,
        node_lifecycle::plan::Graces,
        start::{self, Controllers, NodeCidrs, Options},
    },
    core::registry::{Kinds, Registry},
    credentials::{signing_key, token_issuer},
    machine,
    reconcile::Client,
    service_account::ServiceAccountTransport,
    wire::{env::System, health::Health, serve::CancellationToken},
};
use parking_lot::Mutex;

/// Runs the built-in controllers.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    leadership: Leadership,
    /// Which controllers run: `*` for all, `name` for one, `-name` for all but one
    #[arg(long, default_value = "*", value_delimiter = ',', value_name = "NAMES", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// The certificates that pods verify the API server by, published in every namespace
    #[arg(long, value_name = "FILE")]
    root_ca_file: Option<PathBuf>,
    /// The key that signs tokens which are kept in Secrets, that of kube-apiserver; without it there are no such tokens
    #[arg(long, value_name = "FILE")]
    service_account_private_key_file: Option<PathBuf>,
    /// How long a token in a Secret that came with its account may go unused before it is refused, and how long it is
    /// then kept
    #[arg(long, default_value = "8760h0m0s", value_name = "DURATION", value_parser = grace)]
    legacy_service_account_token_clean_up_period: Duration,
    /// Each controller has a service account of its own; there is no other way
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", value_parser = ["true"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    use_service_account_credentials: String,
    #[command(flatten)]
    concurrency: Concurrency,
    #[command(flatten)]
    nodes: NodeArguments,
    #[command(flatten)]
    serving: ServingArguments,
    /// The port for health and metrics; 0 for none
    #[arg(long, default_value_t = 10257, value_name = "PORT")]
    secure_port: u16,
    #[command(flatten)]
    verbosity: Verbosity,
}

/// How many objects a controller has in work at a time.
#[derive(Args)]
struct Concurrency {
    /// How many Deployments are in work at a time
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_deployment_syncs: u16,
    /// How many ReplicaSets are in work at a time
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_replicaset_syncs: u16,
    /// How many ReplicationControllers are in work at a time
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_rc_syncs: u16,
    /// How many Services are in work at a time for their Endpoints
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_endpoint_syncs: u16,
    /// How many Services are in work at a time for their EndpointSlices
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_service_endpoint_syncs: u16,
    /// How many Namespaces are in work at a time
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_namespace_syncs: u16,
    /// How many Namespaces are in work at a time for their service accounts
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_serviceaccount_syncs: u16,
}

impl Concurrency {
    fn workers(&self) -> BTreeMap<&'static str, usize> {
        [
            ("deployment-controller", self.concurrent_deployment_syncs),
            ("replicaset-controller", self.concurrent_replicaset_syncs),
            ("replicationcontroller-controller", self.concurrent_rc_syncs),
            ("endpoints-controller", self.concurrent_endpoint_syncs),
            ("endpointslice-controller", self.concurrent_service_endpoint_syncs),
            ("namespace-controller", self.concurrent_namespace_syncs),
            ("serviceaccount-controller", self.concurrent_serviceaccount_syncs),
        ]
        .map(|(name, count)| (name, usize::from(count)))
        .into()
    }
}

const REFUSED: &[Refused] = &[
    ("master", "the kubeconfig says where the API server is"),
    ("feature-gates", "there are no gates; everything that is there is on"),
    ("kube-api-qps", "requests are not slowed down by the client"),
    ("kube-api-burst", "requests are not slowed down by the client"),
    ("kube-api-content-type", "the client speaks JSON"),
    ("profiling", "there is no profiling"),
    ("contention-profiling", "there is no profiling"),
    ("cloud-provider", "there are no clouds"),
    ("cloud-config", "there are no clouds"),
    ("cluster-name", "nothing is made of the cluster's name; there are no clouds"),
    ("configure-cloud-routes", "there are no clouds"),
    ("external-cloud-volume-plugin", "there are no clouds"),
    ("cluster-signing-cert-file", "no certificates are signed here; `k8s kubeconfig` signs them"),
    ("cluster-signing-key-file", "no certificates are signed here; `k8s kubeconfig` signs them"),
    ("cluster-signing-duration", "no certificates are signed here; `k8s kubeconfig` signs them"),
    ("concurrent-gc-syncs", "the garbage collector takes one object after the other"),
    ("enable-garbage-collector", "--controllers says so: -garbage-collector-controller"),
    ("concurrent-daemonset-syncs", "there is no such controller"),
    ("concurrent-job-syncs", "there is no such controller"),
    ("concurrent-cron-job-syncs", "there is no such controller"),
    ("concurrent-statefulset-syncs", "there is no such controller"),
    ("concurrent-horizontal-pod-autoscaler-syncs", "there is no such controller"),
    ("concurrent-resource-quota-syncs", "there is no such controller"),
    ("concurrent-service-syncs", "there is no such controller"),
    ("concurrent-ttl-after-finished-syncs", "there is no such controller"),
    ("concurrent-ephemeralvolume-syncs", "there is no such controller"),
    ("controller-start-interval", "all controllers start at once"),
    ("min-resync-period", "nothing is done again without a reason"),
    ("namespace-sync-period", "namespaces are followed as they change"),
    ("route-reconciliation-period", "there are no clouds"),
    ("flex-volume-plugin-dir", "there are no volume plugins"),
    ("pv-recycler-pod-template-filepath-hostpath", "there are no volume plugins"),
    ("leader-migration-config", "there is one lease for all controllers"),
    ("enable-leader-migration", "there is one lease for all controllers"),
    ("cert-dir", "a certificate is made in memory, or given by --tls-cert-file"),
    ("requestheader-client-ca-file", "no front proxy asks the controller manager"),
    ("authentication-skip-lookup", "nothing is looked up; --client-ca-file says whose certificates are believed"),
    (
        "authentication-tolerate-lookup-failure",
        "nothing is looked up; --client-ca-file says whose certificates are believed",
    ),
    ("authentication-token-webhook-cache-ttl", "answers are not kept"),
    ("authorization-webhook-cache-authorized-ttl", "answers are not kept"),
    ("authorization-webhook-cache-unauthorized-ttl", "answers are not kept"),
    ("authorization-always-allow-paths", "/healthz, /livez and /readyz are open to everyone"),
    ("tls-cipher-suites", "the safe suites are spoken"),
    ("logging-format", "the log is text on standard error"),
    ("show-hidden-metrics-for-version", "no metric is hidden"),
];
/// What nodes are given, and how long they may be silent.
#[derive(Args)]
struct NodeArguments {
    /// Whether nodes are given their pod CIDRs
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    /// The addresses of all pods of the cluster: one range for each address family
    #[arg(long, default_value = machine::CLUSTER_CIDR, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// The prefix length of a node's pod CIDR [default: 24 for IPv4, 64 for IPv6]
    #[arg(long, value_name = "BITS", conflicts_with_all = ["node_cidr_mask_size_ipv4", "node_cidr_mask_size_ipv6"])]
    node_cidr_mask_size: Option<u8>,
    /// The same for IPv4 only
    #[arg(long, value_name = "BITS")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The same for IPv6 only
    #[arg(long, value_name = "BITS")]
    node_cidr_mask_size_ipv6: Option<u8>,
    /// How long a node may be silent before it counts as unreachable, such as 50s
    #[arg(long, default_value = "50s", value_name = "DURATION", value_parser = grace)]
    node_monitor_grace_period: Duration,
    /// The same for a node that never said anything
    #[arg(long, default_value = "1m0s", value_name = "DURATION", value_parser = grace)]
    node_startup_grace_period: Duration,
}

impl NodeArguments {
    fn cidrs(&self) -> Result<Option<NodeCidrs>, Failure> {
        if !self.allocate_node_cidrs {
            return Ok(None);
        }
        let ranges = self.cluster_cidr.iter().map(|net| {
            let (of_family, usual) = match net {
                IpNet::V4(_) => (self.node_cidr_mask_size_ipv4, machine::NODE_MASKS[0]),
                IpNet::V6(_) => (self.node_cidr_mask_size_ipv6, machine::NODE_MASKS[1]),
            };
            let prefix = self.node_cidr_mask_size.or(of_family).unwrap_or(usual);
            Range::new(*net, prefix).map_err(|why| format!("--cluster-cidr, --node-cidr-mask-size: {why}"))
        });
        Ok(Some(NodeCidrs { ranges: ranges.collect::<Result<_, _>>()?, reserved: Vec::new() }))
    }
}

/// A duration that is longer than none: nobody is heard, and nothing is used, all the time.
fn grace(text: &str) -> Result<Duration, String> {
    let GoDuration(grace) = text.parse()?;
    if grace.is_zero() { Err("must be longer than none".to_owned()) } else { Ok(grace) }
}

fn main() -> ExitCode {
    match program::parse::<Arguments>(REFUSED) {
        Ok(arguments) => program::run(arguments.verbosity, || run(arguments)),
        Err(code) => code,
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let env = System::current();
    let mut options = Options::all(Arc::new(Kinds::new(Registry::builtin())));
    options.follows_definitions = true;
    options.enabled = controller_names::enabled(&arguments.controllers)?;
    options.workers = arguments.concurrency.workers();
    options.root_ca_pem =
        arguments.root_ca_file.as_deref().map(|path| read_flag("--root-ca-file", path)).transpose()?;
    let key = arguments.service_account_private_key_file.as_deref().map(signing_key).transpose()?;
    options.token_issuer = key.map(|key| token_issuer(Arc::new(key)));
    options.node_cidrs = arguments.nodes.cidrs()?;
    options.token_clean_up_period = arguments.legacy_service_account_token_clean_up_period;
    options.graces = Graces {
        monitor: arguments.nodes.node_monitor_grace_period,
        startup: arguments.nodes.node_startup_grace_period,
    };
    let election = arguments.leadership.election("kube-controller-manager", &env)?;
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let reach = arguments.reach.of("kube-controller-manager", ClientConnection::default());
    let (client, config, requests) = reach.client(&env, &metrics)?;
    let started: Arc<Mutex<Weak<Controllers>>> = Arc::default();
    let counting = started.clone();
    metrics.add(move || counting.lock().upgrade().map(|running| running.metrics()).unwrap_or_default());
    let health = (health(started.clone()), metrics.clone());
    let _port = arguments.serving.serve(&env, arguments.secure_port, (&reach, &client), health, &stop).await?;
    Progress::default().done("kube-controller-manager started");
    let work = |owner: Client, stop: CancellationToken| async move {
        let for_account = |account: &str| {
            let transport = ServiceAccountTransport::new(account, owner.clone(), &config, owner.env().clone());
            let client = Client::new(requests.of(transport), owner.env().clone());
            // What controllers write under their own accounts ends with this leadership, too.
            owner.fence().map_or_else(|| client.clone(), |fence| client.fenced(fence.clone()))
        };
        let running = Arc::new(start::start(&options, for_account));
        *started.lock() = Arc::downgrade(&running);
        stop.cancelled().await;
        if let Some(running) = Arc::into_inner(running) {
            running.stop().await;
        }
    };
    run_leading(election, &client, &metrics, work).await
}

/// A manager that waits to be elected is ready; one that works is ready once its controllers know the cluster.
fn health(started: Arc<Mutex<Weak<Controllers>>>) -> Health {
    Health::new().check("informer-sync", move || match started.lock().upgrade() {
        Some(running) if !running.is_synced() => Err("the cluster is not known completely yet".into()),
        _ => Ok(()),
    })
}
