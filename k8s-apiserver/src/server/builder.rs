//! Putting a server together.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use k8s_core::{
    env::Env,
    registry::{Kinds, Registry},
    seam::{
        node::{NodeDialer, PodDialer},
        webhook::WebhookCaller,
    },
    status::{ApiError, ApiResult},
};
use k8s_store::Store;
use k8s_wire::pki::Identity;
use parking_lot::Mutex;

use super::{ApiServer, Inner, bootstrap, compaction};
use crate::{
    admission::{self, Admission, Chain, Cluster, Hooks, PodSecurity},
    aggregator::{self, Aggregator},
    audit::Audit,
    auth::{
        Authorizer, Follower, Masters, Mode, PublishedAuthentication, TokenIssuer, Union,
        bearer::{BearerTokens, TokenAuthenticator},
        node::NodeAuthorizer,
        rbac::Rbac,
        token::ServiceAccountTokens,
    },
    cache::{Cache, consistency},
    definitions::{self, Changes, Served},
    fairness::{Fairness, FairnessLimits},
    registry::Ranges,
    storage::{Encrypted, Encryption},
    webhook::Webhooks,
};

/// The parts of a server. What is not given has the default that is named.
pub struct ApiServerBuilder {
    store: Arc<dyn Store>,
    env: Env,
    registry: Arc<Registry>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    modes: Vec<Mode>,
    followers: Vec<Arc<dyn Follower>>,
    admission: Vec<Arc<dyn Admission>>,
    dialer: Option<Arc<dyn NodeDialer>>,
    pod_dialer: Option<Arc<dyn PodDialer>>,
    webhooks: Option<Arc<dyn WebhookCaller>>,
    audit: Option<Arc<Audit>>,
    fairness: Option<FairnessLimits>,
    tokens: Option<Arc<ServiceAccountTokens>>,
    bearer_tokens: Option<Arc<BearerTokens>>,
    published: Option<PublishedAuthentication>,
    front_proxy: Option<Identity>,
    cidr: IpNet,
    ports: RangeInclusive<u16>,
    encryption: Option<Encryption>,
    check_interval: Duration,
    advertised: Option<SocketAddr>,
    without: Vec<String>,
    inert: Vec<String>,
    pod_security: PodSecurity,
}

impl ApiServerBuilder {
    pub(super) fn new(store: Arc<dyn Store>, env: Env) -> Self {
        Self {
            store,
            env,
            registry: Arc::new(Registry::builtin()),
            authorizers: Vec::new(),
            modes: vec![Mode::Node, Mode::Rbac],
            followers: Vec::new(),
            admission: Vec::new(),
            dialer: None,
            pod_dialer: None,
            webhooks: None,
            audit: None,
            fairness: None,
            tokens: None,
            bearer_tokens: None,
            published: None,
            front_proxy: None,
            // Invariant: twelve bits are a prefix length of IPv4.
            cidr: IpNet::new_assert(IpAddr::from([10, 96, 0, 0]), 12),
            ports: 30000..=32767,
            encryption: None,
            check_interval: consistency::INTERVAL,
            advertised: None,
            without: Vec::new(),
            inert: Vec::new(),
            pod_security: PodSecurity::default(),
        }
    }

    /// Serves these kinds instead of the built-in ones alone (see [`Registry::with`]).
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Arc::new(registry);
        self
    }

    /// Who is asked, and in which order; by default the node authorizer, then RBAC.
    pub fn authorization_modes(mut self, modes: Vec<Mode>) -> Self {
        self.modes = modes;
        self
    }

    /// Asks one more authorizer, before those of [`Self::authorization_modes`].
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizers.push(authorizer);
        self
    }

    /// Tells one more follower of every change.
    pub fn follower(mut self, follower: Arc<dyn Follower>) -> Self {
        self.followers.push(follower);
        self
    }

    /// Asks one more admission plugin, after the built-in ones.
    pub fn admission(mut self, plugin: Arc<dyn Admission>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// Leaves a built-in admission plugin out, by its name (see [`admission::BUILTIN`]).
    pub fn without_admission(mut self, name: impl Into<String>) -> Self {
        self.without.push(name.into());
        self
    }

    /// Names a resource (`jobs.batch`) or a subresource (`pods/resize`) that nobody in this cluster acts on: who writes
    /// one is told so by a warning.
    pub fn nobody_acts_on(mut self, resource: impl Into<String>) -> Self {
        self.inert.push(resource.into());
        self
    }

    /// What the pod security plugin holds pods to where namespaces say nothing, and whom it exempts.
    pub fn pod_security(mut self, plugin: PodSecurity) -> Self {
        self.pod_security = plugin;
        self
    }

    /// How nodes are reached, for logs, exec and the like. Without it, these answer 503.
    pub fn node_dialer(mut self, dialer: Arc<dyn NodeDialer>) -> Self {
        self.dialer = Some(dialer);
        self
    }

    /// How pods are reached, for the proxy to them and to services. Without it, that answers 503.
    pub fn pod_dialer(mut self, dialer: Arc<dyn PodDialer>) -> Self {
        self.pod_dialer = Some(dialer);
        self
    }

    /// What reviews tokens of every sort, for `TokenReview`; service account tokens alone by default.
    pub fn bearer_tokens(mut self, tokens: Arc<BearerTokens>) -> Self {
        self.bearer_tokens = Some(tokens);
        self
    }

    /// The certificate by which other servers know this one as a front proxy. Without it they are asked without any.
    pub fn front_proxy_identity(mut self, identity: Identity) -> Self {
        self.front_proxy = Some(identity);
        self
    }

    /// Keeps the ConfigMap `extension-apiserver-authentication`, by which other servers learn whom to believe.
    pub fn publish_authentication(mut self, published: PublishedAuthentication) -> Self {
        self.published = Some(published);
        self
    }

    /// How webhooks are called. Without it, whatever needs one fails.
    pub fn webhooks(mut self, caller: Arc<dyn WebhookCaller>) -> Self {
        self.webhooks = Some(caller);
        self
    }

    /// Limits how many requests over HTTP are answered at once, by priority levels. Without it nothing is limited.
    pub fn fairness(mut self, limits: FairnessLimits) -> Self {
        self.fairness = Some(limits);
        self
    }

    /// Notes who asks for what. Without it nothing is noted.
    pub fn audit(mut self, audit: Arc<Audit>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// What issues and reviews service account tokens. It follows what tokens are bound to. Without it, token requests
    /// answer 503.
    pub fn tokens(mut self, tokens: Arc<ServiceAccountTokens>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// The cluster IPs of Services; `10.96.0.0/12` by default.
    pub fn service_cidr(mut self, cidr: IpNet) -> Self {
        self.cidr = cidr;
        self
    }

    /// The node ports of Services; 30000 to 32767 by default.
    pub fn node_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// Encrypts values in the store. Without it nothing is encrypted, and a store that holds encrypted values is
    /// refused. What is above the store, requests and watches and digests among it, sees plain values only.
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// How often the watch cache is compared with the store; every ten minutes by default. A difference is counted, and
    /// the cache is made anew.
    pub fn check_cache_every(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self
    }

    /// Where clients reach this server: the endpoint of the Service `kubernetes`. By default there is none.
    pub fn advertise(mut self, address: IpAddr, port: u16) -> Self {
        self.advertised = Some(SocketAddr::new(address, port));
        self
    }

    /// Recovers the cache from the store, makes sure of what every cluster has, and answers with a server that is
    /// ready. 503 when the store cannot be read, also when a value in it cannot be decrypted.
    pub async fn start(self) -> ApiResult<ApiServer> {
        if self.cidr.prefix_len() > self.cidr.max_prefix_len().saturating_sub(3) {
            return Err(ApiError::bad_request(format!(
                "service CIDR {}: it has fewer than eight addresses",
                self.cidr
            )));
        }
        let (rbac, nodes) = (Arc::new(Rbac::default()), Arc::new(NodeAuthorizer::default()));
        let aggregator = Arc::new(Aggregator::new(self.env.clone(), self.front_proxy));
        let mut followers: Vec<Arc<dyn Follower>> = vec![rbac.clone(), nodes.clone(), aggregator.clone()];
        followers.extend(self.tokens.iter().map(|tokens| tokens.clone() as Arc<dyn Follower>));
        followers.extend(self.followers);
        let changes = Arc::new(Changes::default());
        followers.push(changes.clone());
        let mandatory = Arc::new(bootstrap::Mandatory::default());
        followers.push(mandatory.clone());
        let below = self.store;
        let encrypted = self.encryption.map(|encryption| Arc::new(Encrypted::new(below.clone(), encryption)));
        let store = encrypted.clone().map_or(below, |encrypted| encrypted as Arc<dyn Store>);
        let webhooks = Arc::new(Webhooks::new(self.env.clone(), self.webhooks));
        let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
        authorizers.extend(self.authorizers);
        authorizers.extend(self.modes.into_iter().map(|mode| match mode {
            Mode::Node => nodes.clone() as Arc<dyn Authorizer>,
            Mode::Rbac => rbac.clone(),
            Mode::Other(other) => other,
        }));
        let authorizer: Arc<dyn Authorizer> = Arc::new(Union(authorizers));
        let hooks = Hooks::new(webhooks.clone(), authorizer.clone());
        let fairness = self.fairness.map(|limits| Fairness::new(self.env.clone(), limits));
        followers.extend(fairness.iter().map(|fairness| fairness.clone() as Arc<dyn Follower>));
        followers.push(hooks.mutating.clone());
        followers.push(hooks.validating.clone());
        followers.push(hooks.mutating_policies.clone());
        followers.push(hooks.validating_policies.clone());
        let mut builtin = admission::builtin(&self.env, rbac.clone(), &authorizer, self.pod_security, &hooks);
        builtin.retain(|plugin| !self.without.iter().any(|name| name == plugin.name()));
        // The definitions first: the cache begins with all kinds, so that watches resume over a restart.
        let mut served = Served::new(self.registry.clone());
        let registry = definitions::stored(&store, &mut served).await?;
        let cache = Arc::new(Cache::new(self.env.clone(), store.clone(), &registry, &followers));
        let kinds = Arc::new(Kinds::new(Registry::clone(&registry)));
        let tokens = self.tokens;
        let own = || {
            let audiences = tokens.as_ref().map_or_else(Vec::new, |tokens| tokens.default_audiences().to_vec());
            let sorts = tokens.iter().map(|tokens| tokens.clone() as Arc<dyn TokenAuthenticator>);
            Arc::new(BearerTokens::new(sorts.collect(), audiences))
        };
        let inner = Arc::new(Inner {
            bearer_tokens: self.bearer_tokens.unwrap_or_else(own),
            aggregator,
            env: self.env.clone(),
            store,
            encrypted,
            cluster: Cluster::new(cache.clone(), kinds.clone()),
            cache: cache.clone(),
            kinds,
            authorizer,
            admission: Chain::new(self.env.clone(), builtin, self.admission),
            dialer: self.dialer,
            pod_dialer: self.pod_dialer,
            webhooks,
            audit: self.audit,
            fairness,
            tokens,
            rbac,
            ranges: Ranges { cidr: self.cidr.trunc(), ports: self.ports },
            inert: self.inert.into_iter().collect(),
        });
        inner.cluster.serve_by(&inner);
        let feed = cache.start().await?;
        bootstrap::run(&inner, self.advertised, self.published.as_ref()).await?;
        aggregator::register(&inner, &inner.kinds.now()).await?;
        let local = self.env.spawn("APIServices of custom kinds", Box::pin(aggregator::follow(inner.clone())));
        let availability = self.env.spawn("APIService availability", Box::pin(aggregator::run(inner.clone())));
        let compaction = self.env.spawn("compaction", Box::pin(compaction::run(inner.clone())));
        let custom = self.env.spawn("custom kinds", Box::pin(definitions::run(inner.clone(), served, changes)));
        let check = consistency::run(cache, self.check_interval);
        let check = self.env.spawn("cache comparison", Box::pin(check));
        let flow_control = self.env.spawn("flow control", Box::pin(bootstrap::keep(inner.clone(), mandatory)));
        let tasks = vec![feed, availability, local, compaction, custom, check, flow_control];
        Ok(ApiServer { inner, tasks: Arc::new(Mutex::new(tasks)) })
    }
}
