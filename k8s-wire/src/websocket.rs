//! WebSocket with the channel subprotocols of exec, attach and port-forward.
//!
//! Every binary message begins with one byte that names its channel. In `v5.channel.k8s.io` either side can end one
//! channel (KEP-4006); in `v4.channel.k8s.io` the first write to nothing ends it with the connection.

mod accept;
mod connect;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use k8s_core::{
    env::{self, Env},
    seam::node::ByteStream,
};
use tokio::sync::Mutex;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

pub use self::{
    accept::{Opening, Refused, accept, is_upgrade},
    connect::{ConnectError, connect},
};

/// Standard input, from the client.
pub const STDIN: u8 = 0;
/// Standard output, from the server.
pub const STDOUT: u8 = 1;
/// Standard error, from the server.
pub const STDERR: u8 = 2;
/// How the command ended, from the server: the JSON of one `Status`, or a text.
pub const ERROR: u8 = 3;
/// Terminal sizes, from the client: JSON with `Width` and `Height`.
pub const RESIZE: u8 = 4;
/// In version 5: the next byte names a channel that its sender has ended.
const CLOSE: u8 = 255;

/// The largest message that is taken; a larger one ends the connection.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The subprotocols, in the order a server prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subprotocol {
    /// `v5.channel.k8s.io`: single channels can be ended.
    V5,
    /// `v4.channel.k8s.io`.
    V4,
    /// `binary.k8s.io`: no channels; every message is a piece of one stream (logs).
    Binary,
    /// `SPDY/3.1+portforward.k8s.io`: no channels; the pieces of a SPDY session.
    SpdyPortForward,
}

/// Port-forward.
pub const PORT_FORWARD: &[Subprotocol] = &[Subprotocol::SpdyPortForward, Subprotocol::V4];

/// Exec and attach.
pub const CHANNELS: &[Subprotocol] = &[Subprotocol::V5, Subprotocol::V4];

impl Subprotocol {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::Binary => "binary.k8s.io",
            Self::SpdyPortForward => "SPDY/3.1+portforward.k8s.io",
        }
    }

    fn has_channels(self) -> bool {
        matches!(self, Self::V5 | Self::V4)
    }
}

/// One thing that the other side sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes on a channel (channel 0 where there are no channels).
    Data {
        /// The channel.
        channel: u8,
        /// The bytes; may be empty.
        bytes: Bytes,
    },
    /// The other side has ended a channel. Only in version 5.
    Ended(u8),
}

/// The connection broke, or the other side broke the protocol. Nothing more can be sent or received.
#[derive(Debug, Clone, thiserror::Error)]
#[error("WebSocket: {0}")]
pub struct StreamError(pub(crate) String);

type Socket = WebSocketStream<Compat<Box<dyn ByteStream>>>;

/// An open connection with channels. The two halves are used by different tasks.
pub struct Channels {
    /// What to send through. Cloning shares.
    pub sender: Sender,
    /// What the other side sends. Read it to the end: replies to pings are sent while reading.
    pub receiver: Receiver,
}

/// The sending half. Waits while the other side does not read: nothing is queued.
#[derive(Clone)]
pub struct Sender {
    sink: Arc<Mutex<SplitSink<Socket, Message>>>,
    protocol: Subprotocol,
}

/// The receiving half.
pub struct Receiver {
    stream: SplitStream<Socket>,
    role: Role,
    protocol: Subprotocol,
}

impl Channels {
    async fn new(stream: Box<dyn ByteStream>, role: Role, protocol: Subprotocol) -> Self {
        let mut limits = WebSocketConfig::default();
        limits.read_buffer_size = 32 * 1024;
        limits.write_buffer_size = 0;
        limits.max_message_size = Some(MAX_MESSAGE_BYTES);
        limits.max_frame_size = Some(MAX_MESSAGE_BYTES);
        let socket = WebSocketStream::from_raw_socket(stream.compat(), role, Some(limits)).await;
        let (sink, stream) = socket.split();
        let sender = Sender { sink: Arc::new(Mutex::new(sink)), protocol };
        Self { sender, receiver: Receiver { stream, role, protocol } }
    }

    /// The subprotocol that both sides agreed on.
    pub fn protocol(&self) -> Subprotocol {
        self.sender.protocol
    }
}

impl Sender {
    /// Sends bytes on a channel. Not cancel-safe: a dropped call may have sent the message or not.
    pub async fn send(&self, channel: u8, bytes: &[u8]) -> Result<(), StreamError> {
        let payload = if !self.protocol.has_channels() {
            Bytes::copy_from_slice(bytes)
        } else {
            let mut framed = BytesMut::with_capacity(bytes.len() + 1);
            framed.put_u8(channel);
            framed.extend_from_slice(bytes);
            framed.freeze()
        };
        self.message(Message::Binary(payload)).await
    }

    /// Tells the other side that nothing more comes on a channel. Before version 5 there is no way to say so, and
    /// this does nothing.
    pub async fn end(&self, channel: u8) -> Result<(), StreamError> {
        match self.protocol {
            Subprotocol::V5 => self.message(Message::Binary(Bytes::copy_from_slice(&[CLOSE, channel]))).await,
            _ => Ok(()),
        }
    }

    /// Ends the connection in good order.
    pub async fn close(&self) -> Result<(), StreamError> {
        // Clients take a close without the code for a broken connection.
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        self.message(Message::Close(Some(frame))).await
    }

    async fn message(&self, message: Message) -> Result<(), StreamError> {
        self.sink.lock().await.send(message).await.map_err(broken)
    }
}

impl Receiver {
    /// What the other side sent next; `None` once it has closed the connection. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Frame, StreamError>> {
        loop {
            return match self.stream.next().await? {
                Ok(Message::Binary(bytes)) => Some(self.frame(bytes)),
                Ok(Message::Text(text)) => Some(self.frame(text.into())),
                // A server answers a close, which reading on does; a client need not wait for the connection's end.
                Ok(Message::Close(_)) if self.role == Role::Server => continue,
                Ok(Message::Close(_)) => None,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(error) => Some(Err(broken(error))),
            };
        }
    }

    /// Takes whatever still comes until the other side has closed, within a limit. For after [`Sender::close`]: a
    /// connection that is dropped with something unread may take with it what the other side has yet to read.
    pub async fn drain(mut self, env: &Env, limit: Duration) {
        env::timeout(&**env, limit, async { while let Some(Ok(_)) = self.next().await {} }).await;
    }

    fn frame(&self, mut bytes: Bytes) -> Result<Frame, StreamError> {
        if !self.protocol.has_channels() {
            return Ok(Frame::Data { channel: 0, bytes });
        }
        match bytes.first() {
            None => Err(StreamError("a message without a channel".into())),
            Some(&CLOSE) if self.protocol == Subprotocol::V5 => match bytes.as_ref() {
                [_, channel] => Ok(Frame::Ended(*channel)),
                _ => Err(StreamError("a close signal that does not name one channel".into())),
            },
            Some(&channel) => Ok(Frame::Data { channel, bytes: bytes.split_off(1) }),
        }
    }
}

fn broken(error: tokio_tungstenite::tungstenite::Error) -> StreamError {
    StreamError(error.to_string())
}
