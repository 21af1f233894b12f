//! The node agent as a program of its own.
#![allow(clippy::disallowed_methods)] // A program reads its arguments.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use bins::{
    component::Reach,
    program::{self, Failure, stop_signal},
    progress::Progress,
    up::{SHIM, host_name, read_resolv_conf, shim},
};
use clap::Parser;
use ipnet::IpNet;
use k8s::{
    cluster_dns,
    core::quantity::Quantity,
    credentials::identity,
    machine::{self, Machine, MachineOptions},
    node::{
        agent::{ImageLimits, LogLimits},
        environment::DnsSettings,
        image::registry::RegistrySettings,
        server::{Callers, NodeServer},
    },
    wire::{
        env::System,
        pki::{self, Authority},
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
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The folder that keeps everything of the node
    #[arg(long, default_value = "/var/lib/kubelet", value_name = "DIR")]
    root_dir: PathBuf,
    /// The authorities whose client certificates the node's server accepts
    #[arg(long, value_name = "FILE")]
    client_ca_file: PathBuf,
    /// The address of the node's server
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    address: IpAddr,
    /// The port of the node's server
    #[arg(long, default_value_t = 10250, value_name = "PORT")]
    port: u16,
    /// The address that others reach this machine at [default: that of the default route]
    #[arg(long, value_name = "IP")]
    node_ip: Option<IpAddr>,
    /// The addresses of the node's pods [default: those that its Node is given]
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    pod_cidr: Vec<IpNet>,
    /// The addresses of all pods of the cluster: pods' packets to others have the node's address
    #[arg(long, default_value = machine::CLUSTER_CIDR, value_delimiter = ',', value_name = "CIDRS")]
    cluster_cidr: Vec<IpNet>,
    /// A registry that is asked over plain HTTP; may be given several times. Those on this machine always are
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// The size at which a container's log file is rotated away
    #[arg(long, default_value = "10Mi", value_name = "QUANTITY", value_parser = bytes)]
    container_log_max_size: u64,
    /// How many log files of a container are kept, the present one included
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..))]
    container_log_max_files: u16,
    /// Unused images are removed when so much of the disk is used, in percent; 100 is never
    #[arg(long, default_value_t = 85, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    image_gc_high_threshold: u8,
    /// As many as bring the use of the disk down to this, in percent; less than the high one
    #[arg(long, default_value_t = 80, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=99))]
    image_gc_low_threshold: u8,
    /// The name servers of pods, by comma; without any, pods resolve names as the machine does
    #[arg(long, value_delimiter = ',', value_name = "IPS")]
    cluster_dns: Vec<IpAddr>,
    /// Names the resolvers for what is outside the cluster [default: the machine's]
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// The cluster's domain, which pods' names end in
    #[arg(long, default_value = cluster_dns::DOMAIN, value_name = "DOMAIN")]
    cluster_domain: String,
}

fn bytes(text: &str) -> Result<u64, String> {
    let value = Quantity::parse(text).map_err(|why| why.to_string())?.value();
    u64::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| "must be more than 0".to_owned())
}

fn main() -> ExitCode {
    // The container shim is this program too: it must run before there is any thread.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SHIM) {
        return ExitCode::from(k8s::node::shim::main(arguments) as u8);
    }
    let arguments = Arguments::parse();
    program::run(|| run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.image_gc_low_threshold >= arguments.image_gc_high_threshold {
        return Err("--image-gc-low-threshold must be less than --image-gc-high-threshold".into());
    }
    machine::check_privileges()?;
    machine::check_kernel()?;
    let progress = Progress::default();
    let env = System::current();
    let (client, _) = arguments.reach.client("kubelet", &env)?;
    let name = arguments.hostname_override.unwrap_or_else(host_name);
    std::fs::create_dir_all(&arguments.root_dir)
        .map_err(|why| format!("--root-dir {}: {why}", arguments.root_dir.display()))?;
    let folder = arguments.root_dir.canonicalize()?.join("node");
    let node_ip = arguments.node_ip.unwrap_or_else(machine::node_address);
    let options = MachineOptions {
        name: name.clone(),
        folder,
        env: env.clone(),
        shim: shim()?,
        pod_cidrs: arguments.pod_cidr,
        cluster_cidrs: arguments.cluster_cidr,
        addresses: vec![node_ip],
        port: arguments.port,
        registries: RegistrySettings { insecure: arguments.insecure_registry, ..RegistrySettings::default() },
        log_limits: LogLimits {
            max_size_bytes: arguments.container_log_max_size,
            max_files: arguments.container_log_max_files.into(),
            ..LogLimits::default()
        },
        image_limits: ImageLimits {
            high_percent: arguments.image_gc_high_threshold,
            low_percent: arguments.image_gc_low_threshold,
            ..ImageLimits::default()
        },
        dns: DnsSettings {
            cluster_servers: arguments.cluster_dns,
            cluster_domain: arguments.cluster_domain,
            host_resolv_conf: arguments.resolv_conf.as_deref().map(read_resolv_conf).transpose()?.unwrap_or_default(),
        },
    };
    let address = SocketAddr::new(arguments.address, arguments.port);
    let listener = TcpListener::bind(address).await.map_err(|why| format!("listen on {address}: {why}"))?;
    let path = arguments.client_ca_file;
    let pem = std::fs::read(&path).map_err(|why| format!("--client-ca-file {}: {why}", path.display()))?;
    let authorities = pki::certificates("client CA", &pem)?;
    let own = Authority::generate(&format!("{name}-ca"), env.now())?;
    let serving = own.issue_server(&name, &[name.clone(), node_ip.to_string()], env.now())?;
    let tls = tls::server(&env, &serving, Some(&authorities))?;
    let machine = Machine::start(client, options).await?;
    let callers = Callers::Users(vec![identity::API_SERVER.to_owned()]);
    let (server, stop) = (NodeServer::new(&machine.agent, callers), CancellationToken::new());
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
