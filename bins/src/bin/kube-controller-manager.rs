//! The built-in controllers as a program of its own, each under a service account of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bins::{
    component::{Leadership, Reach, serve_health},
    program::{self, Failure},
    progress::Progress,
};
use clap::{Args, Parser};
use ipnet::IpNet;
use k8s::{
    controllers::{
        node_ipam::Range,
        node_lifecycle::plan::Graces,
        start::{self, CONTROLLERS, NodeCidrs, Options},
    },
    core::registry::Registry,
    machine,
    reconcile::Client,
    service_account::ServiceAccountTransport,
    wire::{env::System, serve::CancellationToken},
};

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
    #[command(flatten)]
    nodes: NodeArguments,
    /// The address of the health port
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    /// The health port; 0 for none
    #[arg(long, default_value_t = 10257, value_name = "PORT")]
    secure_port: u16,
}

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
    #[arg(long, default_value = "50s", value_name = "DURATION", value_parser = duration)]
    node_monitor_grace_period: Duration,
    /// The same for a node that never said anything
    #[arg(long, default_value = "1m0s", value_name = "DURATION", value_parser = duration)]
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

/// A duration as upstream's flags have them: numbers with units, largest first.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 50s or 1m30s".to_owned();
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let one = match &rest[digits..unit] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(wrong()),
        };
        sum += one * number;
        rest = &rest[unit..];
    }
    if sum.is_zero() { Err(wrong()) } else { Ok(sum) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|| run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let env = System::current();
    let (client, config) = arguments.reach.client("kube-controller-manager", &env)?;
    let stop = CancellationToken::new();
    let _health = serve_health(&env, SocketAddr::new(arguments.bind_address, arguments.secure_port), &stop).await?;
    let mut options = Options::all(Arc::new(Registry::builtin()));
    options.enabled = enabled(&arguments.controllers)?;
    options.root_ca_pem = match &arguments.root_ca_file {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|why| format!("--root-ca-file {}: {why}", path.display()))?)
        }
        None => None,
    };
    options.node_cidrs = arguments.nodes.cidrs()?;
    options.graces = Graces {
        monitor: arguments.nodes.node_monitor_grace_period,
        startup: arguments.nodes.node_startup_grace_period,
    };
    Progress::default().done("kube-controller-manager started");
    let work = |owner: Client| async move {
        let for_account = |account: &str| {
            let transport = ServiceAccountTransport::new(account, owner.clone(), &config, owner.env().clone());
            Client::new(Arc::new(transport), owner.env().clone())
        };
        let _running = start::start(&options, for_account);
        std::future::pending::<()>().await;
    };
    arguments.leadership.run("kube-controller-manager", &client, work).await
}

/// The controllers that the flag names.
fn enabled(words: &[String]) -> Result<Vec<&'static str>, Failure> {
    let known = |word: &str| CONTROLLERS.iter().map(|(name, _)| *name).find(|name| *name == word);
    let mut names: Vec<&'static str> = Vec::new();
    if words.iter().any(|word| word == "*") {
        names.extend(CONTROLLERS.iter().map(|(name, _)| *name));
    }
    for word in words.iter().filter(|word| *word != "*") {
        let name = word.trim_start_matches('-');
        let found = known(name).ok_or_else(|| format!("--controllers: there is no controller {name:?} (yet)"))?;
        names.retain(|name| *name != found);
        if !word.starts_with('-') {
            names.push(found);
        }
    }
    Ok(names)
}
