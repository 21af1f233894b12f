//! The inner service: requests of established callers, from sockets and from this process alike.
//!
//! In this order: impersonation, authorization, the kind's entry in the table, admission, the registry operation. It
//! knows no HTTP; what comes in is an `ApiRequest`, what goes out an `ApiResponse`.

mod bootstrap;
mod commit;
mod connect;
mod delete;
mod read;
mod reads;
mod reviews;
mod service_network;
mod subresource;
mod write;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_core::{
    env::{Env, Task},
    registry::{Registry, ResourceInfo},
    request::{ApiRequest, ApiResponse, Caller, Target, Verb},
    seam::{node::NodeDialer, transport::Transport},
    status::{ApiError, ApiResult},
};
use k8s_store::Store;

pub use reads::Reads;

use crate::{
    admission::{Admission, default_plugins},
    auth::{
        Attributes, Authorizer, Decision, Follower, Union, node::NodeAuthorizer, rbac::Rbac,
        token::ServiceAccountTokens,
    },
    cache::Cache,
    outer::Door,
};

/// An API server in this process. Cloning shares.
#[derive(Clone)]
pub struct ApiServer(Arc<Shared>);

pub(crate) struct Shared {
    env: Env,
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    registry: Arc<Registry>,
    reads: Reads,
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
    admission: Vec<Arc<dyn Admission>>,
    dialer: Option<Arc<dyn NodeDialer>>,
    tokens: Option<Arc<ServiceAccountTokens>>,
    service_network: service_network::ServiceNetwork,
    _feed: Task,
}

/// An API server to be.
pub struct ApiServerBuilder {
    store: Arc<dyn Store>,
    env: Env,
    registry: Arc<Registry>,
    authorizers: Vec<Arc<dyn Authorizer>>,
    admission: Vec<Arc<dyn Admission>>,
    followers: Vec<Arc<dyn Follower>>,
    dialer: Option<Arc<dyn NodeDialer>>,
    tokens: Option<Arc<ServiceAccountTokens>>,
    service_cidr: IpNet,
    advertise: Option<(IpAddr, u16)>,
}

impl ApiServer {
    /// A server over a store, with the built-in kinds, RBAC, the node authorizer and the default admission plugins.
    pub fn builder(store: Arc<dyn Store>, env: Env) -> ApiServerBuilder {
        ApiServerBuilder {
            store,
            env,
            registry: Arc::new(Registry::builtin()),
            authorizers: Vec::new(),
            admission: default_plugins(),
            followers: Vec::new(),
            dialer: None,
            tokens: None,
            service_cidr: service_network::DEFAULT_CIDR,
            advertise: None,
        }
    }

    /// The door for a component in this process, under an identity of its own.
    pub fn transport(&self, caller: Caller) -> Arc<dyn Transport> {
        Arc::new(InProcess { server: self.clone(), caller })
    }

    /// The kinds that are served.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// Decides who may do what.
    pub fn authorizer(&self) -> &Arc<dyn Authorizer> {
        &self.0.authorizer
    }

    /// Ends every watch, so that connections can drain.
    pub fn close(&self) {
        self.0.cache.close();
    }

    /// The revision that the cache shows.
    pub fn revision(&self) -> u64 {
        self.0.cache.revision()
    }

    /// Creates what every cluster starts with: namespaces, roles, bindings, priority classes, and the `kubernetes`
    /// service if an address is advertised. What is there already stays.
    async fn bootstrap(&self, advertise: Option<(IpAddr, u16)>) -> ApiResult<()> {
        bootstrap::run(self, advertise).await
    }

    /// Answers one request of a caller that is known.
    pub async fn handle(&self, caller: Caller, mut request: ApiRequest) -> ApiResult<ApiResponse> {
        let shared = &self.0;
        let caller = shared.impersonate(caller, request.caller.take()).await?;
        shared.authorize(&caller, &request).await?;
        let info = shared.registry.served(&request.target.resource)?.clone();
        check_scope(&info, &request.target)?;
        if request.target.subresource.is_empty() {
            shared.object(&caller, &info, request).await
        } else {
            shared.subresource(&caller, &info, request).await
        }
    }
}

#[async_trait]
impl Door for ApiServer {
    async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        ApiServer::handle(self, caller, request).await
    }
}

struct InProcess {
    server: ApiServer,
    caller: Caller,
}

#[async_trait]
impl Transport for InProcess {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.server.handle(self.caller.clone(), request).await
    }
}

impl ApiServerBuilder {
    /// Serves these kinds.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Arc::new(registry);
        self
    }

    /// Asks this authorizer too, after the node authorizer and RBAC.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizers.push(authorizer);
        self
    }

    /// Adds an admission plugin behind the default ones.
    pub fn admission(mut self, plugin: Arc<dyn Admission>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// Tells this follower of every committed object that it follows.
    pub fn follower(mut self, follower: Arc<dyn Follower>) -> Self {
        self.followers.push(follower);
        self
    }

    /// How to reach nodes, for logs and exec.
    pub fn node_dialer(mut self, dialer: Arc<dyn NodeDialer>) -> Self {
        self.dialer = Some(dialer);
        self
    }

    /// Who makes and checks service account tokens.
    pub fn tokens(mut self, tokens: Arc<ServiceAccountTokens>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Where cluster IPs come from.
    pub fn service_cidr(mut self, cidr: IpNet) -> Self {
        self.service_cidr = cidr;
        self
    }

    /// Publishes this address as the `kubernetes` service in `default`.
    pub fn advertise(mut self, address: IpAddr, port: u16) -> Self {
        self.advertise = Some((address, port));
        self
    }

    /// Loads the cache and creates what every cluster starts with.
    pub async fn start(self) -> ApiResult<ApiServer> {
        let (rbac, nodes) = (Arc::new(Rbac::default()), Arc::new(NodeAuthorizer::default()));
        let mut followers = self.followers;
        followers.push(rbac.clone());
        followers.push(nodes.clone());
        if let Some(tokens) = &self.tokens {
            followers.push(tokens.clone());
        }
        let mut chain: Vec<Arc<dyn Authorizer>> = vec![nodes, rbac.clone()];
        chain.extend(self.authorizers);
        let cache = Arc::new(Cache::new(self.env.clone(), self.store.clone(), &self.registry, &followers));
        let feed = cache.start().await?;
        let reads = Reads::new(self.env.clone(), cache.clone());
        let server = ApiServer(Arc::new(Shared {
            env: self.env,
            store: self.store,
            cache,
            registry: self.registry,
            reads,
            rbac,
            authorizer: Arc::new(Union(chain)),
            admission: self.admission,
            dialer: self.dialer,
            tokens: self.tokens,
            service_network: service_network::ServiceNetwork::new(self.service_cidr),
            _feed: feed,
        }));
        server.bootstrap(self.advertise).await?;
        Ok(server)
    }
}

fn check_scope(info: &ResourceInfo, target: &Target) -> ApiResult<()> {
    if !info.is_namespaced() && !target.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    if info.is_namespaced() && target.namespace.is_empty() && !target.name.is_empty() {
        return Err(ApiError::bad_request("an object in a namespace needs its namespace"));
    }
    Ok(())
}

impl Shared {
    pub(crate) fn issuer(&self) -> ApiResult<&Arc<ServiceAccountTokens>> {
        self.tokens.as_ref().ok_or_else(|| ApiError::not_implemented("this server issues no tokens"))
    }

    /// Who the request acts as; acting as another needs the right to impersonate each part of that identity.
    async fn impersonate(&self, caller: Caller, wanted: Option<Caller>) -> ApiResult<Caller> {
        let Some(mut wanted) = wanted else { return Ok(caller) };
        let part = |group: &str, plural: &str, namespace: &str, name: &str| {
            Target::one(k8s_core::request::ResourceType::new(group, "v1", plural), namespace, name)
        };
        let account = wanted.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let mut parts = vec![match account {
            Some((namespace, name)) => part("", "serviceaccounts", namespace, name),
            None => part("", "users", "", &wanted.name),
        }];
        let implied = |group: &str| group == "system:authenticated" || group == "system:unauthenticated";
        parts.extend(wanted.groups.iter().filter(|group| !implied(group)).map(|group| part("", "groups", "", group)));
        for (key, values) in &wanted.extra {
            let plural = "userextras";
            parts.extend(values.iter().map(|value| part("authentication.k8s.io", plural, "", value).subresource(key.clone())));
        }
        if !wanted.uid.is_empty() {
            parts.push(part("authentication.k8s.io", "uids", "", &wanted.uid));
        }
        for target in &parts {
            let attributes = Attributes {
                caller: &caller,
                verb: "impersonate",
                subject: crate::auth::Subject::Resource(target),
                fields: None,
            };
            self.require(&attributes).await?;
        }
        if let Some((namespace, _)) = account {
            let mut groups: Vec<_> = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}").into()];
            groups.retain(|group| !wanted.groups.contains(group));
            wanted.groups.extend(groups);
        }
        let everyone = if wanted.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
        if !wanted.is_in(everyone) {
            wanted.groups.push(everyone.into());
        }
        wanted.agent = caller.agent;
        Ok(wanted)
    }

    async fn authorize(&self, caller: &Caller, request: &ApiRequest) -> ApiResult<()> {
        let mut target = request.target.clone();
        // A list or watch of one name is authorized as that name.
        if target.name.is_empty()
            && let Some(name) = request.options.field_selector.pinned("metadata.name")
        {
            target.name = name.into();
        }
        let verb = match (request.verb, target.subresource.as_str()) {
            (Verb::Connect, "exec" | "attach" | "portforward") => "create",
            (Verb::Connect, _) => request.options.connect_as.as_str(),
            (verb, _) => verb.as_str(),
        };
        let attributes = Attributes { verb, ..Attributes::on(caller, request.verb, &target) };
        self.require(&attributes.with_fields(&request.options.field_selector)).await
    }

    /// Fails with 403 unless the authorizers allow it.
    pub(crate) async fn require(&self, attributes: &Attributes<'_>) -> ApiResult<()> {
        let reason = match self.authorizer.authorize(attributes).await {
            Decision::Allow => return Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
        };
        let Some(target) = attributes.target() else {
            return Err(ApiError::forbidden("", "", "", "forbidden"));
        };
        let (user, verb) = (&attributes.caller.name, attributes.verb);
        let mut resource = target.resource.plural.to_string();
        if !target.subresource.is_empty() {
            resource = format!("{resource}/{}", target.subresource);
        }
        let place = match target.namespace.is_empty() {
            true => "at the cluster scope".to_owned(),
            false => format!("in the namespace {:?}", target.namespace),
        };
        let group = &target.resource.group;
        let mut why = format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}");
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Err(ApiError::forbidden(&resource, group, &target.name, why))
    }

    async fn object(&self, caller: &Caller, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        if !info.supports(request.verb) {
            return Err(ApiError::method_not_allowed(request.verb.as_str()));
        }
        if !info.is_stored() {
            return match info.plural.as_str() {
                "bindings" => self.bind_by_name(caller, request).await,
                _ => self.review(caller, info, request).await,
            };
        }
        match request.verb {
            Verb::Get => self.get(info, &request).await,
            Verb::List => self.list(info, &request).await,
            Verb::Watch => self.watch(info, &request).await,
            Verb::Create => self.create(caller, info, request).await,
            Verb::Update => self.update(caller, info, request).await,
            Verb::Patch => self.patch(caller, info, request).await,
            Verb::Delete => self.delete(caller, info, &request).await,
            Verb::DeleteCollection => self.delete_collection(caller, info, &request).await,
            Verb::Connect => Err(ApiError::method_not_allowed("connect")),
        }
    }
}
