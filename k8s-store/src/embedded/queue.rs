//! Commands on their way to the committer.

use std::sync::mpsc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::snapshot::Snapshot;
use crate::{
    StoreError,
    plan::{Answer, Command},
};

/// How much may wait for the committer. A command that finds no room waits, and is dropped with its caller.
const MAX_QUEUED_KIB: u32 = 64 << 10;
/// How much the committer takes at a time. More would only make the first of a batch wait longer.
const MAX_BATCH_KIB: u32 = 4 << 10;

pub(crate) type Reply = oneshot::Sender<Result<Answer, StoreError>>;

/// A command and who waits for its outcome.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: Reply,
    weight: u32,
}

/// What the committer does next.
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    /// To be answered after the requests.
    pub(crate) freezes: Vec<mpsc::SyncSender<Snapshot>>,
}

/// Many producers, one consumer, which is a thread.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    room: Semaphore,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    /// Who wants everything as of the next moment at which nothing is under way.
    freezes: Vec<mpsc::SyncSender<Snapshot>>,
    closed: bool,
    /// The consumer sleeps on `ready`.
    idle: bool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), ready: Condvar::new(), room: Semaphore::new(MAX_QUEUED_KIB as usize) }
    }

    /// Hands the command over and returns its outcome. Dropping the future before it is handed over takes it back.
    pub(crate) async fn submit(&self, command: Command) -> Result<Answer, StoreError> {
        let weight = weight(&command);
        self.room.acquire_many(weight).await.map_err(|_| StoreError::Closed)?.forget();
        let (reply, outcome) = oneshot::channel();
        self.push(Request { command, reply, weight })?;
        let ended = |_| StoreError::Unavailable("the committer ended before it answered".into());
        outcome.await.map_err(ended)?
    }

    /// Everything stored, as of one moment. Blocks for about one batch.
    pub(crate) fn freeze(&self) -> Result<Snapshot, StoreError> {
        let (reply, frozen) = mpsc::sync_channel(1);
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(StoreError::Closed);
        }
        waiting.freezes.push(reply);
        self.ready.notify_one();
        drop(waiting);
        frozen.recv().map_err(|_| StoreError::Closed)
    }

    fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(StoreError::Closed);
        }
        waiting.requests.push(request);
        if std::mem::take(&mut waiting.idle) {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// The next batch, in the order of submission; waits for one. `None` when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() && waiting.freezes.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.idle = true;
            self.ready.wait(&mut waiting);
        }
        let count = batch_length(&waiting.requests);
        let rest = waiting.requests.split_off(count);
        let requests = std::mem::replace(&mut waiting.requests, rest);
        let freezes = std::mem::take(&mut waiting.freezes);
        drop(waiting);
        self.room.add_permits(requests.iter().map(|request| request.weight as usize).sum());
        Some(Batch { requests, freezes })
    }

    /// Takes no more commands. What was handed over is still carried out.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        self.room.close();
        self.ready.notify_one();
    }

    /// Forgets what is left, whose callers learn that the outcome is unknown.
    pub(crate) fn abandon(&self) {
        self.close();
        let mut waiting = self.waiting.lock();
        waiting.requests.clear();
        waiting.freezes.clear();
    }
}

fn batch_length(requests: &[Request]) -> usize {
    let mut total = 0;
    let fits = |request: &&Request| {
        total += request.weight;
        total <= MAX_BATCH_KIB
    };
    requests.iter().take_while(fits).count().max(1).min(requests.len())
}

/// What a command takes of the queue's room, in KiB: at least one, never more than the room there is.
fn weight(command: &Command) -> u32 {
    let bytes = match command {
        Command::Commit(transaction) => transaction.size(),
        _ => 0,
    };
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(MAX_QUEUED_KIB)
}
