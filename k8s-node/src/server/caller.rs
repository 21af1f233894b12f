//! Who may use the node's server.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use http::{Method, Request, header};
use k8s_core::status::{ApiError, ApiResult, Reason};
use k8s_wire::{body::Body, serve::Peer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who may use the node's server.
pub enum Callers {
    /// Whoever connects inside this process: the API server, which has authorized what it asks.
    InProcess,
    /// Who presents a client certificate of the cluster's authority for one of these users. The TLS layer has verified
    /// the certificate; everything else about the request was authorized by the API server.
    Users(Vec<String>),
    /// These users, and whoever else the reviewer lets through, request by request.
    Reviewed {
        /// As in [`Callers::Users`].
        users: Vec<String>,
        /// Asked about all others.
        reviewer: Arc<dyn Reviewer>,
    },
}

/// What somebody wants of a node's server.
#[derive(Debug)]
pub struct NodeQuestion<'a> {
    /// The client's certificate chain, leaf first, DER, verified; empty without.
    pub certificates: Vec<Vec<u8>>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The verb as rules name it.
    pub verb: &'static str,
    /// The node's name.
    pub node: &'a str,
    /// The subresource of the node that stands for the path, as the kubelet has it: `metrics`, `stats`, `pods`,
    /// `healthz`, and `proxy` for all else.
    pub subresource: &'static str,
}

/// Decides about requests that no rule of the node's own lets through.
#[async_trait]
pub trait Reviewer: Send + Sync + 'static {
    /// 401 for credentials that are not good, 403 for who may not, 5xx if that cannot be found out.
    async fn review(&self, question: NodeQuestion<'_>) -> ApiResult<()>;
}

impl Callers {
    /// 401 without credentials that are known, 403 for anybody who may not.
    pub(super) fn check<'a>(
        &'a self,
        request: &Request<Body>,
        node: &'a str,
    ) -> impl Future<Output = ApiResult<()>> + Send + use<'a> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned().unwrap_or_default();
        let question = Self::question(request, &peer, node);
        self.decide(peer, question)
    }

    async fn decide(&self, peer: Arc<Peer>, question: NodeQuestion<'_>) -> ApiResult<()> {
        let (users, reviewer) = match self {
            Self::InProcess => return Ok(()),
            Self::Users(users) => (users, None),
            Self::Reviewed { users, reviewer } => (users, Some(reviewer)),
        };
        let is_token = question.bearer.is_some();
        match (peer.certificates.first(), reviewer) {
            (Some(leaf), _) if !is_token && users.contains(&user(leaf)?) => Ok(()),
            (_, Some(reviewer)) => reviewer.review(question).await,
            (None, None) => Err(ApiError::unauthorized()),
            (Some(leaf), None) => {
                let message = format!("Forbidden: user {:?} may not use the node's server", user(leaf)?);
                Err(ApiError::new(403, Reason::Forbidden, message))
            }
        }
    }

    fn question<'a>(request: &Request<Body>, peer: &Peer, node: &'a str) -> NodeQuestion<'a> {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = authorization.and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let subresource = subresource(request.uri().path());
        // What an upgraded connection does is never mere reading, whatever the method says.
        let verb = if *request.method() == Method::GET && !is_stream(request.uri().path()) { "get" } else { "create" };
        NodeQuestion {
            certificates: peer.certificates.iter().map(|certificate| certificate.to_vec()).collect(),
            bearer: bearer.map(str::to_owned),
            verb,
            node,
            subresource,
        }
    }
}

fn user(leaf: &[u8]) -> ApiResult<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ApiError::unauthorized())?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

fn is_stream(path: &str) -> bool {
    matches!(first(path), "exec" | "attach" | "portForward")
}

fn subresource(path: &str) -> &'static str {
    match first(path) {
        "metrics" => "metrics",
        "stats" => "stats",
        "pods" => "pods",
        "healthz" => "healthz",
        _ => "proxy",
    }
}

fn first(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_for_subresources_and_connections_are_no_reading() {
        let ask = |method: Method, path: &str| {
            let mut request = Request::new(k8s_wire::body::empty());
            (*request.method_mut(), *request.uri_mut()) = (method, path.parse().unwrap());
            request.headers_mut().insert(header::AUTHORIZATION, "Bearer abc".parse().unwrap());
            let question = Callers::question(&request, &Peer::default(), "n1");
            assert_eq!((question.node, question.bearer.as_deref()), ("n1", Some("abc")));
            (question.verb, question.subresource)
        };
        assert_eq!(ask(Method::GET, "/metrics"), ("get", "metrics"));
        assert_eq!(ask(Method::GET, "/stats/summary"), ("get", "stats"));
        assert_eq!(ask(Method::GET, "/containerLogs/ns/pod/c"), ("get", "proxy"));
        assert_eq!(ask(Method::GET, "/exec/ns/pod/c?command=id"), ("create", "proxy"));
        assert_eq!(ask(Method::POST, "/portForward/ns/pod"), ("create", "proxy"));
    }
}
