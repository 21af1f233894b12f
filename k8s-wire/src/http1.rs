//! HTTP/1.1 asked over any byte stream: how the API server speaks to nodes, pods and services.
//!
//! One connection carries one request. A connection whose upgrade was refused is never used again, and redirects
//! are for the caller to judge: nothing here follows one.

use http::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_core::{env::Env, seam::node::ByteStream};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use crate::body::{self, Body};

/// What came back.
pub enum Answer {
    /// A head and a body. Dropping the body closes the connection.
    Response(Response<Body>),
    /// 101: the connection now belongs to another protocol.
    Upgraded {
        /// The head, which names the protocol.
        head: http::response::Parts,
        /// The connection, from the first byte of the other protocol on.
        stream: Box<dyn ByteStream>,
    },
}

/// The peer did not speak HTTP/1.1, or hung up.
#[derive(Debug, thiserror::Error)]
#[error("HTTP/1.1 exchange failed")]
pub struct ExchangeError(#[source] hyper::Error);

/// Sends one request and waits for the head of its answer.
///
/// `request` must carry a `Host` header and a path as its URI. Dropping the future, or the answer's body, closes
/// the connection.
pub async fn exchange(env: &Env, stream: Box<dyn ByteStream>, request: Request<Body>) -> Result<Answer, ExchangeError> {
    let io = TokioIo::new(stream.compat());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(ExchangeError)?;
    let running = env.spawn(
        "http1 exchange",
        Box::pin(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "HTTP/1.1 exchange ended");
            }
        }),
    );
    let mut response = sender.send_request(request).await.map_err(ExchangeError)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(ExchangeError)?;
        // The connection's task ends by itself once it has handed the stream over.
        running.detach();
        let stream: Box<dyn ByteStream> = Box::new(TokioIo::new(upgraded).compat());
        return Ok(Answer::Upgraded { head: response.into_parts().0, stream });
    }
    let (head, incoming) = response.into_parts();
    // The task must live as long as someone reads the body, and no longer.
    let guarded = Guarded { incoming, _running: running, _sender: sender };
    Ok(Answer::Response(Response::from_parts(head, body::boxed(guarded))))
}

/// Headers that speak of one connection only and must not be passed on.
pub fn is_hop_by_hop(name: &header::HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// A body that keeps its connection running.
struct Guarded {
    incoming: hyper::body::Incoming,
    _running: k8s_core::env::Task,
    _sender: hyper::client::conn::http1::SendRequest<Body>,
}

impl http_body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
