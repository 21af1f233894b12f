//! The service proxy as a program of its own.

use std::process::ExitCode;

use bins::{
    component::Reach,
    program::{self, Failure, stop_signal},
    progress::Progress,
    up::host_name,
};
use clap::Parser;
use k8s::{
    machine::{self, ProxyMode},
    wire::env::System,
};

/// Leads traffic for services to their pods.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Where pods live, cluster-wide
    #[arg(long, default_value = machine::DEFAULT_POD_CIDR, value_name = "CIDR")]
    cluster_cidr: String,
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
    let cidr =
        arguments.cluster_cidr.parse().map_err(|why| format!("--cluster-cidr {}: {why}", arguments.cluster_cidr))?;
    let name = arguments.hostname_override.unwrap_or_else(host_name);
    let proxy = machine::start_proxy(client, &env, &name, cidr, arguments.proxy_mode);
    Progress::default().done(format_args!("kube-proxy for node {name} started"));
    stop_signal().await?;
    proxy.stop().await;
    Ok(())
}
