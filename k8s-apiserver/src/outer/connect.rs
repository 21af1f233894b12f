//! Connections that lead through the API server to a node, pod or service: exec, attach, port-forward, logs, proxy.
//!
//! The inner service has authorized the request and opened a connection of its own for it. Here the request is
//! repeated on that connection without the client's credentials, and the answer is handed back: an upgrade as bytes
//! both ways, anything else as a response. The connection is never used for a second request.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_core::{
    env::{self, Env},
    request::{Caller, Connection, Target},
    seam::node::ByteStream,
    status::{ApiError, ApiResult, Reason},
};
use k8s_wire::{
    body::{self, Body},
    http1::{self, Answer, is_hop_by_hop},
    websocket::is_upgrade,
};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::metrics::InFlight;
use crate::aggregator::{self, Passing};

/// How long a node may take to begin its answer.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The most that is read of a node's reason for an error.
const MAX_TOLD: usize = 64 * 1024;

/// Repeats a request on the connection that the inner service opened for it. `kept` lives as long as an upgrade.
pub async fn forward(
    env: &Env,
    target: &Target,
    mut head: Parts,
    body: Body,
    connection: Connection,
    kept: InFlight,
) -> ApiResult<Response<Body>> {
    let (upgrades, is_log) = (is_upgrade(&head.headers), target.subresource == "log");
    let Connection { stream, host, path_and_query } = connection;
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let request = backend_request(&head, if upgrades { body::empty() } else { body }, &host, &path_and_query)?;
    let exchange = http1::exchange(env, stream, request);
    let answer = if target.subresource == "proxy" {
        // An application may take as long as it likes.
        exchange.await
    } else {
        env::timeout(&**env, BACKEND_TIMEOUT, exchange)
            .await
            .ok_or_else(|| ApiError::timeout(format!("{host} did not answer within {} s", BACKEND_TIMEOUT.as_secs())))?
    };
    let answer = answer.map_err(|error| bad_gateway(format!("error proxying to {host}: {}", chain(&error))))?;
    match (answer, upgrade) {
        (Answer::Upgraded { head, stream }, Some(upgrade)) if upgrades => {
            splice(env, upgrade, stream, kept);
            Ok(switching(head.headers))
        }
        (Answer::Upgraded { .. }, _) => {
            Err(bad_gateway(format!("{host} upgraded a connection that cannot be upgraded")))
        }
        (Answer::Response(response), _) if is_log && is_failure(response.status()) => Err(told(response).await),
        (Answer::Response(response), _) => returned(target, response, upgrades, &host),
    }
}

/// Passes a request on to another API server, which is told for whom. Watches and upgrades go on for as long as both
/// sides like; `limit` is for the head of the answer.
pub async fn pass_on(
    env: &Env,
    mut head: Parts,
    body: Body,
    passing: Passing,
    caller: &Caller,
    limit: Duration,
    kept: InFlight,
) -> ApiResult<Response<Body>> {
    let upgrades = is_upgrade(&head.headers);
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let path_and_query = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Passing { stream, host } = passing;
    let body = if upgrades { body::empty() } else { body };
    let mut request = backend_request(&head, body, &host, &path_and_query)?;
    aggregator::name_caller(request.headers_mut(), caller)?;
    let answer = env::timeout(&**env, limit, http1::exchange(env, stream, request)).await;
    let answer =
        answer.ok_or_else(|| ApiError::timeout(format!("{host} did not answer within {} s", limit.as_secs())))?;
    let unreachable = |why: String| ApiError::unavailable(format!("error trying to reach service: {why}"));
    match (answer.map_err(|error| unreachable(chain(&error)))?, upgrade) {
        (Answer::Upgraded { head, stream }, Some(upgrade)) if upgrades => {
            splice(env, upgrade, stream, kept);
            Ok(switching(head.headers))
        }
        (Answer::Upgraded { .. }, _) => {
            Err(bad_gateway(format!("{host} upgraded a connection that cannot be upgraded")))
        }
        (Answer::Response(response), _) => returned(&Target::default(), response, upgrades, &host),
    }
}

fn is_failure(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// What a node says of logs that it cannot give is plain text: clients get it as a Status.
async fn told(response: Response<Body>) -> ApiError {
    let code = response.status().as_u16();
    let text = match body::read(response.into_body(), MAX_TOLD).await {
        Ok(text) => String::from_utf8_lossy(&text).trim_end().to_owned(),
        Err(_) => "the node gave no reason that could be read".to_owned(),
    };
    match code {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(404, Reason::NotFound, text),
        500 => ApiError::internal(text),
        code => ApiError::new(code, Reason::Unknown, text),
    }
}

/// The request as the backend sees it: no credentials, nothing about the client's connection.
fn backend_request(head: &Parts, body: Body, host: &str, path_and_query: &str) -> ApiResult<Request<Body>> {
    let malformed = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("request cannot be passed on: {why}"));
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = path_and_query.parse().map_err(|why| malformed(&why))?;
    let headers = request.headers_mut();
    let upgrades = is_upgrade(&head.headers);
    for (name, value) in &head.headers {
        let about_the_connection = is_hop_by_hop(name) && !(upgrades && *name == header::UPGRADE);
        if !about_the_connection && !is_credential(name) && *name != header::HOST {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|why| malformed(&why))?);
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(request)
}

fn is_credential(name: &header::HeaderName) -> bool {
    let name = name.as_str();
    name == "authorization" || name == "k8s-fence" || name.starts_with("impersonate-") || name.starts_with("x-remote-")
}

/// Copies bytes both ways until both sides are done.
fn splice(env: &Env, upgrade: OnUpgrade, backend: Box<dyn ByteStream>, kept: InFlight) {
    let copying = async move {
        let client = match upgrade.await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "client went away before its upgrade"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), backend.compat());
        tokio::select! {
            biased;
            () = kept.stop.cancelled() => {}
            ended = tokio::io::copy_bidirectional(&mut client, &mut backend) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "upgraded connection ended");
                }
            }
        }
    };
    env.spawn("upgraded connection", Box::pin(copying)).detach();
}

fn switching(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Hands an answer back. A redirect of a node is an error: it could lead our clients anywhere.
fn returned(target: &Target, response: Response<Body>, upgrades: bool, host: &str) -> ApiResult<Response<Body>> {
    let (mut head, body) = response.into_parts();
    if head.status.is_redirection() && head.headers.contains_key(header::LOCATION) {
        let application = target.subresource == "proxy" && target.resource.plural != "nodes" && !upgrades;
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let rewritten = location.filter(|_| application).and_then(|location| rewrite(target, host, location));
        let location = rewritten.ok_or_else(|| bad_gateway(format!("{host} answered with a redirect")))?;
        head.headers.insert(header::LOCATION, location);
    }
    let own: Vec<header::HeaderName> = head.headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in own {
        head.headers.remove(name);
    }
    if upgrades {
        // Nobody may take this connection for an upgraded one, or for one that can still be used.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Response::from_parts(head, body))
}

/// Where a redirect of an application leads from the client's point of view: under the proxy's own path.
///
/// `None` for another host: that is not ours to open.
fn rewrite(target: &Target, host: &str, location: &str) -> Option<HeaderValue> {
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.strip_prefix(host).filter(|path| path.starts_with('/'))?,
        None if location.starts_with("//") => return None,
        None if location.starts_with('/') => location,
        // Relative to the path that was asked for, which the client knows.
        None => return HeaderValue::from_str(location).ok(),
    };
    let Target { resource, namespace, name, .. } = target;
    let base = format!("/api/{}/namespaces/{namespace}/{}/{name}/proxy", resource.version, resource.plural);
    HeaderValue::from_str(&format!("{base}{path}")).ok()
}

/// The redirect from `.../proxy` to `.../proxy/`, so that an application's relative links lead under it.
pub fn missing_slash(head: &Parts, connect_path: &str, target: &Target) -> Option<Response<Body>> {
    let path = head.uri.path();
    let reads = matches!(head.method, Method::GET | Method::HEAD) && !is_upgrade(&head.headers);
    if target.subresource != "proxy" || !connect_path.is_empty() || path.ends_with('/') || !reads {
        return None;
    }
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&format!("{path}/{query}")).ok()?;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn bad_gateway(message: String) -> ApiError {
    ApiError::new(502, Reason::Unknown, message)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
