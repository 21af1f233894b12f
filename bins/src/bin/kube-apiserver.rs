//! The API server as a program of its own, on the embedded store or on an etcd.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bins::{
    apiserver_flags::{REFUSED, ServerArguments},
    data_dir,
    program::{self, Failure, Verbosity, stop_signal},
    progress::Progress,
    storage::{EtcdArguments, Storage},
};
use clap::Parser;
use k8s::{
    Credentials,
    apiserver::storage::Encryption,
    control_plane::{ControlPlane, ControlPlaneOptions},
    core::registry::Registry,
    credentials::{KeyFiles, identity},
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
    /// The address that pods and other machines reach this server at [default: this machine's]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,
    /// Another name or address that the server's certificate holds for; may be given several times
    #[arg(long, value_name = "NAME_OR_IP")]
    tls_san: Vec<String>,
    /// The keys that encrypt Secrets in the store, a line each: a name, a space, 32 bytes in base64. The first one
    /// encrypts, all of them decrypt [default: pki/encryption.key in the data folder, made when it is not there]
    #[arg(long, value_name = "FILE", group = "encryption")]
    encryption_key_file: Option<PathBuf>,
    /// What is encrypted in the store: an EncryptionConfiguration of apiserver.config.k8s.io/v1
    #[arg(long, value_name = "FILE", group = "encryption")]
    encryption_provider_config: Option<PathBuf>,
    /// The key that signs service account tokens: ECDSA on P-256 or P-384, or RSA [default: pki/sa.key in the data folder]
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: Option<PathBuf>,
    /// The certificate of the authority that issues all others [default: pki/ca.crt in the data folder]
    #[arg(long, value_name = "FILE", requires = "ca_key_file")]
    ca_cert_file: Option<PathBuf>,
    /// The key of that authority [default: pki/ca.key in the data folder]
    #[arg(long, value_name = "FILE", requires = "ca_cert_file")]
    ca_key_file: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArguments,
    #[command(flatten)]
    serving: ServerArguments,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn main() -> ExitCode {
    match program::parse::<Arguments>(REFUSED) {
        Ok(arguments) => program::run(arguments.verbosity, || run(arguments)),
        Err(code) => code,
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let env = System::current();
    let settings = arguments.serving.settings(&env)?;
    let progress = Progress::default();
    let folder = data_dir::prepare(arguments.data_dir)?;
    let storage = Storage::open(arguments.etcd, &folder, &env).await?;
    let given = KeyFiles {
        ca_certificate: arguments.ca_cert_file,
        ca_key: arguments.ca_key_file,
        service_account_key: arguments.service_account_signing_key_file,
        encryption_keys: arguments.encryption_key_file,
    };
    let credentials = Arc::new(Credentials::load(&given, &folder.join("pki"), &env)?);
    let encryption = arguments.encryption_provider_config.as_deref().map(provider_config).transpose()?;
    let control_plane = ControlPlane::start(ControlPlaneOptions {
        env: env.clone(),
        store: storage.store.clone(),
        credentials: credentials.clone(),
        registry: Registry::builtin(),
        admission: Vec::new(),
        authorizers: Vec::new(),
        authenticators: Vec::new(),
        encryption,
        listen: Some(SocketAddr::new(arguments.bind_address, arguments.secure_port)),
        advertise: Some(arguments.advertise_address.unwrap_or_else(machine::node_address)),
        settings,
        serving_names: arguments.tls_san,
    })
    .await?;
    let server = control_plane.url().unwrap_or_default();
    let dns = format!("system:serviceaccount:kube-system:{}", identity::DNS_ACCOUNT);
    let users: [(&str, &str, &[&str]); 5] = [
        ("controller-manager", identity::CONTROLLER_MANAGER, &[]),
        ("scheduler", identity::SCHEDULER, &[]),
        ("proxy", identity::PROXY, &[]),
        ("dns", &dns, &[]),
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

fn provider_config(path: &Path) -> Result<Encryption, Failure> {
    let failed = |why: &dyn std::fmt::Display| format!("--encryption-provider-config {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|why| failed(&why))?;
    Ok(Encryption::from_configuration(&text, &Registry::builtin()).map_err(|why| failed(&why))?)
}
