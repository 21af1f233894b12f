//! Cluster DNS as a program of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use bins::{
    component::{ClientConnection, Reach},
    program::{self, Failure, Verbosity, stop_signal},
    progress::Progress,
    serving::Metrics,
    up::{host_name, read_resolv_conf},
};
use clap::Parser;
use ipnet::IpNet;
use k8s::{
    cluster_dns::{self, ClusterDns, ClusterDnsOptions},
    machine,
    wire::env::System,
};

/// Answers pods' questions for names.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    verbosity: Verbosity,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The address to listen on, UDP and TCP; not the loopback's [default: the first of --pod-cidr, which the kubelet
    /// makes]
    #[arg(long, value_name = "IP")]
    bind_address: Option<IpAddr>,
    /// The port to listen on
    #[arg(long, default_value_t = cluster_dns::PORT, value_name = "PORT")]
    port: u16,
    /// The cluster IP of the service kube-system/kube-dns, which kubelets know by --cluster-dns
    #[arg(long, default_value_t = cluster_dns::CLUSTER_IP, value_name = "IP")]
    cluster_ip: IpAddr,
    /// The cluster's domain
    #[arg(long, default_value = cluster_dns::DOMAIN, value_name = "DOMAIN")]
    cluster_domain: String,
    /// The addresses of the node's pods
    #[arg(long, default_value = machine::FIRST_POD_CIDR, value_name = "CIDR")]
    pod_cidr: IpNet,
    /// The addresses of all pods of the cluster, whose names are looked up by address
    #[arg(long, default_value = machine::CLUSTER_CIDR, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// Names the resolvers that are asked for all other names
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "FILE")]
    resolv_conf: PathBuf,
}

fn main() -> ExitCode {
    match program::parse::<Arguments>(&[]) {
        Ok(arguments) => program::run(arguments.verbosity, || run(arguments)),
        Err(code) => code,
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let progress = Progress::default();
    let env = System::current();
    let (client, ..) =
        arguments.reach.of("cluster-dns", ClientConnection::default()).client(&env, &Metrics::default())?;
    let resolv_conf = read_resolv_conf(&arguments.resolv_conf)?;
    let node = arguments.hostname_override.unwrap_or_else(host_name);
    let usual = ClusterDnsOptions::new(&node, arguments.pod_cidr, arguments.cluster_cidr, resolv_conf);
    let address = arguments.bind_address.or(usual.listen.first().map(SocketAddr::ip));
    let listen = SocketAddr::new(address.ok_or("--pod-cidr has no address to listen on")?, arguments.port);
    let options = ClusterDnsOptions {
        listen: vec![listen],
        cluster_ip: arguments.cluster_ip,
        domain: arguments.cluster_domain,
        ..usual
    };
    progress.say(format_args!("listening on {listen} as soon as this machine has the address"));
    let starting = ClusterDns::start(client, &env, options);
    let dns = tokio::select! {
        biased;
        stopped = stop_signal() => return stopped,
        dns = starting => dns?,
    };
    progress.done(format_args!("cluster DNS started on {}", dns.address));
    stop_signal().await?;
    dns.stop().await;
    Ok(())
}
