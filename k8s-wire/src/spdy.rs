//! SPDY/3.1, as upstream's clients and nodes still speak it inside upgraded connections: many streams on one.
//!
//! Only the server's side, and only what exec, attach and port-forwarding use: streams opened by the client, data both
//! ways, ends and resets, pings. Upstream's implementation has no flow control, so there is none here either: a stream that is not
//! read holds the whole session back, and nothing is buffered without bound.

mod accept;
mod frame;
mod headers;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use k8s_core::{
    env::{Env, Task},
    seam::node::ByteStream,
};
use tokio::sync::mpsc;

pub use self::accept::{Opening, accept, is_upgrade};
use self::{
    frame::{Control, Frame, MAX_FRAME_BYTES},
    headers::{HeaderReader, HeaderWriter, Headers},
};

/// How many streams the client may have open at once.
const MAX_STREAMS: usize = 1000;
/// How many pieces of data wait for the reader of one stream.
const STREAM_PIECES: usize = 16;
/// How many frames wait to be written.
const WRITE_FRAMES: usize = 16;
/// The largest piece that is sent in one frame.
const MAX_SEND_BYTES: usize = 32 * 1024;

/// A session that a client began. Dropping it closes the connection.
pub struct Session {
    opened: mpsc::Receiver<Stream>,
    reading: Task,
    writing: Task,
}

/// A stream that the client opened. Dropping it leaves it half open; call [`StreamSender::finish`].
pub struct Stream {
    /// What the client said of it, with names in lower case.
    pub headers: Headers,
    /// What the client sends.
    pub receiver: StreamReceiver,
    /// What is sent to the client.
    pub sender: StreamSender,
}

/// The receiving half of a stream.
pub struct StreamReceiver(mpsc::Receiver<Bytes>);

/// The sending half of a stream. Cloning shares.
#[derive(Clone)]
pub struct StreamSender {
    id: u32,
    frames: mpsc::Sender<Vec<u8>>,
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the SPDY session has ended")]
pub struct SessionEnded;

impl Session {
    /// Serves a session on a connection that has just been upgraded.
    pub fn serve(env: &Env, connection: Box<dyn ByteStream>) -> Self {
        let (mut read, mut write) = AsyncReadExt::split(connection);
        let (frames, mut to_write) = mpsc::channel::<Vec<u8>>(WRITE_FRAMES);
        let (streams, opened) = mpsc::channel(STREAM_PIECES);
        let writing = env.spawn(
            "SPDY writer",
            Box::pin(async move {
                while let Some(frame) = to_write.recv().await {
                    if write.write_all(&frame).await.is_err() || write.flush().await.is_err() {
                        return;
                    }
                }
                // Nobody can send any more: the session is over for us too.
                let _ = write.close().await;
            }),
        );
        let mut reader = Reader {
            streams,
            frames,
            open: BTreeMap::new(),
            headers: HeaderReader::new(),
            replies: HeaderWriter::new(),
        };
        let reading = env.spawn(
            "SPDY reader",
            Box::pin(async move {
                if let Err(why) = reader.run(&mut read).await {
                    tracing::debug!(why, "SPDY session ended");
                }
            }),
        );
        Self { opened, reading, writing }
    }

    /// The next stream that the client opens; `None` once the session has ended. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Resolves when everything that was sent is written, and the connection closed. Drop the streams first; what the
    /// client still sends is not read.
    pub async fn close(self) {
        drop(self.opened);
        self.reading.stop().await;
        // A panic was reported where it happened.
        let _ = self.writing.join().await;
    }
}

impl Stream {
    /// The value of a header, whose name is in lower case; empty if the client did not send it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

impl StreamReceiver {
    /// The next piece; `None` once the client has ended or reset its half. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

impl StreamSender {
    /// Sends bytes. Waits while the connection takes no more. Not cancel-safe: part of the bytes may have gone.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), SessionEnded> {
        for piece in bytes.chunks(MAX_SEND_BYTES) {
            self.frames.send(frame::data(self.id, piece, false)).await.map_err(|_| SessionEnded)?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub async fn finish(&self) -> Result<(), SessionEnded> {
        self.frames.send(frame::data(self.id, &[], true)).await.map_err(|_| SessionEnded)
    }
}

struct Reader {
    streams: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Vec<u8>>,
    /// Where the data of each stream goes.
    open: BTreeMap<u32, mpsc::Sender<Bytes>>,
    headers: HeaderReader,
    replies: HeaderWriter,
}

impl Reader {
    async fn run(&mut self, connection: &mut (impl futures::AsyncRead + Unpin)) -> Result<(), &'static str> {
        loop {
            let mut head = [0; 8];
            if connection.read_exact(&mut head).await.is_err() {
                return Ok(());
            }
            let (kind, length) = frame::read_head(&head);
            if length > MAX_FRAME_BYTES {
                return Err("a frame is too large");
            }
            let mut payload = vec![0; length];
            connection.read_exact(&mut payload).await.map_err(|_| "a frame was cut off")?;
            self.take(kind, payload).await?;
        }
    }

    async fn take(&mut self, kind: Frame, payload: Vec<u8>) -> Result<(), &'static str> {
        match kind {
            Frame::Data { stream, last } => {
                if let Some(to) = self.open.get(&stream)
                    && !payload.is_empty()
                {
                    // Whoever dropped the stream wants nothing more of it.
                    let _ = to.send(payload.into()).await;
                }
                if last {
                    self.open.remove(&stream);
                }
            }
            Frame::Control { kind: Control::SynStream, last } => self.open(&payload, last).await?,
            Frame::Control { kind: Control::RstStream, .. } => {
                self.open.remove(&frame::number(&payload).ok_or("a reset names no stream")?);
            }
            Frame::Control { kind: Control::Ping, .. } => {
                self.frames.send(frame::control(Control::Ping, 0, &payload)).await.map_err(|_| "nobody writes")?;
            }
            Frame::Control { kind: Control::Headers, .. } => {
                // They add nothing here, but the compression's state runs through them.
                self.headers.read(payload.get(4..).ok_or("headers without a stream")?)?;
            }
            Frame::Control { kind: Control::GoAway | Control::Other, .. } => {}
            Frame::Control { kind: Control::SynReply, .. } => return Err("a reply to nothing"),
        }
        Ok(())
    }

    async fn open(&mut self, payload: &[u8], last: bool) -> Result<(), &'static str> {
        let id = frame::number(payload).filter(|id| id % 2 == 1).ok_or("a client's stream has an odd number")?;
        // Behind the number: the stream it belongs to, its priority, an unused byte.
        let headers = self.headers.read(payload.get(10..).ok_or("a stream without headers")?)?;
        if self.open.contains_key(&id) || self.open.len() >= MAX_STREAMS {
            return Err("a stream was opened twice, or too many are open");
        }
        let (to, receiver) = mpsc::channel(STREAM_PIECES);
        if !last {
            self.open.insert(id, to);
        }
        let mut reply = id.to_be_bytes().to_vec();
        self.replies.write_none(&mut reply);
        self.frames.send(frame::control(Control::SynReply, 0, &reply)).await.map_err(|_| "nobody writes")?;
        let sender = StreamSender { id, frames: self.frames.clone() };
        let stream = Stream { headers, receiver: StreamReceiver(receiver), sender };
        self.streams.send(stream).await.map_err(|_| "nobody accepts streams")
    }
}
