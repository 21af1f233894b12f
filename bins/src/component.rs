//! What the separate programs share: how to reach the cluster, and how to be elected.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clap::Args;
use k8s::{
    core::{
        env::{Env, timeout},
        metrics::Samples,
    },
    reconcile::{Client, leader::Election},
    wire::{
        client::{Config, HttpTransport},
        serve::CancellationToken,
    },
};
use serde::Deserialize;

use crate::{
    counted::Requests,
    go_duration::GoDuration,
    program::{Failure, stop_signal},
    serving::Metrics,
};

/// How long giving the lease back may take at the end.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// The flags of every component that talks to an API server.
#[derive(Args)]
pub struct Reach {
    /// The kubeconfig file that says where the API server is and who we are there
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Whom the requests say that they come from
    #[arg(skip)]
    pub agent: &'static str,
}

/// `clientConnection` of a component's configuration file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConnection {
    /// The file that the flag names, unless it names another.
    pub kubeconfig: Option<PathBuf>,
}

impl Reach {
    /// The same for a program of this name, where its configuration file may name the kubeconfig.
    pub fn of(mut self, agent: &'static str, connection: ClientConnection) -> Self {
        let given = connection.kubeconfig.filter(|path| !path.as_os_str().is_empty());
        (self.agent, self.kubeconfig) = (agent, self.kubeconfig.or(given));
        self
    }

    /// The configuration: of the flag's file, else of the environment.
    pub fn config(&self) -> Result<Config, Failure> {
        match &self.kubeconfig {
            Some(path) => self.config_of(path),
            None => Ok(self.signed(Config::from_env()?)),
        }
    }

    fn config_of(&self, path: &Path) -> Result<Config, Failure> {
        Ok(self.signed(Config::from_kubeconfig(path, None)?))
    }

    fn signed(&self, config: Config) -> Config {
        Config { user_agent: format!("{}/v1.37", self.agent), ..config }
    }

    /// A client under the identity of the configuration; what it asks is counted in `metrics`.
    pub fn client(&self, env: &Env, metrics: &Metrics) -> Result<(Client, Config, Requests), Failure> {
        let (config, requests) = (self.config()?, Requests::default());
        let transport = HttpTransport::new(config.clone(), env.clone())?;
        let (counted, server) = (requests.clone(), config.server.clone());
        let host = server.rsplit("://").next().and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
        metrics.add(move || counted.render(&host));
        Ok((Client::new(requests.of(transport), env.clone()), config, requests))
    }

    /// A client of another kubeconfig.
    pub fn client_of(&self, path: &Path, env: &Env) -> Result<Client, Failure> {
        let transport = HttpTransport::new(self.config_of(path)?, env.clone())?;
        Ok(Client::new(Arc::new(transport), env.clone()))
    }
}

/// The flags of leader election. What is not given is as the configuration file says, else as upstream.
#[derive(Args)]
pub struct Leadership {
    /// Whether to wait for leadership before working [default: true]
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: Option<bool>,
    /// How long others wait after the last renewal before they take over [default: 15s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_lease_duration: Option<GoDuration>,
    /// How long the leader tries to renew before it gives up; less than the lease duration [default: 10s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_renew_deadline: Option<GoDuration>,
    /// The pause between attempts [default: 2s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_retry_period: Option<GoDuration>,
    /// The kind of object that is locked; there are Leases only
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    leader_elect_resource_lock: String,
    /// The name of the Lease [default: the program's]
    #[arg(long, value_name = "NAME")]
    leader_elect_resource_name: Option<String>,
    /// The namespace of the Lease [default: kube-system]
    #[arg(long, value_name = "NAMESPACE")]
    leader_elect_resource_namespace: Option<String>,
}

/// `leaderElection` of a component's configuration file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct LeaderElection {
    leader_elect: Option<bool>,
    lease_duration: Option<GoDuration>,
    renew_deadline: Option<GoDuration>,
    retry_period: Option<GoDuration>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

impl Leadership {
    /// The same; what no flag says is as in the file.
    pub fn or(mut self, file: LeaderElection) -> Self {
        self.leader_elect = self.leader_elect.or(file.leader_elect);
        self.leader_elect_lease_duration = self.leader_elect_lease_duration.or(file.lease_duration);
        self.leader_elect_renew_deadline = self.leader_elect_renew_deadline.or(file.renew_deadline);
        self.leader_elect_retry_period = self.leader_elect_retry_period.or(file.retry_period);
        self.leader_elect_resource_name = self.leader_elect_resource_name.or(file.resource_name);
        self.leader_elect_resource_namespace = self.leader_elect_resource_namespace.or(file.resource_namespace);
        self
    }

    /// The election for a program of this name; `None` where there is none.
    pub fn election(&self, name: &str, env: &Env) -> Result<Option<Election>, Failure> {
        let identity = format!("{}_{}", crate::up::host_name(), env.uuid());
        let namespace = self.leader_elect_resource_namespace.as_deref().unwrap_or("kube-system");
        let lease = self.leader_elect_resource_name.as_deref().unwrap_or(name);
        let usual = Election::new(namespace, lease, identity);
        let or = |given: Option<GoDuration>, usual: Duration| given.map_or(usual, |given| given.0);
        let election = Election {
            lease: or(self.leader_elect_lease_duration, usual.lease),
            renew_deadline: or(self.leader_elect_renew_deadline, usual.renew_deadline),
            retry_period: or(self.leader_elect_retry_period, usual.retry_period),
            ..usual
        };
        // As upstream: attempts are spread by a fifth, and whole seconds are what a Lease can say.
        let wrong = if election.lease.as_secs() == 0 || election.lease.subsec_nanos() > 0 {
            "the lease duration must be whole seconds, and at least one"
        } else if election.lease <= election.renew_deadline {
            "the lease duration must be greater than the renew deadline"
        } else if election.renew_deadline <= election.retry_period.mul_f64(1.2) {
            "the renew deadline must be greater than the retry period and a fifth of it"
        } else if election.retry_period.is_zero() {
            "the retry period must be greater than 0"
        } else {
            return Ok(self.leader_elect.unwrap_or(true).then_some(election));
        };
        Err(format!("leader election: {wrong}").into())
    }
}

/// Runs `work` while leading (with a fenced client), or at once where there is no election, until the stop signal. The
/// work is then told to end, and the lease given back. Losing leadership is an error: the program ends, and whoever supervises it starts it again.
pub async fn run_leading<F: Future<Output = ()> + Send>(
    election: Option<Election>,
    client: &Client,
    metrics: &Metrics,
    work: impl FnOnce(Client, CancellationToken) -> F + Send,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let Some(election) = election else {
        let work = work(client.clone(), stop.clone());
        futures::pin_mut!(work);
        tokio::select! {
            biased;
            stopped = stop_signal() => stopped?,
            () = &mut work => return Ok(()),
        }
        stop.cancel();
        work.await;
        return Ok(());
    };
    let leading = Arc::new(AtomicBool::new(false));
    tell_leadership(metrics, &election.name, leading.clone());
    let lead = election.lead(client, |client| {
        leading.store(true, Relaxed);
        work(client, stop.clone())
    });
    futures::pin_mut!(lead);
    tokio::select! {
        biased;
        stopped = stop_signal() => stopped?,
        led = &mut lead => return led.ok_or_else(|| "leadership lost".into()),
    }
    if leading.load(Relaxed) {
        stop.cancel();
        // The work ends first, then the lease is given back; without an API server it runs out by itself.
        timeout(&**client.env(), RELEASE_LIMIT, lead).await;
    }
    Ok(())
}

fn tell_leadership(metrics: &Metrics, name: &str, leading: Arc<AtomicBool>) {
    let lease = name.to_owned();
    metrics.add(move || {
        let (name, mut out) = ("leader_election_master_status", Samples::default());
        out.family(name, "gauge", "Whether this instance leads.");
        out.sample(name, &[("name", &lease)], u8::from(leading.load(Relaxed)));
        out.into_text()
    });
}
