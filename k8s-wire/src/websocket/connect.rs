//! The client's side of the opening handshake, over any byte stream.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, header};
use k8s_core::{env::Env, seam::node::ByteStream};
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

use super::{Channels, Subprotocol};
use crate::{
    body::{self, Body},
    http1::{self, Answer, ExchangeError},
};

/// How much of a refusal's text is kept.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Why no WebSocket was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer did not speak HTTP/1.1, or hung up.
    #[error("open WebSocket")]
    Exchange(#[source] ExchangeError),
    /// The server answered something else than an upgrade.
    #[error("WebSocket refused with {code}: {text}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// The body of the answer.
        text: String,
    },
    /// The server upgraded, but not to what was asked for.
    #[error("WebSocket handshake: {0}")]
    Handshake(&'static str),
}

/// Opens a WebSocket with one of `protocols`. `request` gives path, `Host` and credentials.
pub async fn connect(
    env: &Env,
    stream: Box<dyn ByteStream>,
    mut request: Request<Body>,
    protocols: &[Subprotocol],
) -> Result<Channels, ConnectError> {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&env.random().to_le_bytes());
    nonce[8..].copy_from_slice(&env.random().to_le_bytes());
    let key = STANDARD.encode(nonce);
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.as_str()).collect();
    let wanted = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_VERSION, "13".to_owned()),
        (header::SEC_WEBSOCKET_KEY, key.clone()),
        (header::SEC_WEBSOCKET_PROTOCOL, names.join(", ")),
    ];
    for (name, value) in wanted {
        let value = value.try_into().map_err(|_| ConnectError::Handshake("a header cannot be written"))?;
        request.headers_mut().insert(name, value);
    }
    match http1::exchange(env, stream, request).await.map_err(ConnectError::Exchange)? {
        Answer::Upgraded { head, stream } => {
            let accepted = head.headers.get(header::SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes());
            if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
                return Err(ConnectError::Handshake("the server did not prove that it read the key"));
            }
            let chosen = head.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
            let protocol = protocols
                .iter()
                .copied()
                .find(|protocol| chosen.is_some_and(|chosen| chosen == protocol.as_str()))
                .ok_or(ConnectError::Handshake("the server chose no subprotocol that was offered"))?;
            Ok(Channels::new(stream, Role::Client, protocol).await)
        }
        Answer::Response(response) => {
            let code = response.status().as_u16();
            let text = body::read(response.into_body(), MAX_REFUSAL_BYTES).await.unwrap_or_default();
            Err(ConnectError::Refused { code, text: String::from_utf8_lossy(&text).into_owned() })
        }
    }
}
