//! The API server put together: inner and outer service, identities, tokens, ways to nodes, and a port if asked for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_apiserver::{
    ApiServer,
    admission::Admission,
    auth::{Authenticator, Authorizer, Chain, token::ServiceAccountTokens, x509::ClientCertificates},
    outer::{Answers, Outer, Parts},
    storage::Encryption,
};
use k8s_core::{
    env::{Env, Task},
    registry::Registry,
};
use k8s_node::server::InProcessDialer;
use k8s_store::Store;
use k8s_wire::{
    client::{Dialer, HttpNodeDialer, HttpPodDialer},
    health::Health,
    pki::{self, Identity},
    serve::{CancellationToken, Server},
    tls::{self, ServerTrust},
};
use tokio::net::TcpListener;

use crate::{
    cluster::ClusterError,
    credentials::{Credentials, identity},
};

/// Who signs service account tokens, as their `iss` says.
pub const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What a control plane is made of.
pub struct ControlPlaneOptions {
    /// Time, randomness, tasks.
    pub env: Env,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The keys of the cluster.
    pub credentials: Arc<Credentials>,
    /// The kinds.
    pub registry: Registry,
    /// Admission plugins beside the built-in ones.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Authorizers beside the built-in ones.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    /// Authenticators beside the built-in ones.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// What is encrypted in the store, and how. By default Secrets are, if the credentials have keys for that.
    pub encryption: Option<Encryption>,
    /// Where to listen, if at all.
    pub listen: Option<SocketAddr>,
    /// The address that pods and other machines reach the API server at, if it listens.
    pub advertise: Option<IpAddr>,
    /// Names and addresses that others know the API server by besides: its certificate holds for them.
    pub serving_names: Vec<String>,
}

/// A running API server.
pub struct ControlPlane {
    /// The inner service.
    pub api: ApiServer,
    /// The outer service: HTTP, callable with or without a port.
    pub outer: Outer,
    /// The ways to nodes; agents of this process are added to it.
    pub nodes: InProcessDialer,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    advertise: Option<IpAddr>,
    stop: CancellationToken,
    serving: Option<Task>,
}

impl ControlPlane {
    /// Starts it. When this returns, the API serves.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, ClusterError> {
        let ControlPlaneOptions { env, store, credentials, registry, listen, .. } = options;
        // The port first: if it is taken, nothing else needs to start.
        let listener = match listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let nodes = node_dialer(&env, &credentials)?;
        let tokens = Arc::new(ServiceAccountTokens::new(env.clone(), credentials.signing_key(), TOKEN_ISSUER)?);
        let mut builder = ApiServer::builder(store, env.clone())
            .registry(registry)
            .tokens(tokens.clone())
            .node_dialer(Arc::new(nodes.clone()))
            .pod_dialer(Arc::new(HttpPodDialer::new(env.clone())?));
        let by_default = || credentials.encryption_keys().cloned().map(Encryption::of_secrets);
        if let Some(encryption) = options.encryption.or_else(by_default) {
            builder = builder.encryption(encryption);
        }
        if let (Some(address), Some(advertise)) = (address, options.advertise) {
            builder = builder.advertise(advertise, address.port());
        }
        builder = options.admission.into_iter().fold(builder, |builder, plugin| builder.admission(plugin));
        builder = options.authorizers.into_iter().fold(builder, |builder, authorizer| builder.authorizer(authorizer));
        let api = builder.start().await?;
        let mut authenticators: Vec<Arc<dyn Authenticator>> = vec![Arc::new(ClientCertificates), tokens.clone()];
        authenticators.extend(options.authenticators);
        let port = address.map_or(443, |address| address.port());
        let host = options.advertise.map_or_else(|| "kubernetes.default.svc".to_owned(), |ip| ip.to_string());
        let outer = Outer::new(Parts {
            env: env.clone(),
            inner: Arc::new(api.clone()),
            catalog: Arc::new(api.registry().clone()),
            authenticator: Arc::new(Chain(authenticators)),
            authorizer: api.authorizer().clone(),
            answers: Answers {
                metrics: Some(Box::new({
                    let cache = api.cache().clone();
                    move || cache.samples()
                })),
                live: Health::new(),
                ready: Health::new(),
                issuer: Some(tokens),
                jwks_uri: format!("https://{host}:{port}/openid/v1/jwks"),
                ..Answers::default()
            },
        });
        let stop = CancellationToken::new();
        let serving = match listener {
            Some(listener) => {
                let identity = serving_identity(&credentials, &listener, options.advertise, &options.serving_names)?;
                Some(serve(&env, &outer, listener, &credentials, &identity, &stop)?)
            }
            None => None,
        };
        Ok(Self { api, outer, nodes, address, advertise: options.advertise, stop, serving })
    }

    /// Where clients reach it, if it listens: an address that its certificate holds for.
    pub fn url(&self) -> Option<String> {
        let address = self.address?;
        let host =
            if address.ip().is_unspecified() { self.advertise.unwrap_or([127, 0, 0, 1].into()) } else { address.ip() };
        Some(format!("https://{}", SocketAddr::new(host, address.port())))
    }

    /// Stops accepting, ends watches, lets requests in flight finish.
    pub async fn stop(mut self) {
        self.api.close();
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            // A panic was reported where it happened.
            let _ = serving.join().await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ClusterError> {
    TcpListener::bind(address).await.map_err(|source| ClusterError::Listen { address, source })
}

/// The certificate: for this machine, for pods, and for whatever others know the server by.
fn serving_identity(
    credentials: &Credentials,
    listener: &TcpListener,
    advertise: Option<IpAddr>,
    names: &[String],
) -> Result<Identity, ClusterError> {
    let local = listener.local_addr().map(|address| address.ip());
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), [10, 96, 0, 1].into()];
    addresses.extend(local.ok().filter(|ip| !ip.is_unspecified()).into_iter().chain(advertise));
    addresses.sort();
    addresses.dedup();
    Ok(credentials.api_server(&addresses, names)?)
}

fn serve(
    env: &Env,
    outer: &Outer,
    listener: TcpListener,
    credentials: &Credentials,
    identity: &Identity,
    stop: &CancellationToken,
) -> Result<Task, ClusterError> {
    let authorities = pki::certificates("ca.crt", credentials.ca_pem().as_bytes())?;
    let tls = tls::server(env, identity, Some(&authorities))?;
    let (server, stop) = (Server::new(env.clone(), outer.clone()), stop.clone());
    Ok(env.spawn("https", Box::pin(async move { server.serve(listener, Some(tls), stop).await })))
}

/// How the API server reaches nodes: those in this process by a call, others by HTTPS with its own certificate.
///
/// As upstream without `--kubelet-certificate-authority`, a node's certificate is not verified: nodes make their own.
fn node_dialer(env: &Env, credentials: &Credentials) -> Result<InProcessDialer, ClusterError> {
    let identity = credentials.client(identity::API_SERVER, &[identity::MASTERS])?;
    let remote = HttpNodeDialer(Dialer::new(env.clone(), ServerTrust::Anyone, Some(&identity))?);
    Ok(InProcessDialer::new(Some(Arc::new(remote))))
}
