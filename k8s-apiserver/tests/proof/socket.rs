//! A server on a port of the loopback, with TLS, and the network transport to it.

use std::{net::SocketAddr, sync::Arc};

use k8s_apiserver::ApiServer;
use k8s_core::env::{Env, Task};
use k8s_wire::{
    client::{Config, HttpTransport},
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};
use tokio::net::TcpListener;

use super::http::outer;

/// A place at which servers come and go, and the way there.
pub struct Place {
    env: Env,
    authority: Authority,
    address: SocketAddr,
    pub transport: Arc<HttpTransport>,
}

/// What listens there.
pub struct Listening {
    stop: CancellationToken,
    task: Task,
}

impl Listening {
    /// Ends all connections, and returns when they have ended. Watches must have ended, or it waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.join().await.expect("it does not panic");
    }
}

impl Place {
    pub async fn find() -> Self {
        let env = System::current();
        let authority = Authority::generate("ca", env.now()).expect("an authority");
        // The port stays ours: who restarts there does so at once.
        let address = bind("127.0.0.1:0".parse().expect("an address")).await.local_addr().expect("it is bound");
        let config = Config {
            authorities_pem: Some(authority.certificate_pem().into()),
            identity: Some(authority.issue_client("someone", &["testers"], env.now()).expect("a certificate")),
            ..Config::new(format!("https://{address}"))
        };
        let transport = Arc::new(HttpTransport::new(config, env.clone()).expect("a transport"));
        Self { env, authority, address, transport }
    }

    pub async fn serve(&self, server: &ApiServer, env: Env) -> Listening {
        let names = ["127.0.0.1".to_owned()];
        let identity = self.authority.issue_server("api", &names, self.env.now()).expect("a certificate");
        let trusted = self.authority.identity().certificates().expect("its own");
        let tls = tls::server(&self.env, &identity, Some(&trusted)).expect("a configuration");
        let listener = bind(self.address).await;
        let server = Server::new(self.env.clone(), outer(server, env));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = async move { server.serve(listener, Some(tls), stopped).await };
        Listening { stop, task: self.env.spawn("server", Box::pin(serving)) }
    }
}

/// Waits until the port is free: who had it before may not have closed it yet.
async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
