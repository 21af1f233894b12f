//! A connection in memory whose other side has said everything beforehand.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;

/// Gives what was said in pieces, then its end; keeps what is written.
pub struct Said {
    rest: Vec<u8>,
    at: usize,
    /// The longest piece.
    piece: usize,
    /// What was written.
    pub written: Arc<Mutex<Vec<u8>>>,
}

impl Said {
    /// A connection whose reads take at most `piece` bytes.
    pub fn new(bytes: Vec<u8>, piece: usize) -> Self {
        Self { rest: bytes, at: 0, piece, written: Arc::default() }
    }
}

impl AsyncRead for Said {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let rest = &self.rest[self.at..];
        let taken = rest.len().min(self.piece).min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Poll::Ready(Ok(taken))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.written.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
