//! The node's end of `port-forward`: connections of a client, each to one port of a pod.
//!
//! Two forms: a SPDY session with a pair of streams for each connection, which runs inside a WebSocket (kubectl) or on
//! its own (kubectl before 1.31); and a WebSocket with a pair of channels for each port (`v4.channel.k8s.io`, older
//! libraries).

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{self, Either},
};
use http::{Request, Response};
use k8s_core::{
    env::{BoxFuture, Env, Task},
    seam::node::ByteStream,
};
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    body::Body,
    spdy::{self, Session, Stream, StreamSender},
    websocket::{self, Channels, Frame, PORT_FORWARD, Refused, Subprotocol},
};

/// Opens a connection to a port of the pod; the error is shown to the user.
pub type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<Box<dyn ByteStream>, String>> + Send + Sync>;

/// What a SPDY client must know of what the streams mean.
const VERSION: &str = "portforward.k8s.io";
/// How many bytes are copied at once, and wait at most in each direction of a tunnel.
const COPY_BYTES: usize = 32 * 1024;
/// How long a client may take to let go of a connection that is closed.
const CLOSING: Duration = Duration::from_secs(10);
/// The most ports of one request in the form with channels.
const MAX_PORTS: usize = 100;

/// An accepted upgrade whose 101 has yet to be sent.
pub enum Opening {
    /// To a WebSocket.
    WebSocket(websocket::Opening),
    /// To a SPDY session.
    Spdy(spdy::Opening),
}

/// Accepts an upgrade to whatever the client asks for.
///
/// Answer the request with the response, and await [`Opening::serve`] in a task of its own.
pub fn accept(request: &mut Request<Body>) -> Result<(Response<Body>, Opening), Refused> {
    if spdy::is_upgrade(request.headers()) {
        let (response, opening) = spdy::accept(request, VERSION)?;
        return Ok((response, Opening::Spdy(opening)));
    }
    let (response, opening) = websocket::accept(request, PORT_FORWARD)?;
    Ok((response, Opening::WebSocket(opening)))
}

impl Opening {
    /// Serves the connection until the client ends it.
    ///
    /// `ports` are those of the request's query; only the form with channels uses them. Dropping the future closes
    /// every forwarded connection.
    pub async fn serve(self, env: &Env, ports: &[u16], dial: Dial) {
        match self {
            Self::Spdy(opening) => {
                if let Ok(session) = opening.session(env).await {
                    streams(env, session, dial).await;
                }
            }
            Self::WebSocket(opening) => match opening.channels().await {
                Ok(channels) if channels.protocol() == Subprotocol::SpdyPortForward => {
                    let (session, _tunnel) = tunnel(env, channels);
                    streams(env, session, dial).await;
                }
                Ok(channels) => by_channel(env, channels, ports, dial).await,
                // The client left while the connection changed hands.
                Err(_) => {}
            },
        }
    }
}

/// The SPDY session whose bytes are the messages of a WebSocket.
fn tunnel(env: &Env, channels: Channels) -> (Session, [Task; 2]) {
    let (near, far) = tokio::io::duplex(COPY_BYTES);
    let (mut from_session, mut to_session) = AsyncReadExt::split(far.compat());
    let Channels { sender, mut receiver } = channels;
    let inward = env.spawn(
        "tunnel in",
        Box::pin(async move {
            while let Some(Ok(Frame::Data { bytes, .. })) = receiver.next().await {
                if to_session.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = to_session.close().await;
        }),
    );
    let outward = env.spawn(
        "tunnel out",
        Box::pin(async move {
            let mut buffer = vec![0; COPY_BYTES];
            while let Ok(count @ 1..) = from_session.read(&mut buffer).await {
                if sender.send(0, &buffer[..count]).await.is_err() {
                    return;
                }
            }
            let _ = sender.close().await;
        }),
    );
    (Session::serve(env, Box::new(near.compat())), [inward, outward])
}

/// Pairs the streams of each connection by its request id, and serves each pair.
async fn streams(env: &Env, mut session: Session, dial: Dial) {
    let mut waiting: BTreeMap<String, Stream> = BTreeMap::new();
    let mut connections = Connections::default();
    while let Some(stream) = session.accept().await {
        let id = stream.header("requestid").to_owned();
        match (stream.header("streamtype"), waiting.remove(&id)) {
            ("error", None) => drop(waiting.insert(id, stream)),
            ("data", Some(errors)) => {
                let port = stream.header("port").parse().unwrap_or(0);
                let forwarding = forward_stream(port, stream, errors.sender, dial.clone());
                connections.add(env.spawn("port-forward", Box::pin(forwarding)));
            }
            (_, other) => {
                tracing::debug!(id, "port-forward: a stream that belongs to no connection");
                drop(other);
            }
        }
    }
}

async fn forward_stream(port: u16, stream: Stream, errors: StreamSender, dial: Dial) {
    let Stream { mut receiver, sender, .. } = stream;
    match dial(port).await {
        Ok(connection) => {
            let (mut from_pod, mut to_pod) = AsyncReadExt::split(connection);
            let inward = async {
                while let Some(bytes) = receiver.next().await {
                    if to_pod.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = to_pod.close().await;
            };
            let outward = async {
                let mut buffer = vec![0; COPY_BYTES];
                while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
                    if sender.send(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
                let _ = sender.finish().await;
            };
            until_pod_ends(inward, outward).await;
        }
        Err(why) => {
            let _ = errors.send(format!("error forwarding port {port}: {why}").as_bytes()).await;
            let _ = sender.finish().await;
        }
    }
    let _ = errors.finish().await;
}

/// Each port has two channels: `2n` for data and `2n + 1` for errors, both beginning with the port's number.
///
/// This form cannot end one channel: the connection is closed once nothing more comes from any of the ports.
async fn by_channel(env: &Env, channels: Channels, ports: &[u16], dial: Dial) {
    let Channels { sender, mut receiver } = channels;
    let (mut inputs, mut forwarded) = (Vec::new(), Vec::new());
    for (place, port) in ports.iter().copied().take(MAX_PORTS).enumerate() {
        let channel = place as u8 * 2;
        for channel in [channel, channel + 1] {
            if sender.send(channel, &port.to_le_bytes()).await.is_err() {
                return;
            }
        }
        let (input, pieces) = mpsc::channel(16);
        inputs.push(input);
        forwarded.push(forward_channel(port, channel, pieces, sender.clone(), dial.clone()));
    }
    let reading = async {
        while let Some(Ok(frame)) = receiver.next().await {
            if let Frame::Data { channel, bytes } = frame
                && channel % 2 == 0
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                // Who hung up wants nothing more.
                let _ = input.send(bytes).await;
            }
        }
    };
    tokio::select! {
        biased;
        _ = future::join_all(forwarded) => {}
        // The client has left.
        () = reading => return,
    }
    if sender.close().await.is_ok() {
        receiver.drain(env, CLOSING).await;
    }
}

async fn forward_channel(
    port: u16,
    channel: u8,
    mut pieces: mpsc::Receiver<Bytes>,
    sender: websocket::Sender,
    dial: Dial,
) {
    let connection = match dial(port).await {
        Ok(connection) => connection,
        Err(why) => return drop(sender.send(channel + 1, why.as_bytes()).await),
    };
    let (mut from_pod, mut to_pod) = AsyncReadExt::split(connection);
    let inward = async {
        while let Some(bytes) = pieces.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; COPY_BYTES];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            if sender.send(channel, &buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    until_pod_ends(inward, outward).await;
}

/// The pod may go on answering after the client has said its last word, but not the other way round.
async fn until_pod_ends(inward: impl Future<Output = ()>, outward: impl Future<Output = ()>) {
    futures::pin_mut!(inward, outward);
    if let Either::Left((_, outward)) = future::select(inward, outward).await {
        outward.await;
    }
}

/// The running connections of one client; those that have ended are let go from time to time.
#[derive(Default)]
struct Connections(Vec<Task>);

impl Connections {
    /// How many are kept; the oldest is cut off for a further one.
    const MAX: usize = 1000;

    fn add(&mut self, task: Task) {
        if self.0.len() >= Self::MAX {
            drop(self.0.remove(0));
        }
        self.0.push(task);
    }
}
