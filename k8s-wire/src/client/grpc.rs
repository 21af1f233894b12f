//! Unary gRPC calls over Unix sockets: a length, a message, HTTP/2, and a status in the trailers.
//!
//! Each call has a connection of its own: who is asked here is asked seldom, and a service that was started anew is
//! found at once.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_core::{
    env::{self, Env},
    seam::grpc::{GrpcCaller, GrpcError},
};
use tokio::net::UnixStream;

use crate::serve::Executor;

/// The largest answer that is read.
pub const MAX_GRPC_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// What stands before a message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;
/// The code for an answer without a status, as gRPC's clients have it.
const UNKNOWN: u32 = 2;

/// Asks gRPC services that listen on Unix sockets.
pub struct UnixGrpcCaller {
    env: Env,
}

impl UnixGrpcCaller {
    /// A caller under the environment's clock.
    pub fn new(env: Env) -> Self {
        Self { env }
    }

    async fn ask(&self, endpoint: &str, method: &str, message: Bytes) -> Result<Bytes, GrpcError> {
        let unreachable =
            |why: &dyn std::fmt::Display| GrpcError::Unreachable { endpoint: endpoint.into(), why: why.to_string() };
        let malformed = |why: String| GrpcError::Malformed { endpoint: endpoint.into(), why };
        let path = socket(endpoint).ok_or_else(|| unreachable(&"it is no unix:///PATH"))?;
        let socket = UnixStream::connect(path).await.map_err(|why| unreachable(&why))?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(Executor(self.env.clone()), TokioIo::new(socket))
                .await
                .map_err(|why| unreachable(&why))?;
        let ended = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a gRPC connection ended");
            }
        };
        // The connection lives as long as the call.
        let _running = self.env.spawn("grpc", Box::pin(ended));
        let request = Request::post(format!("http://localhost{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::new(framed(&message)))
            .map_err(|why| malformed(format!("{method} is no method: {why}")))?;
        let response = sender.send_request(request).await.map_err(|why| unreachable(&why))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(malformed(format!("it answers with HTTP status {}", head.status)));
        }
        let collected = Limited::new(body, MAX_GRPC_ANSWER_BYTES).collect().await.map_err(|why| unreachable(&why))?;
        // A refusal may come without a body; its status then stands in the head.
        let trailers = collected.trailers().unwrap_or(&head.headers);
        status(endpoint, trailers)?;
        unframed(collected.to_bytes()).ok_or_else(|| malformed("the answer is not one plain message".into()))
    }
}

#[async_trait]
impl GrpcCaller for UnixGrpcCaller {
    async fn call(&self, endpoint: &str, method: &str, limit: Duration, message: Bytes) -> Result<Bytes, GrpcError> {
        match env::timeout(&*self.env, limit, self.ask(endpoint, method, message)).await {
            Some(answer) => answer,
            None => Err(GrpcError::TimedOut { endpoint: endpoint.into(), limit }),
        }
    }
}

/// The socket of an endpoint. An abstract name begins with a zero byte, as the operating system has it.
fn socket(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").filter(|path| !path.is_empty())?;
    match path.strip_prefix("/@").or_else(|| path.strip_prefix('@')) {
        Some(name) => Some(format!("\0{name}").into()),
        None => Some(path.into()),
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + message.len());
    out.put_u8(0);
    // Invariant: no message of ours is near four gigabytes.
    out.put_u32(message.len() as u32);
    out.extend_from_slice(message);
    out.freeze()
}

fn unframed(body: Bytes) -> Option<Bytes> {
    let (head, rest) = body.split_first_chunk::<HEAD_BYTES>()?;
    let [0, length @ ..] = head else { return None };
    (u32::from_be_bytes(*length) as usize == rest.len()).then(|| body.slice(HEAD_BYTES..))
}

/// What the service says of the call.
fn status(endpoint: &str, trailers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let code = text("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    if code == 0 {
        return Ok(());
    }
    let text = text("grpc-message").map_or_else(|| "it gives no reason".into(), |message| unescaped(&message));
    Err(GrpcError::Status { endpoint: endpoint.into(), code, text })
}

/// Undoes the percent encoding of a status message.
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        let byte = escaped.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_sockets() {
        for (endpoint, path) in [
            ("unix:///var/run/kms.sock", Some("/var/run/kms.sock")),
            ("unix:///@kms", Some("\0kms")),
            ("unix://@kms", Some("\0kms")),
            ("unix://", None),
            ("http://127.0.0.1", None),
        ] {
            assert_eq!(socket(endpoint), path.map(PathBuf::from), "{endpoint}");
        }
    }

    #[test]
    fn one_message_stands_behind_its_length() {
        assert_eq!(framed(b"abc")[..], *b"\0\0\0\0\x03abc");
        assert_eq!(unframed(framed(b"abc")).as_deref(), Some(&b"abc"[..]));
        assert_eq!(unframed(framed(b"")).as_deref(), Some(&b""[..]));
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x01a", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab"] {
            assert_eq!(unframed(Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_status_says_what_went_wrong() {
        let of = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
            status("unix:///x", &headers.collect())
        };
        assert_eq!(of(&[("grpc-status", "0")]), Ok(()));
        let refused = of(&[("grpc-status", "3"), ("grpc-message", "no%20key%3a 100%")]).unwrap_err();
        assert_eq!(refused.to_string(), "unix:///x answered with code 3: no key: 100%");
        assert!(!refused.retry());
        assert_eq!(of(&[]).unwrap_err().to_string(), "unix:///x answered with code 2: it gives no reason");
        assert!(of(&[("grpc-status", "14")]).unwrap_err().retry());
    }
}
