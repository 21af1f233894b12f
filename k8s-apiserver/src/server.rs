//! The inner API server: one request at a time through authorization and into the registry.

mod aggregation;
mod authorize;
mod bootstrap;
mod builder;
mod compaction;

#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_core::{
    env::{Env, Task},
    registry::{Kinds, Registry, ResourceInfo},
    request::{ApiRequest, ApiResponse, Caller, RequestBody, ResponseBody, Target, Verb},
    seam::{
        node::{NodeDialer, PodDialer},
        transport::Transport,
    },
    status::{ApiError, ApiResult},
};
use k8s_store::Store;
use parking_lot::Mutex;

pub use self::{aggregation::Aggregation, builder::ApiServerBuilder};
use crate::{
    admission::{Chain, Cluster, Trail},
    aggregator::Aggregator,
    audit::{Arrival, Asked, AskedFor, Audit, Ongoing},
    auth::{Authorizer, act_as, bearer::BearerTokens, rbac::Rbac, token::ServiceAccountTokens},
    cache::Cache,
    fairness::Fairness,
    outer::Door,
    registry::{Operation, Part, Ranges, review},
    storage::Encrypted,
    webhook::Webhooks,
};

/// As whom the server itself asks.
pub(crate) const OWN_NAME: &str = "system:apiserver";

/// The API server, for callers that are known already. Cloning shares.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
    tasks: Arc<Mutex<Vec<Task>>>,
}

/// What every request needs.
pub struct Inner {
    /// Time, randomness and tasks.
    pub env: Env,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The same, where values are encrypted.
    pub encrypted: Option<Arc<Encrypted>>,
    /// What is kept, at hand.
    pub cache: Arc<Cache>,
    /// The kinds of this moment.
    pub kinds: Arc<Kinds>,
    /// Decides who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Decides what may be written.
    pub admission: Chain,
    /// What admission reads.
    pub cluster: Cluster,
    /// Reaches nodes; `None` where there are none.
    pub dialer: Option<Arc<dyn NodeDialer>>,
    /// How pods are reached.
    pub pod_dialer: Option<Arc<dyn PodDialer>>,
    /// How webhooks are called.
    pub webhooks: Arc<Webhooks>,
    /// Notes who asks for what.
    pub audit: Option<Arc<Audit>>,
    /// Lets requests in in turn.
    pub fairness: Option<Arc<Fairness>>,
    /// Issues service account tokens; `None` where there are none.
    pub tokens: Option<Arc<ServiceAccountTokens>>,
    /// Reviews tokens of every sort.
    pub bearer_tokens: Arc<BearerTokens>,
    /// What other servers answer for.
    pub aggregator: Arc<Aggregator>,
    /// The rules, for reviews and against escalation.
    pub rbac: Arc<Rbac>,
    /// From where Services get addresses and ports.
    pub ranges: Ranges,
    /// What nobody in the cluster acts on.
    pub inert: BTreeSet<String>,
}

impl ApiServer {
    /// A server over a store, to be given its parts. `store` and `env` must not be shared with another server unless
    /// the store is made for several.
    pub fn builder(store: Arc<dyn Store>, env: Env) -> ApiServerBuilder {
        ApiServerBuilder::new(store, env)
    }

    /// Answers a request of `caller`. With [`ApiRequest::caller`] set, `caller` asks to act as that one.
    ///
    /// Dropping the future of a write leaves open whether it happened.
    pub async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.inner.handle(caller, request).await
    }

    /// The door for a component in the same process, under an identity of its own.
    pub fn transport(&self, caller: Caller) -> Arc<dyn Transport> {
        Arc::new(Local { server: self.clone(), caller })
    }

    /// The watch cache: for health, metrics and other readers that may see everything.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.inner.cache
    }

    /// The revision that the cache shows.
    pub fn revision(&self) -> u64 {
        self.inner.cache.revision()
    }

    /// The kinds that it knows, custom ones as they come and go.
    pub fn kinds(&self) -> &Arc<Kinds> {
        &self.inner.kinds
    }

    /// The kinds that it knows now.
    pub fn registry(&self) -> Arc<Registry> {
        self.inner.kinds.now()
    }

    /// The audit log, if there is one.
    pub fn audit(&self) -> Option<&Arc<Audit>> {
        self.inner.audit.as_ref()
    }

    /// What lets requests in in turn, if anything is limited.
    pub fn fairness(&self) -> Option<&Arc<Fairness>> {
        self.inner.fairness.as_ref()
    }

    /// How webhooks are called, for parts around the server that call their own.
    pub fn webhooks(&self) -> &Arc<Webhooks> {
        &self.inner.webhooks
    }

    /// What other servers answer for, for the outer service.
    pub fn aggregation(&self) -> Aggregation {
        Aggregation(self.inner.clone())
    }

    /// The authorizer, for the outer service's paths that are no resource.
    pub fn authorizer(&self) -> &Arc<dyn Authorizer> {
        &self.inner.authorizer
    }

    /// Ends every watch, now. What else is asked is answered as before; [`Self::shutdown`] ends the server's tasks, too.
    pub fn close(&self) {
        self.inner.cache.close();
    }

    /// Ends every watch and every task, and returns when they have ended. Requests after that still read and write
    /// the store, but the cache no longer follows it.
    pub async fn shutdown(&self) {
        self.inner.cache.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.stop().await;
        }
        if let Some(audit) = &self.inner.audit {
            audit.flush().await;
        }
    }
}

#[async_trait]
impl Door for ApiServer {
    fn samples(&self) -> String {
        self.inner.admission.samples()
    }

    fn audit(&self) -> Option<Arc<Audit>> {
        self.inner.audit.clone()
    }

    fn fairness(&self) -> Option<Arc<Fairness>> {
        self.inner.fairness.clone()
    }

    fn objects(&self, request: &ApiRequest) -> u64 {
        let Some(kind) = self.inner.cache.kind(&request.target.resource) else { return 0 };
        let count = kind.state().count(&request.target.namespace);
        request.options.limit.filter(|limit| *limit > 0).map_or(count, |limit| count.min(limit))
    }

    async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.inner.handle(caller, request).await
    }
}

struct Local {
    server: ApiServer,
    caller: Caller,
}

#[async_trait]
impl Transport for Local {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.server.inner.handle(self.caller.clone(), request).await
    }
}

impl Inner {
    /// Asks as the server itself, past authorization.
    pub(crate) fn ask_own(&self, verb: Verb, target: Target, body: RequestBody) -> BoxFuture<'_, ApiResult<()>> {
        Box::pin(async move {
            let caller = Caller::new(OWN_NAME, &["system:masters"]).with_agent("kube-apiserver");
            let request = ApiRequest { verb, target, body, ..ApiRequest::default() };
            self.ask_as(&caller, request).await.map(drop)
        })
    }

    /// The warning for a write of what nobody acts on.
    fn inert_warning(&self, request: &ApiRequest) -> Option<String> {
        let target = &request.target;
        let (name, verb) = match target.subresource.as_str() {
            "" => (target.resource.to_string(), Verb::Create),
            below => (format!("{}/{below}", target.resource), request.verb),
        };
        let writes = matches!(request.verb, Verb::Create | Verb::Update | Verb::Patch) && request.verb == verb;
        let is_inert = writes && self.inert.contains(&name);
        is_inert.then(|| format!("{name} are stored, but no controller of this cluster acts on them yet"))
    }

    async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        let Some(ongoing) = self.noted(&caller, &request) else {
            return self.handle_noting(caller, request, &Trail::default()).await;
        };
        if let Some(other) = &request.caller {
            ongoing.acts_as(other);
        }
        ongoing.sent(&request.body);
        let streams = matches!(request.verb, Verb::Watch | Verb::Connect);
        let response = self.handle_noting(caller, request, &ongoing.trail).await;
        ongoing.answered(&response);
        if streams && let Ok(response) = &response {
            ongoing.streams(response.code);
        }
        response
    }

    /// What the audit log keeps of a request: begun by the outer service, or here, where it came from this process.
    fn noted(&self, caller: &Caller, request: &ApiRequest) -> Option<Arc<Ongoing>> {
        let audit = self.audit.as_ref()?;
        request.attachment.get().or_else(|| {
            let asked = Asked { verb: audit_verb(request), subject: AskedFor::Resource(&request.target) };
            let uri = || k8s_core::path::encode(request).path_and_query();
            audit.begin(caller, &asked, || Arrival { uri: uri(), ..Arrival::default() })
        })
    }

    async fn handle_noting(&self, caller: Caller, mut request: ApiRequest, trail: &Trail) -> ApiResult<ApiResponse> {
        let caller = match request.caller.take() {
            Some(other) => act_as(&*self.authorizer, &caller, other).await?,
            None => caller,
        };
        let info = self.kinds.now().served(&request.target.resource)?.clone();
        check_place(&info, &request)?;
        let authorized = authorize::authorize(&*self.authorizer, &caller, &request).await;
        let (decision, reason) = match &authorized {
            Ok(()) => ("allow", ""),
            Err(error) => ("forbid", error.status().message.as_str()),
        };
        trail.annotate("authorization.k8s.io/decision", decision);
        trail.annotate("authorization.k8s.io/reason", reason);
        authorized?;
        check_verb(&info, &request)?;
        self.answer(&caller, &info, request, trail).await
    }

    /// Answers a request of the server's own. Authorization is passed by.
    pub(crate) async fn ask_as(&self, caller: &Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        let info = self.kinds.now().served(&request.target.resource)?.clone();
        self.answer(caller, &info, request, &Trail::default()).await
    }

    /// Answers a request that was authorized.
    pub(crate) async fn answer(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        mut request: ApiRequest,
        trail: &Trail,
    ) -> ApiResult<ApiResponse> {
        let body = std::mem::take(&mut request.body);
        let Some(kind) = self.cache.kind(&info.resource()) else {
            // Custom kinds leave the cache when their definition goes.
            let is_gone = info.is_stored();
            return if is_gone {
                Err(ApiError::no_such_path())
            } else {
                review(self, caller, info, &request, body).await
            };
        };
        let deprecation = info.custom.iter().filter_map(|custom| custom.deprecation.clone());
        let (warnings, behind) = (deprecation.chain(self.inert_warning(&request)).collect(), false);
        let kind = &kind;
        let mut operation = Operation { server: self, caller, request: &request, info, kind, warnings, trail, behind };
        let mut response = operation.run(body).await?;
        let newer = self.cache.kind(&info.resource()).filter(|_| kind.is_closed());
        if let (Verb::Get | Verb::List, Some(kind)) = (request.verb, &newer) {
            // The definition changed while this was read, and the former form may have missed something.
            response = Operation { kind, warnings: Vec::new(), ..operation }.run(RequestBody::None).await?;
        }
        response.warnings.append(&mut operation.warnings);
        if let Some(view) = operation.view() {
            response.body = view.show_answer(response.body)?;
        }
        Ok(response)
    }
}

impl Operation<'_> {
    async fn run(&mut self, body: RequestBody) -> ApiResult<ApiResponse> {
        if !self.target().subresource.is_empty() {
            return self.run_below(body).await;
        }
        match (self.request.verb, body) {
            (Verb::Get, _) => self.get_whole().await,
            (Verb::List, _) => self.list().await,
            (Verb::Watch, _) => self.watch().await,
            (Verb::Create, RequestBody::Doc(doc)) => self.create(doc).await,
            (Verb::Update, RequestBody::Doc(doc)) => self.update(doc, Part::Main).await,
            (Verb::Patch, RequestBody::Patch(kind, patch)) => self.patch(kind, patch, Part::Main).await,
            (Verb::Delete, _) => self.delete().await,
            (Verb::DeleteCollection, _) => self.delete_collection().await,
            (verb, _) => Err(unsuited(verb)),
        }
    }

    async fn run_below(&mut self, body: RequestBody) -> ApiResult<ApiResponse> {
        let part = self.part();
        let subresource = self.target().subresource.clone();
        match (self.request.verb, part, body) {
            (Verb::Get, Some(_), _) => self.get_whole().await,
            (Verb::Update, Some(part), RequestBody::Doc(doc)) => self.update(doc, part).await,
            (Verb::Patch, Some(part), RequestBody::Patch(kind, patch)) => self.patch(kind, patch, part).await,
            (Verb::Connect, None, _) => self.connect().await,
            (verb, None, body) => match (subresource.as_str(), verb, body) {
                ("log", Verb::Get, _) => self.connect().await,
                ("scale", Verb::Get, _) => self.get_scale().await,
                ("scale", Verb::Update, RequestBody::Doc(doc)) => self.update_scale(doc).await,
                ("scale", Verb::Patch, RequestBody::Patch(kind, patch)) => self.patch_scale(kind, patch).await,
                ("binding", Verb::Create, RequestBody::Doc(doc)) => self.bind(doc).await,
                ("eviction", Verb::Create, RequestBody::Doc(doc)) => self.evict(doc).await,
                ("finalize", Verb::Update, RequestBody::Doc(doc)) => self.finalize(doc).await,
                ("token", Verb::Create, RequestBody::Doc(doc)) => self.issue_token(doc).await,
                (_, verb, _) => Err(unsuited(verb)),
            },
            (verb, ..) => Err(unsuited(verb)),
        }
    }

    async fn list(&mut self) -> ApiResult<ApiResponse> {
        let filter = self.filter()?;
        let list = self.listed(&filter, self.options()).await?;
        Ok(ApiResponse::ok(ResponseBody::List(list)))
    }

    async fn watch(&mut self) -> ApiResult<ApiResponse> {
        let filter = self.filter()?;
        Ok(ApiResponse::ok(ResponseBody::Watch(self.watched(filter).await?)))
    }
}

/// The verb as audit policies name it: a connection is what it is authorized as.
pub(crate) fn audit_verb(request: &ApiRequest) -> &'static str {
    let verb = if request.verb == Verb::Connect { request.options.connect_as } else { request.verb };
    verb.as_str()
}

/// A request whose body does not fit its verb.
fn unsuited(verb: Verb) -> ApiError {
    ApiError::bad_request(format!("the body does not fit the verb {}", verb.as_str()))
}

/// 404 for a cluster-scoped kind by a path with a namespace, and for one object of a namespaced kind without.
fn check_place(info: &ResourceInfo, request: &ApiRequest) -> ApiResult<()> {
    let target = &request.target;
    let misplaced = match info.is_namespaced() {
        false => !target.namespace.is_empty(),
        true => target.namespace.is_empty() && (!target.name.is_empty() || request.verb == Verb::Create),
    };
    if misplaced {
        return Err(ApiError::no_such_path());
    }
    let names = [&target.namespace, &target.name];
    if names.iter().any(|name| matches!(name.as_str(), "." | "..") || name.contains(['/', '%', '\0'])) {
        return Err(ApiError::bad_request("a name in the path may not be '.' or '..' or contain '/', '%' or NUL"));
    }
    Ok(())
}

/// 404 for a subresource that the kind does not have; 405 for a verb that works on none of it.
fn check_verb(info: &ResourceInfo, request: &ApiRequest) -> ApiResult<()> {
    let verb = request.verb;
    if request.target.subresource.is_empty() {
        return if info.supports(verb) { Ok(()) } else { Err(ApiError::method_not_allowed(verb.as_str())) };
    }
    let sub = info.subresource(&request.target.subresource).ok_or_else(ApiError::no_such_path)?;
    let is_log = sub.name == "log" && verb == Verb::Connect;
    if sub.verbs.contains(&verb) || is_log { Ok(()) } else { Err(ApiError::method_not_allowed(verb.as_str())) }
}
