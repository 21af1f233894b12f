//! The scheduler as a program of its own.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Weak},
};

use bins::{
    component::{Leadership, Reach, run_leading},
    program::{self, Failure, Refused, Verbosity},
    progress::Progress,
    scheduler_config::SchedulerConfiguration,
    serving::{Metrics, ServingArguments},
};
use clap::Parser;
use k8s::{
    reconcile::Client,
    sched::{
        Profile,
        service::{Running, Scheduler},
    },
    wire::{env::System, health::Health, serve::CancellationToken},
};
use parking_lot::Mutex;

/// Gives pods their nodes.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1); flags count more than what is in it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    leadership: Leadership,
    #[command(flatten)]
    serving: ServingArguments,
    /// The port for health and metrics; 0 for none
    #[arg(long, default_value_t = 10259, value_name = "PORT")]
    secure_port: u16,
    #[command(flatten)]
    verbosity: Verbosity,
}

const REFUSED: &[Refused] = &[
    ("master", "the kubeconfig says where the API server is"),
    ("feature-gates", "there are no gates; everything that is there is on"),
    ("kube-api-qps", "requests are not slowed down by the client"),
    ("kube-api-burst", "requests are not slowed down by the client"),
    ("kube-api-content-type", "the client speaks JSON"),
    ("profiling", "there is no profiling"),
    ("contention-profiling", "there is no profiling"),
    ("pod-max-in-unschedulable-pods-duration", "a pod that nothing wakes is tried again after 5 minutes"),
    ("write-config-to", "the file that was given is the configuration"),
    ("cert-dir", "a certificate is made in memory, or given by --tls-cert-file"),
    ("authentication-skip-lookup", "nothing is looked up; --client-ca-file says whose certificates are believed"),
    ("authentication-token-webhook-cache-ttl", "answers are not kept"),
    ("authorization-webhook-cache-authorized-ttl", "answers are not kept"),
    ("authorization-webhook-cache-unauthorized-ttl", "answers are not kept"),
    ("authorization-always-allow-paths", "/healthz, /livez and /readyz are open to everyone"),
    (
        "authentication-tolerate-lookup-failure",
        "nothing is looked up; --client-ca-file says whose certificates are believed",
    ),
    ("tls-cipher-suites", "the safe suites are spoken"),
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
    let env = System::current();
    let (file, profiles) = match &arguments.config {
        Some(path) => SchedulerConfiguration::load(path)?,
        None => (SchedulerConfiguration::default(), vec![Profile::default()]),
    };
    let election = arguments.leadership.or(file.leader_election).election("kube-scheduler", &env)?;
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let reach = arguments.reach.of("kube-scheduler", file.client_connection);
    let (client, ..) = reach.client(&env, &metrics)?;
    let started: Arc<Mutex<Weak<Running>>> = Arc::default();
    let health = (health(started.clone()), metrics.clone());
    let _port = arguments.serving.serve(&env, arguments.secure_port, (&reach, &client), health, &stop).await?;
    Progress::default().done("kube-scheduler started");
    let of = metrics.clone();
    let work = |client: Client, stop: CancellationToken| async move {
        let mut all = profiles.into_iter();
        let first = Scheduler::new(all.next().unwrap_or_default());
        let running = Arc::new(all.fold(first, Scheduler::profile).start(client));
        *started.lock() = Arc::downgrade(&running);
        let counted = running.metrics().clone();
        of.add(move || counted.render());
        stop.cancelled().await;
        if let Some(running) = Arc::into_inner(running) {
            running.stop().await;
        }
    };
    run_leading(election, &client, &metrics, work).await
}

/// A scheduler that waits to be elected is ready; one that works is ready once it knows nodes and pods.
fn health(started: Arc<Mutex<Weak<Running>>>) -> Health {
    Health::new().check("informer-sync", move || match started.lock().upgrade() {
        Some(running) if !running.is_synced() => Err("nodes and pods are not known completely yet".into()),
        _ => Ok(()),
    })
}
