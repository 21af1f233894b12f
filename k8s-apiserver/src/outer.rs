//! The outer service: HTTP in, HTTP out.
//!
//! In this order: a guard against panics, limits on the head, who asks, what is asked (one parser for every path),
//! the body, the question to the inner service, and the answer in the form that was negotiated. What a caller may do
//! is decided behind the inner service's door; only paths that are no resource are authorized here. Every failure is
//! a `Status`, in JSON unless the client likes protobuf best.

mod audited;
pub(crate) mod cbor;
mod compress;
mod connect;
pub(crate) mod credentials;
mod decode;
mod encode;
mod frames;
mod insider;
mod metrics;
mod negotiate;
mod passing;
mod paths;
pub mod protobuf;
mod table;
mod warnings;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts as Head};
use k8s_core::{
    env::{self, BoxFuture, Env},
    path::{FENCE_HEADER, Method, RequestInfo, ResourceRequest},
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Attachment, Caller, ResponseBody, Verb},
    schema::Schemas,
    status::{ApiError, ApiResult},
};
use k8s_wire::{
    body::{self, Body},
    env::panic_text,
    serve::{CancellationToken, Peer},
};

pub(crate) use self::{compress::takes_gzip, paths::tagged};
pub use self::{
    decode::MAX_BODY_BYTES,
    insider::Insider,
    negotiate::{Accepted, Conversion, Encoding, Form, Offer, Shape},
    paths::{Answers, Version},
};
use self::{
    encode::{Messages, View},
    frames::Frames,
    insider::Known,
    metrics::{InFlight, Requests, Series},
    paths::Paths,
    protobuf::Message,
};
use crate::{
    audit::Audit,
    auth::{self, Anonymous, Attributes, Authenticator, Authorizer, front_proxy::FrontProxy},
    discovery::Catalog,
    fairness::{Fairness, Seat},
    server::{Aggregation, ApiServer},
};

/// How long a request that is no watch and no connection may take, unless it says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest path and query.
const MAX_URI_BYTES: usize = 32 * 1024;
/// The most headers, and the most bytes in them.
const MAX_HEADERS: usize = 512;
const MAX_HEADER_BYTES: usize = 128 * 1024;

/// The service behind: takes requests of callers that are known, and decides what they may.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Answers one request. With [`ApiRequest::caller`] set, `caller` asks to act as that one.
    async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse>;

    /// What it counts, for `/metrics`: samples in the Prometheus text format.
    fn samples(&self) -> String {
        String::new()
    }

    /// Where requests are noted, if anywhere. A request that is carries its [`crate::audit::Ongoing`] as attachment.
    fn audit(&self) -> Option<Arc<Audit>> {
        None
    }

    /// What lets requests in in turn, if anything is limited.
    fn fairness(&self) -> Option<Arc<Fairness>> {
        None
    }

    /// About how many objects a list reads: how much room it takes.
    fn objects(&self, request: &ApiRequest) -> u64 {
        let _ = request;
        0
    }
}

/// What an [`Outer`] is made of.
pub struct Parts {
    /// Time and tasks.
    pub env: Env,
    /// The service behind.
    pub inner: Arc<dyn Door>,
    /// The kinds that are served.
    pub catalog: Arc<dyn Catalog>,
    /// Tells who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Believes other servers about who asks; `None` where there are no such servers.
    pub front_proxy: Option<Arc<FrontProxy>>,
    /// Whether somebody who shows nothing may ask.
    pub anonymous: Anonymous,
    /// What other servers answer for; `None` where they answer for nothing.
    pub aggregation: Option<Aggregation>,
    /// Decides who may read paths that are no resource.
    pub authorizer: Arc<dyn Authorizer>,
    /// What `/healthz`, `/metrics`, `/version` and the token issuer's documents say.
    pub answers: Answers,
    /// How long a request that is no watch and no connection may take; usually [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
}

impl Parts {
    /// Those of a server of this process that asks `authenticator` who asks, with nothing before it or behind it and
    /// everything else by default. Set what is to be otherwise: `Parts { answers, ..Parts::of(..) }`.
    pub fn of(server: &ApiServer, env: Env, authenticator: Arc<dyn Authenticator>) -> Self {
        let (inner, authorizer) = (Arc::new(server.clone()), server.authorizer().clone());
        Self::new(env, inner, server.kinds().clone(), authenticator, authorizer)
    }

    /// The same of any inner service.
    pub fn new(
        env: Env,
        inner: Arc<dyn Door>,
        catalog: Arc<dyn Catalog>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        Self {
            env,
            inner,
            catalog,
            authenticator,
            front_proxy: None,
            anonymous: Anonymous::default(),
            aggregation: None,
            authorizer,
            answers: Answers::default(),
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// The outer service. A `tower::Service` over HTTP requests; cloning shares.
///
/// Served over a socket by `k8s_wire::serve::Server`, which puts the peer's certificate among the extensions; any
/// tower client can call it directly, with a token, or without one by [`Outer::as_caller`].
#[derive(Clone)]
pub struct Outer(Arc<Shared>);

struct Shared {
    env: Env,
    inner: Arc<dyn Door>,
    catalog: Arc<dyn Catalog>,
    authenticator: Arc<dyn Authenticator>,
    front_proxy: Option<Arc<FrontProxy>>,
    anonymous: Anonymous,
    aggregation: Option<Aggregation>,
    authorizer: Arc<dyn Authorizer>,
    schemas: Schemas,
    /// How the metadata of any kind is written.
    metadata: Message,
    requests: Arc<Requests>,
    frames: Arc<Frames>,
    paths: Paths,
    request_timeout: Duration,
    audit: Option<Arc<Audit>>,
    fairness: Option<Arc<Fairness>>,
}

impl Outer {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts { env, inner, catalog, authenticator, authorizer, mut answers, request_timeout, .. } = parts;
        let (door, more) = (inner.clone(), answers.metrics.take());
        answers.metrics =
            Some(Box::new(move || door.samples() + &more.as_ref().map_or_else(String::new, |make| make())));
        let requests = Arc::new(Requests::default());
        let schemas = Schemas::builtin();
        let paths = Paths::new(catalog.clone(), parts.aggregation.clone(), answers, requests.clone(), schemas.clone());
        let (metadata, frames) = (Message::metadata(&schemas), Arc::default());
        Self(Arc::new(Shared {
            audit: inner.audit(),
            fairness: inner.fairness(),
            env,
            inner,
            catalog,
            authenticator,
            front_proxy: parts.front_proxy,
            anonymous: parts.anonymous,
            aggregation: parts.aggregation,
            authorizer,
            schemas,
            metadata,
            requests,
            frames,
            paths,
            request_timeout,
        }))
    }
}

impl tower::Service<Request<Body>> for Outer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(shared.guarded(request).await) })
    }
}

impl Shared {
    /// A panic costs its request an answer of 500, and nobody else anything.
    async fn guarded(&self, mut request: Request<Body>) -> Response<Body> {
        let audit_id = self.audit.as_ref().map(|_| audited::take_id(&self.env, &mut request));
        let head_only = request.method() == http::Method::HEAD;
        let uri = request.uri().path().to_owned();
        let failures_as = Accepted::read(request.headers()).failure_encoding();
        let answer = match AssertUnwindSafe(self.answer(request)).catch_unwind().await {
            Ok(answer) => answer,
            Err(payload) => {
                self.requests.panicked();
                tracing::error!(path = uri, panic = panic_text(payload.as_ref()), "request panicked");
                Err(ApiError::internal("the request could not be handled; the server's log has the details"))
            }
        };
        let mut response = answer.unwrap_or_else(|error| encode::failure(&error, failures_as, &self.schemas));
        audited::show_id(&mut response, audit_id);
        if head_only {
            *response.body_mut() = body::empty();
        }
        response
    }

    async fn answer(&self, request: Request<Body>) -> ApiResult<Response<Body>> {
        let (mut head, body) = request.into_parts();
        check_limits(&head)?;
        let peer = head.extensions.get::<Arc<Peer>>().cloned();
        let caller = self.caller(&mut head, peer.as_deref()).await;
        let caller = caller.inspect_err(|error| self.note_stranger(&head, error))?;
        let acting_as = credentials::impersonated(&mut head.headers)?;
        let method = Method::parse(head.method.as_str())?;
        let answering = |aggregation: &Aggregation| {
            let entry = aggregation.answering(head.uri.path())?;
            Some((aggregation.clone(), entry))
        };
        if let Some((aggregation, entry)) = self.aggregation.as_ref().and_then(answering) {
            return self.pass_on(&aggregation, &entry, method, head, body, caller, acting_as).await;
        }
        match RequestInfo::parse(method, head.uri.path(), head.uri.query().unwrap_or(""))? {
            RequestInfo::Path(path) => {
                let ongoing = self.note_path(&path, &head, &caller, acting_as.as_ref());
                let answered = self.path(&path, &head, caller, acting_as).await;
                audited::end(ongoing, &answered);
                answered
            }
            RequestInfo::Resource(asked) => self.resource(*asked, head, body, caller, acting_as).await,
        }
    }

    /// Who asks. A token is looked at with every request, a connection's certificate once. A front proxy speaks for
    /// somebody else with every request.
    async fn caller(&self, head: &mut Head, peer: Option<&Peer>) -> ApiResult<Caller> {
        if let Some(known) = head.extensions.remove::<Known>() {
            return Ok(known.caller(&mut head.headers));
        }
        if let (Some(front_proxy), Some(peer)) = (&self.front_proxy, peer)
            && let Some(caller) = front_proxy.caller(&mut head.headers, peer)
        {
            head.headers.remove(header::AUTHORIZATION);
            return Ok(credentials::with_agent(caller, &head.headers));
        }
        let by_certificate = !head.headers.contains_key(header::AUTHORIZATION);
        let peer_alone = peer.filter(|peer| by_certificate && !peer.certificates.is_empty());
        if let Some(known) = peer_alone.and_then(|peer| peer.caller.get()) {
            return Ok(credentials::with_agent(known.clone(), &head.headers));
        }
        let credentials = credentials::credentials(&mut head.headers, peer);
        let found = self.authenticator.authenticate(&credentials).await?;
        if let (Some(peer), Some(found)) = (peer_alone, &found) {
            // Another request of the connection may have been faster; both found the same.
            drop(peer.caller.set(found.clone()));
        }
        credentials::caller(found, &credentials, &self.anonymous, head.uri.path(), &head.headers)
    }

    async fn path(
        &self,
        path: &str,
        head: &Head,
        caller: Caller,
        acting_as: Option<Caller>,
    ) -> ApiResult<Response<Body>> {
        let caller = match acting_as {
            None => caller,
            Some(other) => auth::act_as(&*self.authorizer, &caller, other).await?,
        };
        let verb = head.method.as_str().to_ascii_lowercase();
        let seat = self.path_seat(&caller, &verb, path).await?;
        auth::check(&*self.authorizer, &Attributes::on_path(&caller, &verb, path)).await?;
        let mut response = self.paths.answer(path, head)?;
        show_seat(&mut response, seat.as_ref());
        Ok(response)
    }

    async fn resource(
        &self,
        asked: ResourceRequest,
        head: Head,
        body: Body,
        caller: Caller,
        acting_as: Option<Caller>,
    ) -> ApiResult<Response<Body>> {
        let ResourceRequest { verb, target, options } = asked;
        let stop = head.extensions.get::<CancellationToken>().cloned().unwrap_or_default();
        let began = self.env.monotonic();
        let series = Series::new(verb, &target, &options, &head.headers);
        let mut kept = self.requests.begin(verb, &series, stop);
        let mut request = ApiRequest { verb, target, options, caller: acting_as, ..ApiRequest::default() };
        let ongoing = self.note_resource(&request, &head, &caller);
        if let Some(ongoing) = &ongoing {
            request.attachment = Attachment::new(ongoing.clone());
            kept.noted = Some(ongoing.clone());
        }
        let answered = self.answer_resource(request, head, body, caller, kept).await;
        audited::end(ongoing, &answered);
        let code = answered.as_ref().map_or_else(ApiError::code, |response| response.status().as_u16());
        self.requests.answered(verb, &series, code, self.env.monotonic().saturating_sub(began));
        answered.map(|response| self.requests.measured(verb, &series, response))
    }

    async fn answer_resource(
        &self,
        mut request: ApiRequest,
        head: Head,
        body: Body,
        caller: Caller,
        kept: InFlight,
    ) -> ApiResult<Response<Body>> {
        self.turn_strangers_away(&caller, &request).await?;
        // Until the answer is made; of a watch, until it has begun.
        let seat = self.seat(&caller, &request).await?;
        request.fence = head.headers.get(FENCE_HEADER).map(fence).transpose()?;
        if request.verb == Verb::Connect {
            return self.connect(request, head, body, caller, kept).await;
        }
        let (view, verb) = (self.view(&request, &head)?, request.verb);
        decode::read_into(&mut request, &head.headers, body, &self.env, &self.schemas).await?;
        match self.ask(caller, request).await {
            Ok(response) => {
                let mut response = encoded(view, response, kept, self.frames.clone())?;
                show_seat(&mut response, seat.as_ref());
                Ok(response)
            }
            Err(error) if verb == Verb::Watch && error.is_expired() => Ok(watch::failed(&view, &error)),
            Err(error) => Err(error),
        }
    }

    /// Waits for a request's turn. Whoever acts as somebody else waits as themselves: whether they may is not known yet.
    async fn seat(&self, caller: &Caller, request: &ApiRequest) -> ApiResult<Option<Seat>> {
        let Some(fairness) = &self.fairness else { return Ok(None) };
        let objects = if request.verb == Verb::List { self.inner.objects(request) } else { 0 };
        fairness.enter(caller, request, objects).await
    }

    /// The same for a path that is no resource.
    async fn path_seat(&self, caller: &Caller, verb: &str, path: &str) -> ApiResult<Option<Seat>> {
        match &self.fairness {
            Some(fairness) => fairness.enter_path(caller, verb, path).await,
            None => Ok(None),
        }
    }

    /// Nobody in particular gets no answer but to what everyone may ask: not whether a resource exists, nor whether
    /// a body can be read. Known callers are authorized behind the inner service's door alone.
    async fn turn_strangers_away(&self, caller: &Caller, request: &ApiRequest) -> ApiResult<()> {
        if !caller.is_in("system:unauthenticated") {
            return Ok(());
        }
        let verb = if request.verb == Verb::Connect { request.options.connect_as } else { request.verb };
        auth::check(&*self.authorizer, &Attributes::on(caller, verb, &request.target)).await
    }

    /// Asks the inner service, within the time that the request has.
    async fn ask(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        let limit = match request.verb {
            // A watch's timeout is how long it may go on; only its beginning is limited here.
            Verb::Watch => self.request_timeout,
            _ => request.options.timeout.unwrap_or(self.request_timeout).min(self.request_timeout),
        };
        let asking = env::timeout(&*self.env, limit, self.inner.handle(caller, request));
        asking.await.unwrap_or_else(|| {
            let message = "request did not complete within the allotted timeout";
            Err(ApiError::timeout(message).retry_after(Duration::from_secs(1)))
        })
    }

    async fn connect(
        &self,
        request: ApiRequest,
        head: Head,
        body: Body,
        caller: Caller,
        kept: InFlight,
    ) -> ApiResult<Response<Body>> {
        if let Some(redirect) = connect::missing_slash(&head, &request.options.connect_path, &request.target) {
            return Ok(redirect);
        }
        let target = request.target.clone();
        let answered = self.ask(caller, request).await?;
        match answered.body {
            ResponseBody::Connection(connection) => {
                connect::forward(&self.env, &target, head, body, connection, kept).await
            }
            other => Err(ApiError::internal(format!("the server answered {other:?} where a connection was asked for"))),
        }
    }

    /// How the answer to `request` will be shown; 404 where nothing of that name is served at that place, 405 for a
    /// change of all namespaces at once.
    fn view(&self, request: &ApiRequest, head: &Head) -> ApiResult<View> {
        let target = &request.target;
        let registry = self.catalog.registry();
        let info = registry.served(&target.resource)?;
        let misplaced = if info.is_namespaced() {
            target.namespace.is_empty() && !target.name.is_empty()
        } else {
            !target.namespace.is_empty()
        };
        if misplaced || !target.subresource.is_empty() && info.subresource(&target.subresource).is_none() {
            return Err(ApiError::no_such_path());
        }
        let everywhere = info.is_namespaced() && target.namespace.is_empty();
        if everywhere && matches!(request.verb, Verb::Create | Verb::DeleteCollection) {
            return Err(ApiError::method_not_allowed(request.verb.as_str()));
        }
        let offer = if info.schema.is_some() { Offer::Custom } else { Offer::BuiltIn };
        let form = Accepted::read(&head.headers).resource_form(offer)?;
        let query = head.uri.query().unwrap_or("");
        let rows = match form.shape {
            Shape::Table => Some(Arc::new(table::Rows::new(query, &self.env, info)?)),
            Shape::Whole | Shape::Metadata => None,
        };
        let (pretty, gzip) = (is_for_people(query, &head.headers), takes_gzip(&head.headers));
        let (messages, list_kind) = (self.messages(form, info)?, info.list_kind().into());
        let (kind, api_version) = (info.kind.clone(), info.api_version().into());
        Ok(View { form, pretty, gzip, kind, list_kind, api_version, rows, messages })
    }

    /// What messages are made with, if the form is protobuf.
    fn messages(&self, form: Form, info: &ResourceInfo) -> ApiResult<Option<Arc<Messages>>> {
        let object = match (form.encoding, form.shape) {
            (Encoding::Protobuf, Shape::Metadata) => self.metadata.clone(),
            (Encoding::Protobuf, _) => Message::builtin(&self.schemas, &info.api_version(), &info.kind)
                .ok_or_else(|| ApiError::not_acceptable(Encoding::Json.media_type()))?,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Messages { object, schemas: self.schemas.clone() })))
    }
}

fn encoded(view: View, answered: ApiResponse, kept: InFlight, frames: Arc<Frames>) -> ApiResult<Response<Body>> {
    let ApiResponse { code, warnings, body } = answered;
    let mut response = match body {
        ResponseBody::Object(object) => view.object(code, &object)?,
        ResponseBody::Doc(doc) => view.document(code, &doc)?,
        ResponseBody::List(list) => view.list(code, list)?,
        ResponseBody::Watch(events) => watch::stream(view, events, kept, frames)?,
        ResponseBody::Status(status) => view.status(code, &status)?,
        ResponseBody::Connection(_) => {
            return Err(ApiError::internal("the server answered a connection where none was asked for"));
        }
    };
    warnings::add(&mut response, &warnings);
    Ok(response)
}

/// Whether JSON is indented: as `pretty` says, else for programs behind which somebody sits and reads.
fn is_for_people(query: &str, headers: &HeaderMap) -> bool {
    let said = query.split('&').find_map(|pair| pair.strip_prefix("pretty=")).filter(|said| !said.is_empty());
    match said {
        Some(said) => matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let agent = headers.get(header::USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
            [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|program| agent.starts_with(program))
        }
    }
}

/// Tells the client in which priority level it was answered.
fn show_seat(response: &mut Response<Body>, seat: Option<&Seat>) {
    let Some(seat) = seat else { return };
    for (name, uid) in
        [("x-kubernetes-pf-flowschema-uid", &seat.schema_uid), ("x-kubernetes-pf-prioritylevel-uid", &seat.level_uid)]
    {
        if let Ok(value) = HeaderValue::from_str(uid) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn check_limits(head: &Head) -> ApiResult<()> {
    let uri = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > MAX_URI_BYTES {
        let message = format!("the request URI is longer than {MAX_URI_BYTES} bytes");
        return Err(ApiError::new(414, k8s_core::status::Reason::BadRequest, message));
    }
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let message = format!("the request has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them");
        return Err(ApiError::new(431, k8s_core::status::Reason::BadRequest, message));
    }
    Ok(())
}

fn fence(value: &HeaderValue) -> ApiResult<k8s_core::request::Fence> {
    value.to_str().map_err(|_| ApiError::bad_request(format!("header {FENCE_HEADER}: not ASCII")))?.parse()
}
