//! What the separate programs share: how to reach the cluster, who they are in an election, their health port.

use std::{convert::Infallible, future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use k8s::{
    core::env::{Env, Task},
    reconcile::{Client, leader::Election},
    wire::{
        body::Body,
        client::{Config, HttpTransport},
        health::{self, Health},
        pki::Authority,
        serve::{CancellationToken, Server},
        tls,
    },
};
use tokio::net::TcpListener;

use crate::program::{Failure, stop_signal};

/// The flags of every component that talks to an API server.
#[derive(Args)]
pub struct Reach {
    /// The kubeconfig file that says where the API server is and who we are there
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Reach {
    /// The configuration: of the flag's file, else of the environment.
    pub fn config(&self, agent: &str) -> Result<Config, Failure> {
        let config = match &self.kubeconfig {
            Some(path) => Config::from_kubeconfig(path, None)?,
            None => Config::from_env()?,
        };
        Ok(Config { user_agent: format!("{agent}/v1.37"), ..config })
    }

    /// A client under the identity of the configuration.
    pub fn client(&self, agent: &str, env: &Env) -> Result<(Client, Config), Failure> {
        let config = self.config(agent)?;
        let transport = HttpTransport::new(config.clone(), env.clone())?;
        Ok((Client::new(Arc::new(transport), env.clone()), config))
    }
}

/// The flags of leader election.
#[derive(Args)]
pub struct Leadership {
    /// Whether to wait for leadership before working
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: bool,
    /// The namespace of the Lease
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
}

impl Leadership {
    /// Runs `work` while leading (with a fenced client), or at once where election is off, until the stop signal.
    /// Losing leadership is an error: the program ends, and whoever supervises it starts it again.
    pub async fn run<F: Future<Output = ()> + Send>(
        &self,
        name: &str,
        client: &Client,
        work: impl FnOnce(Client) -> F,
    ) -> Result<(), Failure> {
        if !self.leader_elect {
            work(client.clone()).await;
            return Ok(());
        }
        let host = crate::up::host_name();
        let identity = format!("{host}_{}", client.env().uuid());
        let election = Election::new(&self.leader_elect_resource_namespace, name, identity);
        let lead = election.lead(client, work);
        tokio::select! {
            biased;
            stopped = stop_signal() => stopped,
            led = lead => led.ok_or_else(|| "leadership lost".into()),
        }
    }
}

/// Serves `/healthz`, `/livez` and `/readyz` over TLS with a certificate of its own; port 0 serves nothing.
pub async fn serve_health(env: &Env, address: SocketAddr, stop: &CancellationToken) -> Result<Option<Task>, Failure> {
    if address.port() == 0 {
        return Ok(None);
    }
    let listener = TcpListener::bind(address).await.map_err(|why| format!("listen on {address}: {why}"))?;
    let authority = Authority::generate("self-signed", env.now())?;
    let identity = authority.issue_server("localhost", &["localhost".into(), address.ip().to_string()], env.now())?;
    let tls = tls::server(env, &identity, None)?;
    let service = tower::service_fn(|request: http::Request<Body>| async move {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let answer = match path.as_str() {
            "healthz" | "livez" | "readyz" => Health::new().verdict(&path, None, "").map(|verdict| verdict.response()),
            _ => None,
        };
        Ok::<_, Infallible>(answer.unwrap_or_else(|| health::text(http::StatusCode::NOT_FOUND, "not found\n".into())))
    });
    let (server, stop) = (Server::new(env.clone(), service), stop.clone());
    Ok(Some(env.spawn("health", Box::pin(async move { server.serve(listener, Some(tls), stop).await }))))
}
