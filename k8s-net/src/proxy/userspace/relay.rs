//! Bytes between two TCP streams, with a bound on memory: a connection that is idle holds no buffer.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::coop::consume_budget,
};

/// How many buffers are kept for the next one who needs one. Beyond it they go back to the allocator.
const KEPT: usize = 64;

/// Buffers that connections take turns with.
pub(super) struct Buffers {
    size: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer, until it is dropped.
pub(super) struct Buffer {
    pub(super) bytes: Box<[u8]>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Buffers of `size` bytes each.
    pub(super) fn of(size: usize) -> Arc<Self> {
        Arc::new(Self { size, free: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.size].into_boxed_slice());
        Buffer { bytes, home: Arc::clone(self) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Carries both directions until both have ended. One that ends first is closed towards its reader and leaves the other
/// alone.
///
/// Whoever reads slowly slows its writer down: at most one buffer is held for each direction. Not cancel-safe: what is in a
/// buffer is lost with the connection.
pub(super) async fn relay(one: &mut TcpStream, other: &mut TcpStream, buffers: &Arc<Buffers>) -> io::Result<()> {
    let (from_one, to_one) = one.split();
    let (from_other, to_other) = other.split();
    tokio::try_join!(biased; carry(from_one, to_other, buffers), carry(from_other, to_one, buffers))?;
    Ok(())
}

async fn carry(from: ReadHalf<'_>, mut to: WriteHalf<'_>, buffers: &Arc<Buffers>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        loop {
            match from.try_read(&mut buffer.bytes) {
                Ok(0) => return to.shutdown().await,
                Ok(length) => write(&to, &buffer.bytes[..length]).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            // So that one fast pair does not keep others waiting.
            consume_budget().await;
        }
    }
}

async fn write(to: &WriteHalf<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
