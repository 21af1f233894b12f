//! The node agent as a program of its own.
#![allow(clippy::disallowed_methods)] // A program reads its arguments.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use bins::{
    component::{ClientConnection, Reach},
    kubelet_config::{KubeletConfiguration, reserved},
    program::{self, Failure, Refused, Verbosity, stop_signal},
    progress::Progress,
    serving::{Metrics, Port, TlsArguments, read_flag},
    up::{SHIM, host_name, read_resolv_conf, shim},
};
use clap::Parser;
use ipnet::IpNet;
use k8s::{
    cluster_dns,
    core::{api::api::core::v1::Taint, env::Env, quantity::Quantity},
    credentials::identity,
    machine::{self, Machine, MachineOptions, NodeOptions},
    node::{
        agent::{ImageLimits, LogLimits},
        environment::DnsSettings,
        image::registry::RegistrySettings,
        server::{Callers, NodeServer},
    },
    reviews::Reviews,
    wire::{
        env::System,
        pki::{self, Authority, Identity},
        serve::CancellationToken,
        tls,
    },
};
use tokio::net::TcpListener;

/// Runs the pods of one node.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// A KubeletConfiguration (kubelet.config.k8s.io/v1beta1); flags count more than what is in it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The folder that keeps everything of the node
    #[arg(long, default_value = "/var/lib/kubelet", value_name = "DIR")]
    root_dir: PathBuf,
    /// The authorities whose client certificates the node's server accepts; needed, here or in the file
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// The address of the node's server [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The port of the node's server [default: 10250]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    tls: TlsArguments,
    /// The address of the health port [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    healthz_bind_address: Option<IpAddr>,
    /// The health port, without TLS; 0 for none [default: 10248]
    #[arg(long, value_name = "PORT")]
    healthz_port: Option<u16>,
    /// The address that others reach this machine at [default: that of the default route]
    #[arg(long, value_name = "IP")]
    node_ip: Option<IpAddr>,
    /// The addresses of the node's pods [default: those that its Node is given]
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    pod_cidr: Vec<IpNet>,
    /// The addresses of all pods of the cluster: pods' packets to others have the node's address
    #[arg(long, default_value = machine::CLUSTER_CIDR, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// Labels of the Node besides the usual ones
    #[arg(long, value_delimiter = ',', value_name = "NAME=VALUE", value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// Taints for a node that is registered for the first time
    #[arg(long, value_delimiter = ',', value_name = "KEY[=VALUE]:EFFECT", value_parser = taint)]
    register_with_taints: Vec<Taint>,
    /// How many pods the node takes [default: 110]
    #[arg(long, value_name = "COUNT")]
    max_pods: Option<u32>,
    /// What the system keeps from pods: cpu, memory, ephemeral-storage
    #[arg(long, value_delimiter = ',', value_name = "NAME=AMOUNT", value_parser = pair)]
    system_reserved: Vec<(String, String)>,
    /// What the programs of the cluster keep from pods: cpu, memory, ephemeral-storage
    #[arg(long, value_delimiter = ',', value_name = "NAME=AMOUNT", value_parser = pair)]
    kube_reserved: Vec<(String, String)>,
    /// A registry that is asked over plain HTTP; may be given several times. Those on this machine always are
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// The size at which a container's log file is rotated away [default: 10Mi]
    #[arg(long, value_name = "QUANTITY", value_parser = bytes)]
    container_log_max_size: Option<u64>,
    /// How many log files of a container are kept, the present one included [default: 5]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..))]
    container_log_max_files: Option<u16>,
    /// Unused images are removed when so much of the disk is used, in percent; 100 is never [default: 85]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    image_gc_high_threshold: Option<u8>,
    /// As many as bring the use of the disk down to this, in percent; less than the high one [default: 80]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=99))]
    image_gc_low_threshold: Option<u8>,
    /// The name servers of pods, by comma; without any, pods resolve names as the machine does
    #[arg(long, value_delimiter = ',', value_name = "IPS")]
    cluster_dns: Vec<IpAddr>,
    /// Names the resolvers for what is outside the cluster [default: the machine's]
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// The cluster's domain, which pods' names end in [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// There is no port without authentication
    #[arg(long, default_value = "0", value_parser = ["0"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    read_only_port: String,
    /// Nobody is let in unknown
    #[arg(long, default_value = "false", value_parser = ["false"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    anonymous_auth: String,
    /// Permissions are reviewed by the API server
    #[arg(long, default_value = "Webhook", value_parser = ["Webhook"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    authorization_mode: String,
    #[command(flatten)]
    verbosity: Verbosity,
}

const REFUSED: &[Refused] = &[
    ("authentication-token-webhook", "tokens are always reviewed by the API server"),
    ("bootstrap-kubeconfig", "`k8s kubeconfig` makes a node's kubeconfig"),
    ("cert-dir", "a certificate is made in memory, or given by --tls-cert-file"),
    ("cgroup-driver", "cgroups are made by the kubelet itself"),
    ("cgroup-root", "cgroups are made below one of the kubelet's own"),
    ("cloud-provider", "there are no clouds"),
    ("container-runtime", "containers are run by the kubelet itself"),
    ("container-runtime-endpoint", "containers are run by the kubelet itself"),
    ("image-service-endpoint", "images are kept by the kubelet itself"),
    ("pod-infra-container-image", "pods need no such image"),
    ("cpu-manager-policy", "processors are not assigned by topology"),
    ("topology-manager-policy", "nothing is assigned by topology"),
    ("memory-manager-policy", "memory is not assigned by topology"),
    ("enforce-node-allocatable", "what is reserved is kept from pods, not enforced on others"),
    ("eviction-hard", "pods are not evicted; the node tells what it runs short of"),
    ("eviction-soft", "pods are not evicted; the node tells what it runs short of"),
    ("fail-swap-on", "swap is no obstacle"),
    ("feature-gates", "there are no gates; everything that is there is on"),
    ("image-credential-provider-bin-dir", "pulls use the pod's imagePullSecrets"),
    ("image-credential-provider-config", "pulls use the pod's imagePullSecrets"),
    ("keep-terminated-pod-volumes", "volumes go with their pod"),
    ("kube-api-qps", "requests are not slowed down by the client"),
    ("kube-api-burst", "requests are not slowed down by the client"),
    ("node-status-update-frequency", "the status is looked at every 10 s"),
    ("pod-manifest-path", "there are no static pods"),
    ("register-node", "the node is registered always"),
    ("register-schedulable", "--register-with-taints says it"),
    ("rotate-certificates", "certificates are not renewed; the kubeconfig's are used"),
    ("rotate-server-certificates", "the serving certificate is made at every start, or given"),
    ("runtime-cgroups", "containers are run by the kubelet itself"),
    ("seccomp-default", "the pod says which profile it wants"),
    ("serialize-image-pulls", "a few images are pulled at once"),
    ("tls-cipher-suites", "the safe suites are spoken"),
    ("volume-plugin-dir", "there are no volume plugins"),
    ("logging-format", "the log is text on standard error"),
];

fn bytes(text: &str) -> Result<u64, String> {
    let value = Quantity::parse(text).map_err(|why| why.to_string())?.value();
    u64::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| "must be more than 0".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// As upstream: a node may say of itself only what lets nobody lure pods by it.
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    let prefix = name.split_once('/').map_or("", |(prefix, _)| prefix);
    let is_reserved = ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|domain| prefix == *domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let is_kubelets = prefix == "kubelet.kubernetes.io"
        || prefix == "node.kubernetes.io"
        || prefix.ends_with(".kubelet.kubernetes.io")
        || prefix.ends_with(".node.kubernetes.io");
    let is_topology = matches!(name.as_str(), "topology.kubernetes.io/zone" | "topology.kubernetes.io/region");
    if name.is_empty() || is_reserved && !is_kubelets && !is_topology {
        return Err(format!("a node may not set the label {name:?} on itself"));
    }
    Ok((name, value))
}

fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || format!("{text:?} is not KEY[=VALUE]:NoSchedule, :PreferNoSchedule or :NoExecute");
    let (what, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(wrong());
    }
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), ..Taint::default() })
}

fn main() -> ExitCode {
    // The container shim is this program too: it must run before there is any thread.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SHIM) {
        return ExitCode::from(k8s::node::shim::main(arguments) as u8);
    }
    match program::parse::<Arguments>(REFUSED) {
        Ok(arguments) => program::run(arguments.verbosity, || run(arguments)),
        Err(code) => code,
    }
}

impl Arguments {
    /// What the node says of itself.
    fn node(&self, file: &KubeletConfiguration) -> Result<NodeOptions, Failure> {
        let given = |flag: &str, pairs: &[(String, String)], filed: &Option<BTreeMap<String, String>>| {
            let amounts: Vec<(&str, &str)> = match pairs {
                [] => filed.iter().flatten().map(|(name, amount)| (name.as_str(), amount.as_str())).collect(),
                pairs => pairs.iter().map(|(name, amount)| (name.as_str(), amount.as_str())).collect(),
            };
            reserved(amounts.into_iter()).map_err(|why| format!("--{flag} {why}"))
        };
        let mut sum = given("system-reserved", &self.system_reserved, &file.system_reserved)?;
        let more = given("kube-reserved", &self.kube_reserved, &file.kube_reserved)?;
        sum.milli_cpus += more.milli_cpus;
        sum.memory_bytes += more.memory_bytes;
        sum.storage_bytes += more.storage_bytes;
        let taints = match self.register_with_taints.as_slice() {
            [] => file.register_with_taints.clone().unwrap_or_default(),
            taints => taints.to_vec(),
        };
        let labels = self.node_labels.iter().cloned().collect();
        Ok(NodeOptions { labels, taints, max_pods: self.max_pods.or(file.max_pods), reserved: sum })
    }

    fn log_limits(&self, file: &KubeletConfiguration) -> Result<LogLimits, Failure> {
        let filed = file.container_log_max_size.as_deref().map(bytes).transpose();
        let filed = filed.map_err(|why| format!("containerLogMaxSize: {why}"))?;
        let files = self.container_log_max_files.or(file.container_log_max_files).unwrap_or(5);
        if files < 2 {
            return Err("containerLogMaxFiles: it must be at least 2".into());
        }
        Ok(LogLimits {
            max_size_bytes: self.container_log_max_size.or(filed).unwrap_or(10 << 20),
            max_files: files.into(),
            ..LogLimits::default()
        })
    }

    fn image_limits(&self, file: &KubeletConfiguration) -> Result<ImageLimits, Failure> {
        let high_percent = self.image_gc_high_threshold.or(file.image_gc_high_threshold_percent).unwrap_or(85);
        let low_percent = self.image_gc_low_threshold.or(file.image_gc_low_threshold_percent).unwrap_or(80);
        if low_percent >= high_percent || high_percent > 100 {
            let why = "--image-gc-low-threshold must be less than --image-gc-high-threshold, and that at most 100";
            return Err(why.into());
        }
        Ok(ImageLimits { high_percent, low_percent, ..ImageLimits::default() })
    }

    fn dns(&self, file: &KubeletConfiguration) -> Result<DnsSettings, Failure> {
        let cluster_servers = match self.cluster_dns.as_slice() {
            [] => file.cluster_dns.clone().unwrap_or_default(),
            servers => servers.to_vec(),
        };
        let domain = self.cluster_domain.clone().or_else(|| file.cluster_domain.clone());
        let resolv_conf = self.resolv_conf.as_deref().or(file.resolv_conf.as_deref());
        Ok(DnsSettings {
            cluster_servers,
            cluster_domain: domain.unwrap_or_else(|| cluster_dns::DOMAIN.to_owned()),
            host_resolv_conf: resolv_conf.map(read_resolv_conf).transpose()?.unwrap_or_default(),
        })
    }

    /// The certificate to serve with: the one that is given, or one made here.
    fn serving(
        &mut self,
        file: &KubeletConfiguration,
        name: &str,
        node_ip: IpAddr,
        env: &Env,
    ) -> Result<Identity, Failure> {
        let tls = &mut self.tls;
        tls.tls_cert_file = tls.tls_cert_file.take().or_else(|| file.tls_cert_file.clone());
        tls.tls_private_key_file = tls.tls_private_key_file.take().or_else(|| file.tls_private_key_file.clone());
        if let Some(identity) = tls.identity()? {
            return Ok(identity);
        }
        let own = Authority::generate(&format!("{name}-ca"), env.now())?;
        Ok(own.issue_server(name, &[name.to_owned(), node_ip.to_string()], env.now())?)
    }
}

async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let file = arguments.config.as_deref().map(KubeletConfiguration::load).transpose()?.unwrap_or_default();
    let (node, log_limits) = (arguments.node(&file)?, arguments.log_limits(&file)?);
    let (image_limits, dns) = (arguments.image_limits(&file)?, arguments.dns(&file)?);
    let authorities = arguments.client_ca_file.as_ref().or(file.authentication.x509.client_ca_file.as_ref());
    let path = authorities.ok_or("--client-ca-file is needed, or authentication.x509.clientCAFile in --config")?;
    let pem = read_flag("--client-ca-file", path)?;
    let authorities = pki::certificates("client CA", pem.as_bytes())?;
    machine::check_privileges()?;
    machine::check_kernel()?;
    let progress = Progress::default();
    let (env, metrics, stop) = (System::current(), Metrics::default(), CancellationToken::new());
    let name = arguments.hostname_override.take().unwrap_or_else(host_name);
    let node_ip = arguments.node_ip.unwrap_or_else(machine::node_address);
    let serving = arguments.serving(&file, &name, node_ip, &env)?;
    let tls = tls::server_from(&env, &serving, Some(&authorities), arguments.tls.tls_min_version)?;
    let reach = arguments.reach.of("kubelet", ClientConnection::default());
    let (client, ..) = reach.client(&env, &metrics)?;
    std::fs::create_dir_all(&arguments.root_dir)
        .map_err(|why| format!("--root-dir {}: {why}", arguments.root_dir.display()))?;
    let of_file = file.pod_cidr.filter(|cidrs| arguments.pod_cidr.is_empty() && !cidrs.is_empty());
    let pod_cidrs = match of_file {
        Some(cidrs) => {
            let read = cidrs.split(',').map(|cidr| cidr.parse().map_err(|why| format!("podCIDR {cidr}: {why}")));
            read.collect::<Result<_, _>>()?
        }
        None => arguments.pod_cidr,
    };
    let port = arguments.port.or(file.port).unwrap_or(10250);
    let options = MachineOptions {
        name: name.clone(),
        folder: arguments.root_dir.canonicalize()?.join("node"),
        env: env.clone(),
        shim: shim()?,
        pod_cidrs,
        cluster_cidrs: arguments.cluster_cidr,
        addresses: vec![node_ip],
        port,
        registries: RegistrySettings { insecure: arguments.insecure_registry, ..RegistrySettings::default() },
        log_limits,
        image_limits,
        dns,
        node,
    };
    let address = SocketAddr::new(arguments.address.or(file.address).unwrap_or([0, 0, 0, 0].into()), port);
    let listener = TcpListener::bind(address).await.map_err(|why| format!("listen on {address}: {why}"))?;
    let health_ip = arguments.healthz_bind_address.or(file.healthz_bind_address).unwrap_or([127, 0, 0, 1].into());
    let health = SocketAddr::new(health_ip, arguments.healthz_port.or(file.healthz_port).unwrap_or(10248));
    let _health = match health.port() {
        0 => None,
        _ => {
            // Without TLS or authentication there is nothing but health: metrics are at the node's server.
            let port = Port { live: Arc::default(), ready: Arc::default(), metrics: None, reviews: None };
            Some(port.open(&env, health, None, &stop).await?)
        }
    };
    let machine = Machine::start(client.clone(), options).await?;
    let reviewer = Arc::new(Reviews::new(client.clone(), client));
    let callers = Callers::Reviewed { users: vec![identity::API_SERVER.to_owned()], reviewer };
    let server = NodeServer::new(&machine.agent, callers).metrics(move || metrics.text());
    let stopped = stop.clone();
    let serving = env.spawn("node server", Box::pin(async move { server.serve(listener, tls, stopped).await }));
    progress.done(format_args!("node {name} started"));
    stop_signal().await?;
    stop.cancel();
    // A panic was reported where it happened.
    let _ = serving.join().await;
    machine.stop().await;
    progress.done("node stopped; containers keep running");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_taints_are_read_as_upstream_does() {
        assert_eq!(label("zone=a"), Ok(("zone".into(), "a".into())));
        assert!(label("node.kubernetes.io/kind=big").is_ok() && label("topology.kubernetes.io/zone=a").is_ok());
        assert!(label("node-role.kubernetes.io/control-plane=").is_err() && label("x.k8s.io/y=z").is_err());
        assert!(label("zone").is_err());
        let read = taint("gpu=yes:NoSchedule").unwrap();
        assert_eq!(
            (read.key.as_str(), read.value.as_deref(), read.effect.as_str()),
            ("gpu", Some("yes"), "NoSchedule")
        );
        assert_eq!(taint("gpu:NoExecute").unwrap().value, None);
        assert!(taint("gpu=yes:Never").is_err() && taint("gpu").is_err() && taint(":NoSchedule").is_err());
    }
}
