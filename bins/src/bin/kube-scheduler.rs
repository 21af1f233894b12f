//! The scheduler as a program of its own.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use bins::{
    component::{Leadership, Reach, serve_health},
    program::{self, Failure},
    progress::Progress,
};
use clap::Parser;
use k8s::{
    reconcile::Client,
    sched::{Profile, service::Scheduler},
    wire::{env::System, serve::CancellationToken},
};

/// Gives pods their nodes.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    leadership: Leadership,
    /// The address of the health port
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    /// The health port; 0 for none
    #[arg(long, default_value_t = 10259, value_name = "PORT")]
    secure_port: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(|| run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let env = System::current();
    let (client, _) = arguments.reach.client("kube-scheduler", &env)?;
    let stop = CancellationToken::new();
    let _health = serve_health(&env, SocketAddr::new(arguments.bind_address, arguments.secure_port), &stop).await?;
    Progress::default().done("kube-scheduler started");
    let work = |client: Client| async move {
        let _running = Scheduler::new(Profile::default()).start(client);
        std::future::pending::<()>().await;
    };
    arguments.leadership.run("kube-scheduler", &client, work).await
}
