//! The node's own server: logs, exec, attach, port-forward, and what the node runs.
//!
//! One tower service over any byte stream. Behind TLS it answers only the API server, told by its client certificate;
//! in the same process it trusts its caller, who has authorized the request. Paths and query are the kubelet's.

mod caller;
mod dialer;
mod exec;
mod forward;
mod logs;
mod metrics;
mod place;
mod query;
mod stats;

pub use caller::{Callers, NodeQuestion, Reviewer};
pub use dialer::InProcessDialer;

use std::{
    convert::Infallible,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use k8s_core::{
    api::{List, api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ListMeta},
    env::Env,
    status::ApiError,
};
use k8s_wire::{
    body::{self, Body},
    health,
    serve::{CancellationToken, Peer, Protocol, Server},
};
use tokio::net::TcpListener;

use crate::agent::{Agent, Shared};
use query::Query;

/// The server of one agent. Cloning shares; it does not keep the agent alive.
#[derive(Clone)]
pub struct NodeServer {
    agent: Weak<Shared>,
    env: Env,
    callers: Arc<Callers>,
    node: Arc<str>,
    more_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl NodeServer {
    /// The server of `agent` for these callers.
    pub fn new(agent: &Agent, callers: Callers) -> Self {
        let shared = agent.shared();
        Self {
            agent: Arc::downgrade(shared),
            env: shared.env.clone(),
            callers: Arc::new(callers),
            node: shared.node_name.as_str().into(),
            more_metrics: None,
        }
    }

    /// What `/metrics` shows beside the node's own figures: samples in the Prometheus text format.
    pub fn metrics(mut self, more: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.more_metrics = Some(Arc::new(more));
        self
    }

    /// Serves TLS connections until `stop`. `tls` must ask for client certificates of the cluster's authority.
    pub async fn serve(self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
        let env = self.env.clone();
        Server::new(env, self).serve(listener, Some(tls), stop).await;
    }

    /// Serves one connection inside the process, HTTP/1.1, until it ends.
    pub async fn serve_stream<IO>(self, io: IO)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let env = self.env.clone();
        let server = Server::new(env, self);
        server.serve_stream(io, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if request.uri().path() == "/healthz" {
            return health::text(StatusCode::OK, "ok".to_owned());
        }
        if let Err(refused) = self.callers.check(&request, &self.node).await {
            return refusal(&refused);
        }
        let Some(shared) = self.agent.upgrade() else {
            return refusal(&ApiError::unavailable("the node agent has stopped"));
        };
        if request.method() == Method::GET && request.uri().path() == "/metrics" {
            let more = self.more_metrics.as_ref().map_or_else(String::new, |make| make());
            let samples = metrics::samples(&shared).await;
            return samples.map_or_else(|error| refusal(&error), |samples| health::metrics(samples + &more));
        }
        route(shared, request).await.unwrap_or_else(|error| refusal(&error))
    }
}

impl tower::Service<Request<Body>> for NodeServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}

async fn route(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, ApiError> {
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = *request.method() == Method::GET;
    let streams = get || *request.method() == Method::POST;
    match steps.as_slice() {
        ["containerLogs", namespace, pod, container] if get => {
            logs::answer(shared, request, (namespace, pod, container), &query).await
        }
        ["exec", namespace, pod, container] if streams => {
            exec::exec(shared, request, (namespace, pod, container), &query).await
        }
        ["attach", namespace, pod, container] if streams => {
            exec::attach(shared, request, (namespace, pod, container), &query).await
        }
        ["portForward", namespace, pod] if streams => forward::answer(shared, request, (namespace, pod), &query).await,
        ["pods"] if get => Ok(json(&pods(&shared))),
        ["stats", "summary"] if get => Ok(json(&stats::summary(&shared).await?)),
        _ => Err(ApiError::no_such_path()),
    }
}

/// The pods that are bound to this node.
fn pods(shared: &Shared) -> List<Pod> {
    let items = shared.pods.on_node(&shared.node_name).iter().map(|pod| (**pod).clone()).collect();
    List { items, metadata: ListMeta::default() }
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    // Invariant: what is sent here has string keys only, so it always serializes.
    let mut response = Response::new(body::full(serde_json::to_vec(value).unwrap_or_default()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A plain text answer, as the kubelet gives it: the API server passes the text on.
fn refusal(error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    health::text(code, error.to_string())
}
