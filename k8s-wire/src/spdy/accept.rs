//! The server's side of the upgrade to SPDY, as upstream's clients ask for it.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_core::{env::Env, seam::node::ByteStream};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{Session, SessionEnded};
use crate::{
    body::{self, Body},
    websocket::Refused,
};

/// The name in the `Upgrade` header.
const PROTOCOL: &str = "SPDY/3.1";
/// What the streams mean; the client lists what it knows, the server says what it took.
const VERSION: &str = "x-stream-protocol-version";

/// An accepted upgrade whose 101 has yet to be sent.
pub struct Opening(OnUpgrade);

/// Whether a request asks for its connection to become a SPDY session.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let asked = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    crate::websocket::is_upgrade(headers) && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(PROTOCOL))
}

/// Accepts an upgrade whose client knows `version` of what the streams mean.
///
/// Answer the request with the response, and await [`Opening::session`] in a task of its own.
pub fn accept(request: &mut Request<Body>, version: &'static str) -> Result<(Response<Body>, Opening), Refused> {
    let known = request.headers().get_all(VERSION);
    let known: Vec<&str> = known
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if !known.contains(&version) {
        let known = known.join(", ");
        let message = format!("no protocol in common: the client knows [{known}], this server {version}");
        return Err(Refused { code: 403, message });
    }
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(Refused { code: 400, message: "this connection cannot be upgraded: use HTTP/1.1".into() });
    };
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(VERSION, HeaderValue::from_static(version));
    Ok((response, Opening(upgrade)))
}

impl Opening {
    /// Resolves once the 101 has been sent. Dropping the future closes the connection.
    pub async fn session(self, env: &Env) -> Result<Session, SessionEnded> {
        let upgraded = self.0.await.map_err(|_| SessionEnded)?;
        let stream: Box<dyn ByteStream> = Box::new(TokioIo::new(upgraded).compat());
        Ok(Session::serve(env, stream))
    }
}
