//! The one thread that writes: it takes what is queued, decides it, makes it durable with one flush, publishes it, and
//! only then answers.
//!
//! While a flush runs, the next batch gathers by itself; nobody ever sleeps to make a batch larger.

use std::{
    any::Any,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    codec,
    log::{AppendError, Counters, Log},
    queue::{Queue, Reply, Request},
    snapshot::Snapshot,
    snapshotter::Snapshotter,
};
use crate::{
    StoreError,
    core::{Core, Fault},
    plan::{Answer, Effect, Plan},
};

pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Log,
    pub(crate) store: u64,
    /// A snapshot is due when the log since the last one is longer than this, and than what is stored.
    pub(crate) snapshot_after_bytes: u64,
    pub(crate) snapshotter: Snapshotter,
    pub(crate) counters: Arc<Counters>,
    /// The last batch found no space.
    pub(crate) full: bool,
    /// Held as long as anything may be written.
    pub(crate) lock: Box<dyn Any + Send>,
}

/// A batch that has been decided and not yet happened.
struct Decided {
    frame: Vec<u8>,
    effects: Vec<Effect>,
    answers: Vec<(Reply, Result<Answer, StoreError>)>,
}

impl Committer {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let ended = Ended { core: self.core.clone(), queue: self.queue.clone() };
        while let Some(batch) = self.queue.take() {
            self.batch(batch.requests);
            for reply in batch.freezes {
                // Whoever asked may have gone.
                let _ = reply.send(self.take_snapshot());
            }
            self.snapshot_if_due();
        }
        self.snapshotter.stop();
        drop(ended);
        drop(self.lock);
    }

    fn batch(&mut self, batch: Vec<Request>) {
        if let Err(refused) = self.core.published.read().writable() {
            return batch.into_iter().for_each(|request| answer(request.reply, Err(refused.clone())));
        }
        if batch.is_empty() {
            return;
        }
        let decided = self.decide(batch);
        let outcome = self.make_durable(decided.frame, &decided.effects);
        let outcome = outcome.and_then(|()| self.core.publish(&decided.effects));
        for (reply, result) in decided.answers {
            // A refusal, too, may rest on what this batch failed to write.
            answer(reply, outcome.clone().and(result));
        }
    }

    fn decide(&mut self, batch: Vec<Request>) -> Decided {
        let now = self.core.env.monotonic();
        let published = self.core.published.read();
        let mut leases = self.core.leases.lock();
        let mut plan = Plan::new(&published.state, published.history.oldest(), &mut leases, now);
        let mut decided = Decided { frame: self.log.begin_frame(), effects: Vec::new(), answers: Vec::new() };
        for Request { command, reply, .. } in batch {
            let result = plan.add(command).map(|(answer, effect)| {
                if !effect.is_empty() {
                    codec::encode_effect(&mut decided.frame, &effect);
                    decided.effects.push(effect);
                }
                answer
            });
            decided.answers.push((reply, result));
        }
        decided
    }

    fn make_durable(&mut self, frame: Vec<u8>, effects: &[Effect]) -> Result<(), StoreError> {
        if effects.is_empty() {
            self.log.cancel_frame(frame);
            return Ok(());
        }
        match self.log.append(frame) {
            Ok(()) => {
                self.core.leases.lock().settle();
                if std::mem::take(&mut self.full) {
                    tracing::info!("there is space again; the store takes writes");
                    self.core.has_space();
                }
                Ok(())
            }
            Err(AppendError::Full(reason)) => Err(self.wait_for_space(reason)),
            Err(AppendError::NotWritten(reason)) => {
                let reason = self.give_up(format!("the log cannot grow: {reason}"));
                Err(StoreError::ReadOnly { reason })
            }
            Err(AppendError::Unknown(reason)) => {
                Err(StoreError::Unavailable(self.give_up(format!("writing the log failed: {reason}"))))
            }
        }
    }

    /// Nothing of the batch has happened, so the next one may simply try.
    fn wait_for_space(&mut self, reason: String) -> StoreError {
        self.core.leases.lock().take_back();
        if !std::mem::replace(&mut self.full, true) {
            tracing::error!(reason, "the disk is full; the store takes no writes until there is space");
            self.core.fail(Fault::Full(reason.clone()));
        }
        StoreError::Full { reason }
    }

    /// After a failed flush nobody can know what the disk holds, and asking again may be answered falsely. So nothing
    /// is written any more; what was published before stays readable.
    fn give_up(&self, reason: String) -> String {
        tracing::error!(reason, "the store takes no more writes");
        self.core.fail(Fault::ReadOnly(reason.clone()));
        reason
    }

    fn snapshot_if_due(&mut self) {
        if let Some(outcome) = self.snapshotter.finished() {
            self.note_snapshot(outcome);
        }
        let (due_after, sound) = {
            let published = self.core.published.read();
            (self.snapshot_after_bytes.max(published.state.bytes).max(1), published.fault.is_none())
        };
        if sound && self.log.since_snapshot() >= due_after && !self.snapshotter.is_busy() {
            let snapshot = self.take_snapshot();
            self.log.snapshot_begun();
            if let Err(error) = self.snapshotter.start(snapshot) {
                self.note_failed(&error.to_string());
            }
        }
    }

    /// Everything as of the last frame: this thread is the only one that changes it.
    fn take_snapshot(&self) -> Snapshot {
        let published = self.core.published.read();
        let leases = self.core.leases.lock();
        Snapshot {
            store: self.store,
            sequence: self.log.sequence(),
            revision: published.state.head,
            entries: published.state.entries.clone(),
            leases: leases.iter().collect(),
            last_lease: leases.last(),
        }
    }

    /// `needed_from` is the log position that recovery needs from now on.
    fn note_snapshot(&mut self, outcome: Result<Option<u64>, (PathBuf, String)>) {
        match outcome {
            Ok(needed_from) => {
                self.counters.snapshots.fetch_add(1, Relaxed);
                if let Some(needed_from) = needed_from {
                    self.log.release(needed_from);
                }
            }
            Err((path, reason)) => self.note_failed(&format!("{}: {reason}", path.display())),
        }
    }

    fn note_failed(&self, reason: &str) {
        self.counters.snapshots_failed.fetch_add(1, Relaxed);
        tracing::warn!(reason, "a snapshot failed; the log grows until the next");
    }
}

/// Runs when the committer ends, also when it ends by a panic: nobody may wait for it in vain.
struct Ended {
    core: Arc<Core>,
    queue: Arc<Queue>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.fail(Fault::ReadOnly("the committer panicked".into()));
        }
        self.queue.abandon();
    }
}

fn answer(reply: Reply, result: Result<Answer, StoreError>) {
    // The caller may have gone; the outcome stands.
    let _ = reply.send(result);
}
