//! The service proxy as a program of its own, and the routes between nodes: it may see all Nodes.

use std::process::ExitCode;

use bins::{
    component::Reach,
    program::{self, Failure, stop_signal},
    progress::Progress,
    up::host_name,
};
use clap::Parser;
use ipnet::IpNet;
use k8s::{
    machine::{self, ProxyMode},
    wire::env::System,
};

/// Leads traffic for services to their pods, and traffic for pods of other nodes to these.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The addresses of all pods of the cluster
    #[arg(long, default_value = machine::CLUSTER_CIDR, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// Whether to keep this machine's routes to the pods of other nodes; with a network add-on, say false
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    node_routes: bool,
    /// How traffic is led: `nftables` by rules of the kernel; `userspace` by sockets of this process, which needs no
    /// privileges for node ports
    #[arg(long, default_value_t, value_name = "MODE")]
    proxy_mode: ProxyMode,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|| run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.proxy_mode {
        ProxyMode::Nftables => machine::check_privileges()?,
        ProxyMode::Userspace => program::raise_open_files(),
    }
    let env = System::current();
    let (client, _) = arguments.reach.client("kube-proxy", &env)?;
    let name = arguments.hostname_override.unwrap_or_else(host_name);
    let (cidrs, routed) = (arguments.cluster_cidr, client.clone());
    let routes = arguments.node_routes.then(|| machine::start_routes(routed, &env, &name, cidrs.clone()));
    let proxy = machine::start_proxy(client, &env, &name, cidrs, Vec::new(), arguments.proxy_mode);
    Progress::default().done(format_args!("kube-proxy for node {name} started"));
    stop_signal().await?;
    proxy.stop().await;
    if let Some(routes) = routes {
        routes.stop().await;
    }
    Ok(())
}
