//! The API server put together: inner and outer service, identities, tokens, ways to nodes, and a port if asked for.

mod audit;
mod authentication;
mod pulse;

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use k8s_apiserver::{
    ApiServer,
    admission::Admission,
    auth::{Authenticator, Authorizer, Chain, Mode},
    fairness::FairnessLimits,
    outer::{Answers, Outer, Parts, REQUEST_TIMEOUT},
    storage::Encryption,
};
use k8s_core::{
    env::{self, Env, Task},
    registry::Registry,
};
use k8s_node::server::InProcessDialer;
use k8s_store::Store;
use k8s_wire::{
    client::{Dialer, HttpNodeDialer, HttpPodDialer, HttpWebhookCaller, UnixGrpcCaller},
    pki::{self, Identity},
    serve::{CancellationToken, Server},
    tls::{self, ServerTrust, TlsVersion},
};
use tokio::net::TcpListener;

pub use self::audit::AuditSettings;
pub use self::authentication::{AuthenticationSettings, FrontProxySettings, TOKEN_ISSUER};
use self::pulse::Pulse;
use crate::{
    cluster::ClusterError,
    credentials::{Credentials, identity},
};

/// How long the end waits for audit events that are still to be written.
const AUDIT_DRAIN: Duration = Duration::from_secs(5);

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
    /// What else operators choose.
    pub settings: ControlPlaneSettings,
    /// Names and addresses that others know the API server by besides: its certificate holds for them.
    pub serving_names: Vec<String>,
}

/// What operators choose and embedders seldom do. The defaults are those of `kube-apiserver`.
pub struct ControlPlaneSettings {
    /// The cluster IPs of Services.
    pub service_cidr: IpNet,
    /// The node ports of Services.
    pub node_ports: RangeInclusive<u16>,
    /// How it is told who asks.
    pub authentication: AuthenticationSettings,
    /// What is noted of requests, and where; nothing by default.
    pub audit: Option<AuditSettings>,
    /// How much is answered at once over HTTP; `None` is without limits.
    pub fairness: Option<FairnessLimits>,
    /// Who decides what is allowed, in this order.
    pub authorization: Vec<Mode>,
    /// Built-in admission plugins to leave out, by name.
    pub without_admission: Vec<String>,
    /// Resources that nobody in this cluster acts on, such as `jobs.batch`: who writes one is warned.
    pub inert: Vec<String>,
    /// How long a request that is no watch and no connection may take.
    pub request_timeout: Duration,
    /// After what share of requests, from 0 to 1, a client of HTTP/2 is told to connect anew.
    pub goaway_chance: f64,
    /// The certificate and key to serve with, instead of one that the cluster's authority issues.
    pub serving: Option<Identity>,
    /// The oldest version of TLS that is spoken.
    pub min_tls: TlsVersion,
    /// What `/metrics` shows beside the server's own: samples in the Prometheus text format.
    pub metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl Default for ControlPlaneSettings {
    fn default() -> Self {
        Self {
            // Invariant: twelve bits are a prefix length of IPv4.
            service_cidr: IpNet::new_assert(IpAddr::from([10, 96, 0, 0]), 12),
            node_ports: 30000..=32767,
            authentication: AuthenticationSettings::default(),
            audit: None,
            fairness: Some(FairnessLimits::default()),
            authorization: vec![Mode::Node, Mode::Rbac],
            without_admission: Vec::new(),
            inert: Vec::new(),
            request_timeout: REQUEST_TIMEOUT,
            goaway_chance: 0.0,
            serving: None,
            min_tls: TlsVersion::V1_2,
            metrics: None,
        }
    }
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
    env: Env,
    stop: CancellationToken,
    serving: Option<Task>,
    _pulse: Option<Task>,
}

impl ControlPlane {
    /// Starts it. When this returns, the API serves.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, ClusterError> {
        let ControlPlaneOptions { env, store, credentials, registry, listen, settings, .. } = options;
        // The port first: if it is taken, nothing else needs to start.
        let listener = match listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let nodes = node_dialer(&env, &credentials)?;
        let authentication = settings.authentication.build(&env, &credentials)?;
        let mut builder = ApiServer::builder(store.clone(), env.clone())
            .registry(registry)
            .service_cidr(settings.service_cidr)
            .node_ports(settings.node_ports)
            .tokens(authentication.tokens.clone())
            .bearer_tokens(authentication.bearer_tokens)
            .publish_authentication(authentication.published)
            .authorization_modes(settings.authorization)
            .front_proxy_identity(authentication.front_proxy_identity)
            .node_dialer(Arc::new(nodes.clone()))
            .pod_dialer(Arc::new(HttpPodDialer::new(env.clone())?))
            .webhooks(Arc::new(HttpWebhookCaller::new(env.clone())))
            .key_services(Arc::new(UnixGrpcCaller::new(env.clone())));
        if let Some(limits) = settings.fairness {
            builder = builder.fairness(limits);
        }
        if let Some(settings) = settings.audit {
            builder = builder.audit(settings.start(&env).await?);
        }
        let by_default = || credentials.encryption_keys().cloned().map(Encryption::of_secrets);
        if let Some(encryption) = options.encryption.or_else(by_default) {
            builder = builder.encryption(encryption);
        }
        builder = authentication.followers.into_iter().fold(builder, |builder, follower| builder.follower(follower));
        if let (Some(address), Some(advertise)) = (address, options.advertise) {
            builder = builder.advertise(advertise, address.port());
        }
        builder = options.admission.into_iter().fold(builder, |builder, plugin| builder.admission(plugin));
        builder = options.authorizers.into_iter().fold(builder, |builder, authorizer| builder.authorizer(authorizer));
        builder = settings.without_admission.iter().fold(builder, |builder, name| builder.without_admission(name));
        builder = settings.inert.iter().fold(builder, |builder, resource| builder.nobody_acts_on(resource));
        let api = builder.start().await?;
        let (stop, pulse) = (CancellationToken::new(), Arc::new(Pulse::default()));
        let mut authenticators = authentication.authenticators;
        authenticators.extend(options.authenticators);
        let port = address.map_or(443, |address| address.port());
        let host = options.advertise.map_or_else(|| "kubernetes.default.svc".to_owned(), |ip| ip.to_string());
        let outer = Outer::new(Parts {
            env: env.clone(),
            inner: Arc::new(api.clone()),
            catalog: api.kinds().clone(),
            authenticator: Arc::new(Chain(authenticators)),
            front_proxy: Some(authentication.front_proxy),
            anonymous: authentication.anonymous,
            aggregation: Some(api.aggregation()),
            authorizer: api.authorizer().clone(),
            answers: Answers {
                metrics: Some(Box::new({
                    let (api, more) = (api.clone(), settings.metrics);
                    move || {
                        let mut samples = api.cache().samples();
                        samples.extend(api.audit().map(|audit| audit.samples()));
                        samples.extend(api.fairness().map(|fairness| fairness.samples()));
                        samples.extend(more.as_ref().map(|make| make()));
                        samples
                    }
                })),
                live: pulse::live(&pulse),
                ready: pulse::ready(&pulse, &api, &stop),
                issuer: Some(authentication.tokens),
                jwks_uri: authentication.jwks_uri.unwrap_or_else(|| format!("https://{host}:{port}/openid/v1/jwks")),
                ..Answers::default()
            },
            request_timeout: settings.request_timeout,
        });
        let identity = match (settings.serving, address) {
            (Some(identity), _) => Some(identity),
            (None, Some(address)) => Some(own_identity(
                &credentials,
                address,
                &settings.service_cidr,
                options.advertise,
                &options.serving_names,
            )?),
            (None, None) => None,
        };
        let serving = match (listener, identity) {
            (Some(listener), Some(identity)) => {
                let authorities = pki::certificates("client authorities", authentication.authorities_pem.as_bytes())?;
                let tls = tls::server_from(&env, &identity, Some(&authorities), settings.min_tls)?;
                let server = Server::new(env.clone(), outer.clone()).send_away(settings.goaway_chance);
                let stop = stop.clone();
                Some(env.spawn("https", Box::pin(async move { server.serve(listener, Some(tls), stop).await })))
            }
            _ => None,
        };
        // Who embeds a server without a port asks the store themselves.
        let watched = serving.is_some().then(|| pulse::watch(pulse, env.clone(), store, api.cache().clone()));
        let _pulse = watched.map(|watching| env.spawn("store pulse", Box::pin(watching)));
        Ok(Self { api, outer, nodes, address, advertise: options.advertise, env, stop, serving, _pulse })
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
        if let Some(audit) = self.api.audit() {
            // A webhook that is away must not hold the process up for long.
            let _ = env::timeout(&*self.env, AUDIT_DRAIN, audit.flush()).await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ClusterError> {
    TcpListener::bind(address).await.map_err(|source| ClusterError::Listen { address, source })
}

/// A certificate of the cluster's authority for every address and name that the server is known by.
fn own_identity(
    credentials: &Credentials,
    listening: SocketAddr,
    services: &IpNet,
    advertise: Option<IpAddr>,
    names: &[String],
) -> Result<Identity, ClusterError> {
    // The first address of the range is that of the Service `kubernetes`.
    let service = services.hosts().next();
    let listening = Some(listening.ip()).filter(|ip| !ip.is_unspecified());
    let local: IpAddr = [127, 0, 0, 1].into();
    let mut addresses: Vec<IpAddr> = [Some(local), service, listening, advertise].into_iter().flatten().collect();
    addresses.sort();
    addresses.dedup();
    Ok(credentials.api_server(&addresses, names)?)
}

/// How the API server reaches nodes: those in this process by a call, others by HTTPS with its own certificate.
///
/// As upstream without `--kubelet-certificate-authority`, a node's certificate is not verified: nodes make their own.
fn node_dialer(env: &Env, credentials: &Credentials) -> Result<InProcessDialer, ClusterError> {
    let identity = credentials.client(identity::API_SERVER, &[identity::MASTERS])?;
    let remote = HttpNodeDialer(Dialer::new(env.clone(), ServerTrust::Anyone, Some(&identity))?);
    Ok(InProcessDialer::new(Some(Arc::new(remote))))
}
