//! What the audit log learns from HTTP.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts as Head};
use k8s_core::{
    env::Env,
    request::{ApiRequest, Caller},
    status::{ApiError, ApiResult},
};
use k8s_wire::{body::Body, serve::Peer};

use super::Shared;
use crate::{
    audit::{Arrival, Asked, AskedFor, Ongoing},
    server::audit_verb,
};

/// By which header clients and servers tell each other the id of a request.
const ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest id that is taken from a client.
const MAX_ID_CHARS: usize = 64;

/// The id of a request, among its extensions.
#[derive(Clone)]
struct AuditId(HeaderValue);

/// The id of a request: the client's, or a new one.
pub(super) fn take_id(env: &Env, request: &mut Request<Body>) -> HeaderValue {
    let given = request.headers().get(ID).filter(|id| id.len() <= MAX_ID_CHARS && id.to_str().is_ok()).cloned();
    // Invariant: a UUID is a header value.
    let id = given.unwrap_or_else(|| HeaderValue::from_str(&env.uuid()).unwrap_or(HeaderValue::from_static("")));
    request.extensions_mut().insert(AuditId(id.clone()));
    id
}

/// Tells the client the id of its request.
pub(super) fn show_id(response: &mut Response<Body>, id: Option<HeaderValue>) {
    if let Some(id) = id {
        response.headers_mut().insert(ID, id);
    }
}

/// A request was answered, or its answer has begun.
pub(super) fn end(ongoing: Option<Arc<Ongoing>>, answered: &ApiResult<Response<Body>>) {
    match (ongoing, answered) {
        (Some(ongoing), Ok(response)) => ongoing.answered_with(response.status().as_u16()),
        (Some(ongoing), Err(error)) => ongoing.failed(error),
        (None, _) => {}
    }
}

fn arrival(head: &Head) -> Arrival {
    let peer = head.extensions.get::<Arc<Peer>>().and_then(|peer| peer.address);
    let id = head.extensions.get::<AuditId>().and_then(|AuditId(id)| id.to_str().ok());
    Arrival {
        audit_id: id.unwrap_or_default().to_owned(),
        uri: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        source_ips: source_ips(&head.headers, peer.map(|address| address.ip().to_canonical().to_string())),
    }
}

/// Where a request came from, as proxies on the way and the connection say. As upstream, each of them is believed.
fn source_ips(headers: &HeaderMap, peer: Option<String>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = text("x-forwarded-for").split(',').chain([text("x-real-ip")]).map(str::trim);
    let mut ips: Vec<String> =
        forwarded.filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned).collect();
    if let Some(peer) = peer
        && ips.last() != Some(&peer)
    {
        ips.push(peer);
    }
    ips
}

impl Shared {
    /// A request for a resource begins.
    pub(super) fn note_resource(&self, request: &ApiRequest, head: &Head, caller: &Caller) -> Option<Arc<Ongoing>> {
        let asked = Asked { verb: audit_verb(request), subject: AskedFor::Resource(&request.target) };
        self.audit.as_ref()?.begin(caller, &asked, || arrival(head))
    }

    /// A request for a path that is no resource begins.
    pub(super) fn note_path(
        &self,
        path: &str,
        head: &Head,
        caller: &Caller,
        acting_as: Option<&Caller>,
    ) -> Option<Arc<Ongoing>> {
        let verb = head.method.as_str().to_ascii_lowercase();
        let asked = Asked { verb: &verb, subject: AskedFor::Path(path) };
        let ongoing = self.audit.as_ref()?.begin(caller, &asked, || arrival(head))?;
        if let Some(other) = acting_as {
            ongoing.acts_as(other);
        }
        Some(ongoing)
    }

    /// Somebody could not say who they are.
    pub(super) fn note_stranger(&self, head: &Head, error: &ApiError) {
        if let Some(ongoing) = self.note_path(head.uri.path(), head, &Caller::default(), None) {
            ongoing.failed(error);
        }
    }
}
