//! The built-in controllers as a program of its own, each under a service account of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use bins::{
    component::{Leadership, Reach, serve_health},
    program::{self, Failure},
    progress::Progress,
};
use clap::Parser;
use k8s::{
    controllers::start::{self, CONTROLLERS, Options},
    core::registry::Registry,
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
    /// The address of the health port
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    /// The health port; 0 for none
    #[arg(long, default_value_t = 10257, value_name = "PORT")]
    secure_port: u16,
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
