//! The streams of exec and attach, whatever the client speaks: channels of a WebSocket, or streams of a SPDY session
//! (kubectl before 1.31, and later ones where a proxy takes no WebSocket).

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use k8s_core::env::{self, Env};

use crate::{
    body::Body,
    spdy::{self, Session, StreamReceiver, StreamSender},
    websocket::{self, CHANNELS, ERROR, Frame, RESIZE, Refused, STDERR, STDIN, STDOUT, StreamError},
};

/// The version that SPDY clients must know: the end of a command is told as a `Status`.
const VERSION: &str = "v4.channel.k8s.io";
/// How long a SPDY client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// How long the last bytes may take after the end of the command.
const CLOSING: Duration = Duration::from_secs(10);

/// What the client asked for. A SPDY client opens a stream for each, and one for errors.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal, whose sizes the client sends.
    pub tty: bool,
}

/// An accepted upgrade whose 101 has yet to be sent.
pub enum Opening {
    /// To a WebSocket.
    WebSocket(websocket::Opening),
    /// To a SPDY session.
    Spdy(spdy::Opening, Wanted),
}

/// What the command's output goes to. Its methods wait while the client does not read.
pub enum Sender {
    /// Channels.
    WebSocket(websocket::Sender),
    /// Streams, by the channel that they stand for.
    Spdy(BTreeMap<u8, StreamSender>),
}

/// What the client sends.
pub enum Receiver {
    /// Channels.
    WebSocket(websocket::Receiver),
    /// Streams.
    Spdy {
        /// What comes on them.
        frames: BoxStream<'static, Frame>,
        /// The connection.
        session: Session,
    },
}

/// Accepts an upgrade to whatever the client asks for.
///
/// Answer the request with the response, and await [`Opening::streams`] in a task of its own.
pub fn accept(request: &mut Request<Body>, wanted: Wanted) -> Result<(Response<Body>, Opening), Refused> {
    if spdy::is_upgrade(request.headers()) {
        let (response, opening) = spdy::accept(request, VERSION)?;
        return Ok((response, Opening::Spdy(opening, wanted)));
    }
    let (response, opening) = websocket::accept(request, CHANNELS)?;
    Ok((response, Opening::WebSocket(opening)))
}

impl Opening {
    /// Resolves once the 101 has been sent and the client has opened what it asked for. Dropping the future closes
    /// the connection.
    pub async fn streams(self, env: &Env) -> Result<(Sender, Receiver), StreamError> {
        match self {
            Self::WebSocket(opening) => {
                let channels = opening.channels().await?;
                Ok((Sender::WebSocket(channels.sender), Receiver::WebSocket(channels.receiver)))
            }
            Self::Spdy(opening, wanted) => {
                let session = opening.session(env).await.map_err(|ended| StreamError(ended.to_string()))?;
                let opened = env::timeout(&**env, OPENING, opened(session, wanted)).await;
                opened.ok_or_else(|| StreamError(format!("the client did not open its streams within {OPENING:?}")))?
            }
        }
    }
}

/// Waits for the streams that were asked for.
async fn opened(mut session: Session, wanted: Wanted) -> Result<(Sender, Receiver), StreamError> {
    let asked = [(ERROR, true), (STDIN, wanted.stdin), (STDOUT, wanted.stdout), (STDERR, wanted.stderr)];
    let mut missing: Vec<u8> = asked.into_iter().filter(|(_, asked)| *asked).map(|(channel, _)| channel).collect();
    if wanted.tty {
        missing.push(RESIZE);
    }
    let (mut senders, mut inputs) = (BTreeMap::new(), Vec::new());
    while !missing.is_empty() {
        let Some(stream) = session.accept().await else {
            return Err(StreamError("the client left before it had opened its streams".into()));
        };
        let kind = stream.header("streamtype");
        let channel = channel(kind).filter(|channel| missing.contains(channel));
        let channel = channel.ok_or_else(|| StreamError(format!("a stream of type {kind:?} was not asked for")))?;
        missing.retain(|other| *other != channel);
        if matches!(channel, STDIN | RESIZE) {
            inputs.push(frames(channel, stream.receiver));
        }
        senders.insert(channel, stream.sender);
    }
    let frames = stream::select_all(inputs).boxed();
    Ok((Sender::Spdy(senders), Receiver::Spdy { frames, session }))
}

fn channel(kind: &str) -> Option<u8> {
    let names = [("error", ERROR), ("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR), ("resize", RESIZE)];
    names.into_iter().find(|(name, _)| *name == kind).map(|(_, channel)| channel)
}

/// What comes on one stream, and its end.
fn frames(channel: u8, receiver: StreamReceiver) -> BoxStream<'static, Frame> {
    let pieces = stream::unfold(receiver, move |mut receiver| async move {
        let bytes = receiver.next().await?;
        Some((Frame::Data { channel, bytes }, receiver))
    });
    pieces.chain(stream::once(async move { Frame::Ended(channel) })).boxed()
}

impl Sender {
    /// Sends bytes on a channel. Not cancel-safe: a dropped call may have sent them or not.
    pub async fn send(&self, channel: u8, bytes: &[u8]) -> Result<(), StreamError> {
        match self {
            Self::WebSocket(sender) => sender.send(channel, bytes).await,
            Self::Spdy(streams) => match streams.get(&channel) {
                Some(stream) => stream.send(bytes).await.map_err(|ended| StreamError(ended.to_string())),
                None => Ok(()),
            },
        }
    }

    /// Says that nothing more comes.
    pub async fn close(&self) -> Result<(), StreamError> {
        match self {
            Self::WebSocket(sender) => sender.close().await,
            Self::Spdy(streams) => {
                for stream in streams.values() {
                    stream.finish().await.map_err(|ended| StreamError(ended.to_string()))?;
                }
                Ok(())
            }
        }
    }
}

impl Receiver {
    /// What the client sent next; `None` once it has left. Cancel-safe.
    pub async fn next(&mut self) -> Option<Frame> {
        match self {
            Self::WebSocket(receiver) => receiver.next().await?.ok(),
            Self::Spdy { frames, session } => tokio::select! {
                biased;
                Some(frame) = frames.next() => Some(frame),
                // A stream too many is nobody's; it is let go.
                () = ended(session) => None,
            },
        }
    }

    /// Waits until what was sent has left this machine, within limits. Drop every [`Sender`] first.
    pub async fn close(self, env: &Env) {
        match self {
            Self::WebSocket(receiver) => receiver.drain(env, CLOSING).await,
            Self::Spdy { frames, session } => {
                drop(frames);
                env::timeout(&**env, CLOSING, session.close()).await;
            }
        }
    }
}

async fn ended(session: &mut Session) {
    while session.accept().await.is_some() {}
}
