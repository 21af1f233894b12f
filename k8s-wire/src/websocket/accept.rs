//! The server's side of the opening handshake (RFC 6455).

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_core::seam::node::ByteStream;
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{Channels, StreamError, Subprotocol};
use crate::body::{self, Body};

/// An accepted upgrade whose 101 has yet to be sent.
pub struct Opening {
    upgrade: OnUpgrade,
    protocol: Subprotocol,
}

/// Why an upgrade is refused: answer with this code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// 400, or 403 for a protocol that is known but not served.
    pub code: u16,
    /// What was wrong and what to do.
    pub message: String,
}

/// Whether a request asks for its connection to be upgraded, to whatever.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::CONNECTION, "upgrade") && headers.contains_key(header::UPGRADE)
}

/// Accepts an upgrade to the first of `offered` that the client asks for.
///
/// Answer the request with the response, and await [`Opening::channels`] in a task of its own.
pub fn accept(request: &mut Request<Body>, offered: &[Subprotocol]) -> Result<(Response<Body>, Opening), Refused> {
    let headers = request.headers();
    if request.method() != Method::GET || !is_upgrade(headers) || !has_token(headers, header::UPGRADE, "websocket") {
        return Err(bad("this path is opened by a GET that upgrades to a WebSocket"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let accepted = derive_accept_key(key.as_bytes());
    let protocol = offered
        .iter()
        .copied()
        .find(|offer| has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, offer.as_str()))
        .ok_or_else(|| none_in_common(offered))?;
    let upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| bad("this connection cannot be upgraded: use HTTP/1.1"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.as_str()));
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    Ok((response, Opening { upgrade, protocol }))
}

impl Opening {
    /// Resolves once the 101 has been sent. Dropping the future closes the connection.
    pub async fn channels(self) -> Result<Channels, StreamError> {
        let upgraded = self.upgrade.await.map_err(|error| StreamError(error.to_string()))?;
        let stream: Box<dyn ByteStream> = Box::new(TokioIo::new(upgraded).compat());
        Ok(Channels::new(stream, Role::Server, self.protocol).await)
    }

    /// The subprotocol that was agreed on.
    pub fn protocol(&self) -> Subprotocol {
        self.protocol
    }
}

impl Refused {
    /// A plain text answer that also closes the connection.
    pub fn response(&self) -> Response<Body> {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = crate::health::text(code, format!("{}\n", self.message));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn bad(message: &str) -> Refused {
    Refused { code: 400, message: message.into() }
}

fn none_in_common(offered: &[Subprotocol]) -> Refused {
    let names: Vec<&str> = offered.iter().map(|offer| offer.as_str()).collect();
    bad(&format!("Sec-WebSocket-Protocol must name one of: {}", names.join(", ")))
}

/// Whether a comma-separated header holds a word, whatever its case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}
