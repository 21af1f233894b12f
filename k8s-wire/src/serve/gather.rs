//! Writes gathered on their way to a connection: many small frames become few TLS records and few system calls.
//!
//! HTTP/2 flushes after every data frame, and each flush of a TLS stream is a record and a system call of its own.
//! Here a flush only says that bytes are due. They go out when the connection's task has nothing more to do: it lets
//! the tasks that are ready run first, takes the frames that these hand it, and then writes all of them at once.
//! Nothing ever waits for time to pass.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is gathered before it is written at once. A writer beyond it waits for the connection.
const FULL: usize = 64 * 1024;
/// A larger buffer is given back when less than [`FULL`] was written: then what was long has come to its end.
const KEPT: usize = 16 * 1024;

/// A connection and what is to be written to it. Locked by the one task that serves it.
struct Pipe<IO> {
    io: IO,
    buffer: Vec<u8>,
    /// How much of `buffer` has been written.
    written: usize,
    /// Whether the protocol was told to wait because the buffer is full.
    is_waited_for: bool,
}

impl<IO: AsyncWrite + Unpin> Pipe<IO> {
    fn take(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= FULL {
            self.is_waited_for = true;
            ready!(self.drain(cx))?;
        }
        self.is_waited_for = false;
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    /// Writes everything that was gathered.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        let goes_on = self.buffer.len() >= FULL;
        self.written = 0;
        self.buffer.clear();
        if !goes_on {
            self.buffer.shrink_to(KEPT);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// What the protocol reads from and writes to.
pub struct Gathered<IO>(Arc<Mutex<Pipe<IO>>>);

impl<IO: AsyncRead + Unpin> AsyncRead for Gathered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, into)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// [`Gathering`] flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.lock();
        ready!(pipe.drain(cx))?;
        Pin::new(&mut pipe.io).poll_shutdown(cx)
    }
}

/// A protocol's connection over [`Gathered`], and the writing of what it left there.
pub struct Gathering<C, IO> {
    connection: Pin<Box<C>>,
    finish: fn(Pin<&mut C>),
    pipe: Arc<Mutex<Pipe<IO>>>,
    /// Whether others were let run since something was gathered.
    has_yielded: bool,
}

impl<C, IO> Gathering<C, IO> {
    /// Starts a protocol on a connection; `finish` tells it to end gracefully.
    pub fn new(io: IO, start: impl FnOnce(Gathered<IO>) -> C, finish: fn(Pin<&mut C>)) -> Self {
        let pipe = Arc::new(Mutex::new(Pipe { io, buffer: Vec::new(), written: 0, is_waited_for: false }));
        Self { connection: Box::pin(start(Gathered(pipe.clone()))), finish, pipe, has_yielded: false }
    }

    /// Ends the protocol gracefully; this resolves when that is done.
    pub fn finish(self: Pin<&mut Self>) {
        let this = self.get_mut();
        (this.finish)(this.connection.as_mut());
    }
}

impl<C, IO> Future for Gathering<C, IO>
where
    C: Future<Output = hyper::Result<()>>,
    IO: AsyncWrite + Unpin,
{
    type Output = Result<(), crate::body::BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
            return Poll::Ready(ended.map_err(Into::into));
        }
        let mut pipe = this.pipe.lock();
        if pipe.buffer.is_empty() {
            this.has_yielded = false;
            return Poll::Pending;
        }
        if !this.has_yielded && pipe.buffer.len() < FULL {
            this.has_yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match pipe.drain(cx) {
            Poll::Ready(Ok(())) => {
                this.has_yielded = false;
                // Its own wish to write was forgotten with the end of this wait for the connection.
                if std::mem::take(&mut pipe.is_waited_for) {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}
