//! The API server as a program of its own, on the embedded store or on an etcd.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use bins::{
    data_dir,
    program::{self, Failure, stop_signal},
    progress::Progress,
    storage::{EtcdArguments, Storage},
};
use clap::Parser;
use k8s::{
    Credentials,
    control_plane::{ControlPlane, ControlPlaneOptions},
    core::registry::Registry,
    credentials::identity,
    machine,
    wire::{env::System, pki::write_private},
};

/// Serves the Kubernetes API.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The folder of the embedded store, the keys and the components' kubeconfigs [default: as `k8s up`]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to serve on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    /// The port to serve on
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    secure_port: u16,
    /// The address that pods reach this server at [default: this machine's]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,
    #[command(flatten)]
    etcd: EtcdArguments,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|| run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let progress = Progress::default();
    let folder = data_dir::prepare(arguments.data_dir)?;
    let env = System::current();
    let storage = Storage::open(arguments.etcd, &folder, &env).await?;
    let credentials = Arc::new(Credentials::load_or_generate(&folder.join("pki"), &env)?);
    let control_plane = ControlPlane::start(ControlPlaneOptions {
        env: env.clone(),
        store: storage.store.clone(),
        credentials: credentials.clone(),
        registry: Registry::builtin(),
        admission: Vec::new(),
        authorizers: Vec::new(),
        authenticators: Vec::new(),
        listen: Some(SocketAddr::new(arguments.bind_address, arguments.secure_port)),
        advertise: Some(arguments.advertise_address.unwrap_or_else(machine::node_address)),
    })
    .await?;
    let server = control_plane.address.map(|address| format!("https://{address}")).unwrap_or_default();
    let users: [(&str, &str, &[&str]); 4] = [
        ("controller-manager", identity::CONTROLLER_MANAGER, &[]),
        ("scheduler", identity::SCHEDULER, &[]),
        ("proxy", identity::PROXY, &[]),
        ("admin", identity::ADMIN, &[identity::MASTERS]),
    ];
    for (name, user, groups) in users {
        let text = credentials.kubeconfig(&server, user, groups)?;
        write_private(&folder.join(format!("{name}.kubeconfig")), text.as_bytes())?;
    }
    progress.done(format_args!("API server ready on {server}"));
    stop_signal().await?;
    control_plane.stop().await;
    storage.close();
    progress.done("API server stopped");
    Ok(())
}
