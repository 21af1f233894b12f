//! The service proxy as a program of its own, and the routes between nodes: it may see all Nodes.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use bins::{
    component::Reach,
    program::{self, Failure, Refused, Verbosity, stop_signal},
    progress::Progress,
    proxy_config::ProxyConfiguration,
    serving::{Metrics, Port},
    up::host_name,
};
use clap::Parser;
use ipnet::IpNet;
use k8s::{
    machine::{self, ProxyMode},
    net::proxy::ProxyMetrics,
    wire::{env::System, health::Health, serve::CancellationToken},
};

/// Leads traffic for services to their pods, and traffic for pods of other nodes to these.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); flags count more than what is in it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The addresses of all pods of the cluster [default: 10.244.0.0/16]
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// Whether to keep this machine's routes to the pods of other nodes; with a network add-on, say false
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    node_routes: bool,
    /// How traffic is led: `nftables` by rules of the kernel; `userspace` by sockets of this process, which needs no
    /// privileges for node ports [default: nftables]
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<ProxyMode>,
    /// On which of the machine's addresses node ports answer; the node's own is all that there is
    #[arg(long, default_value = "primary", value_parser = ["primary"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    nodeport_addresses: String,
    /// Address and port of the health port, open to everyone; port 0 for none [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    healthz_bind_address: Option<String>,
    /// Address and port of the port for metrics, without TLS or authentication; port 0 for none [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    metrics_bind_address: Option<String>,
    #[command(flatten)]
    verbosity: Verbosity,
}

const REFUSED: &[Refused] = &[
    ("master", "the kubeconfig says where the API server is"),
    ("bind-address", "node ports answer on the node's own address"),
    ("bind-address-hard-fail", "an address that cannot be bound ends the program"),
    ("cleanup", "`k8s reset` removes the rules with all else; the next start replaces them"),
    ("config-sync-period", "the API server is watched"),
    ("conntrack-max-per-core", "the kernel's limits on connections are left as they are"),
    ("conntrack-min", "the kernel's limits on connections are left as they are"),
    ("conntrack-tcp-timeout-established", "the kernel's limits on connections are left as they are"),
    ("conntrack-tcp-timeout-close-wait", "the kernel's limits on connections are left as they are"),
    ("detect-local-mode", "what is local is told by --cluster-cidr"),
    ("feature-gates", "there are no gates; everything that is there is on"),
    ("healthz-port", "--healthz-bind-address says it"),
    ("metrics-port", "--metrics-bind-address says it"),
    ("iptables-min-sync-period", "there is no such mode"),
    ("iptables-sync-period", "there is no such mode"),
    ("iptables-masquerade-bit", "there is no such mode"),
    ("ipvs-scheduler", "there is no such mode"),
    ("ipvs-sync-period", "there is no such mode"),
    ("ipvs-strict-arp", "there is no such mode"),
    ("kube-api-qps", "requests are not slowed down by the client"),
    ("kube-api-burst", "requests are not slowed down by the client"),
    ("kube-api-content-type", "the client speaks JSON"),
    ("masquerade-all", "only traffic that must be is masqueraded"),
    ("oom-score-adj", "the score is left as it is"),
    ("profiling", "there is no profiling"),
    ("write-config-to", "the file that was given is the configuration"),
    ("logging-format", "the log is text on standard error"),
    ("show-hidden-metrics-for-version", "no metric is hidden"),
];

fn main() -> ExitCode {
    match program::parse::<Arguments>(REFUSED) {
        Ok(arguments) => program::run(arguments.verbosity, || run(arguments)),
        Err(code) => code,
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let file = arguments.config.as_deref().map(ProxyConfiguration::load).transpose()?.unwrap_or_default();
    let of_file = file.mode.as_deref().filter(|mode| !mode.is_empty()).map(str::parse).transpose();
    let of_file = of_file.map_err(|why: String| format!("mode of the configuration: {why}"))?;
    let mode: ProxyMode = arguments.proxy_mode.or(of_file).unwrap_or_default();
    let cidrs = match file.cluster_cidr.filter(|cidrs| arguments.cluster_cidr.is_empty() && !cidrs.is_empty()) {
        Some(cidrs) => read_cidrs(&cidrs)?,
        None if arguments.cluster_cidr.is_empty() => read_cidrs(machine::CLUSTER_CIDR)?,
        None => arguments.cluster_cidr,
    };
    let health = address("healthz", arguments.healthz_bind_address.or(file.healthz_bind_address), "0.0.0.0:10256")?;
    let numbers = address("metrics", arguments.metrics_bind_address.or(file.metrics_bind_address), "127.0.0.1:10249")?;
    let name = arguments.hostname_override.or(file.hostname_override).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(host_name);
    match mode {
        ProxyMode::Nftables => machine::check_privileges()?,
        ProxyMode::Userspace => program::raise_open_files(),
    }
    let (env, metrics, stop) = (System::current(), Metrics::default(), CancellationToken::new());
    let reach = arguments.reach.of("kube-proxy", file.client_connection);
    let (client, ..) = reach.client(&env, &metrics)?;
    let counted = Arc::new(ProxyMetrics::default());
    let (told, checked) = (counted.clone(), counted.clone());
    metrics.add(move || told.render());
    let in_force = Arc::new(Health::new().check("rules", move || checked.health().map(drop)));
    let port = Port { live: in_force.clone(), ready: in_force, metrics: None, reviews: None };
    let with_metrics = Port { metrics: Some(metrics), ..port.clone() };
    let mut ports = Vec::new();
    for (port, address) in [(port, health), (with_metrics, numbers)] {
        if address.port() > 0 {
            ports.push(port.open(&env, address, None, &stop).await?);
        }
    }
    let routed = client.clone();
    let routes = arguments.node_routes.then(|| machine::start_routes(routed, &env, &name, cidrs.clone()));
    let proxy = machine::start_proxy(client, &env, &name, (cidrs, Vec::new()), mode, counted);
    Progress::default().done(format_args!("kube-proxy for node {name} started"));
    stop_signal().await?;
    proxy.stop().await;
    if let Some(routes) = routes {
        routes.stop().await;
    }
    Ok(())
}

fn read_cidrs(text: &str) -> Result<Vec<IpNet>, Failure> {
    let read = text.split(',').map(|cidr| cidr.parse().map_err(|why| format!("cluster CIDR {cidr}: {why}").into()));
    read.collect()
}

/// An address with its port; a bare address has the usual port.
fn address(what: &str, given: Option<String>, usual: &'static str) -> Result<SocketAddr, Failure> {
    let text = given.filter(|text| !text.is_empty()).unwrap_or_else(|| usual.to_owned());
    let port = usual.rsplit(':').next().unwrap_or_default();
    let read: Result<SocketAddr, _> = text.parse().or_else(|_| format!("{text}:{port}").parse());
    Ok(read.map_err(|why| format!("--{what}-bind-address {text}: {why}"))?)
}
