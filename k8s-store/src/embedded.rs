//! The durable backend: one process, one folder, everything in memory, every commit in a log before it is
//! acknowledged.
//!
//! ```text
//! callers -> queue -> committer: decide -> append + fdatasync -> publish -> answer
//!                                              |                    |
//!                                        log segments        entries, history  -> readers and watches
//!                                              |                    |
//!                                         recycled <- snapshot <- clone (copy on write)
//! ```
//!
//! The folder holds `lock`, `log-*` (segments), `free-*` (segments to be used again) and `snapshot-*`.

mod backup;
mod codec;
mod committer;
pub(crate) mod disk;
pub(crate) mod frame;
mod lock;
pub(crate) mod log;
mod queue;
mod recovery;
pub(crate) mod simulated;
mod snapshot;
mod snapshotter;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
};

use k8s_core::env::Env;
use parking_lot::Mutex;

pub use self::backup::REVISIONS_SKIPPED;
use self::{
    committer::Committer,
    disk::{Disk, Flush, Native, failed, flush},
    log::Counters,
    queue::Queue,
    recovery::recover,
    snapshotter::Snapshotter,
};
use crate::{
    DiskStatistics, Retention, StoreError,
    core::{Core, Fault},
    engine::{Engine, Writer, impl_store},
    plan::{Answer, Command},
};

/// A durable store in a folder of the local file system.
///
/// Reads are served from memory. Writes of all callers share flushes of the disk. One thread writes the log, and a
/// second one a snapshot now and then; both block, so under a paused clock use [`Memory`](crate::Memory).
///
/// If the disk is full, the store serves reads on and refuses writes with [`StoreError::Full`] until there is space.
/// If the disk fails in another way, it refuses writes with [`StoreError::ReadOnly`] for good; the commits that were
/// under way get [`StoreError::Unavailable`]. A failed flush is not tried again: only reopening finds out what the disk
/// holds.
///
/// Opening reads the older of two snapshots and the log after it, which is about twice
/// [`EmbeddedOptions::snapshot_after_bytes`] or twice everything stored, whichever is more.
///
/// Dropping the value closes the store.
pub struct Embedded {
    engine: Engine<Submit>,
    counters: Arc<Counters>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// How an [`Embedded`] store treats its disk and its memory. The default suits most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How much history is kept for watches and older lists.
    pub retention: Retention,
    /// The size of a log segment. A larger transaction gets a larger segment.
    pub segment_bytes: u64,
    /// A snapshot is written when the log since the last one has grown to this, or to the size of everything stored,
    /// whichever is more. Two snapshots' worth of log is kept, so that watches resume over a restart.
    pub snapshot_after_bytes: u64,
}

impl Default for EmbeddedOptions {
    /// The usual history, segments of 4 MiB, a snapshot every 16 MiB or more.
    fn default() -> Self {
        Self { retention: Retention::default(), segment_bytes: 4 << 20, snapshot_after_bytes: 16 << 20 }
    }
}

/// What a store stands on.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) disk: Arc<dyn Disk>,
    /// How the log is flushed.
    pub(crate) flush: Flush,
    /// Whether snapshots are written by a thread of their own, or by the committer, which makes a run repeatable.
    pub(crate) snapshot_aside: bool,
}

impl Surroundings {
    pub(crate) fn native() -> Self {
        Self { disk: Arc::new(Native), flush: flush(), snapshot_aside: true }
    }

    /// A disk that is simulated.
    pub(crate) fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk, flush: flush(), snapshot_aside: false }
    }
}

impl Embedded {
    /// Opens the store in `folder`, creating both as needed. Blocks while it reads the files.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if the folder is open elsewhere, [`StoreError::Corrupt`] if acknowledged writes cannot be
    /// recovered from it, [`StoreError::Disk`] if the operating system refuses.
    pub fn open(folder: &Path, env: Env, options: EmbeddedOptions) -> Result<Arc<Self>, StoreError> {
        Self::open_on(&Surroundings::native(), folder, env, &options)
    }

    pub(crate) fn open_on(
        surroundings: &Surroundings,
        folder: &Path,
        env: Env,
        options: &EmbeddedOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let disk = &surroundings.disk;
        disk.create_folder(folder).map_err(failed("create the folder", folder))?;
        let lock = disk.lock(folder)?;
        let counters = Arc::new(Counters::default());
        let recovered = recover(folder, env, options, surroundings, &counters)?;
        let core = Arc::new(recovered.core);
        let queue = Arc::new(Queue::new());
        let committer = Committer {
            core: core.clone(),
            queue: queue.clone(),
            log: recovered.log,
            store: recovered.store,
            snapshot_after_bytes: options.snapshot_after_bytes,
            snapshotter: Snapshotter::new(surroundings, folder.to_owned(), recovered.snapshots),
            counters: counters.clone(),
            full: false,
            lock,
        };
        let thread = thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || committer.run())
            .map_err(failed("start the thread that writes", folder))?;
        let engine = Engine::new(core.clone(), Arc::new(Submit { core, queue }));
        Ok(Arc::new(Self { engine, counters, committer: Mutex::new(Some(thread)) }))
    }

    /// Carries out what was handed over, ends the watches and lets go of the folder. Blocks for about one flush.
    /// Afterwards everything answers [`StoreError::Closed`]. Closing twice is harmless.
    pub fn close(&self) {
        self.engine.writer.queue.close();
        if let Some(thread) = self.committer.lock().take() {
            // A panic of the committer has already made the store read-only; there is nothing to add.
            let _ = thread.join();
        }
        self.engine.core.fail(Fault::Closed);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl_store!(Embedded, |store, mut statistics| {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let counters = &store.counters;
    statistics.disk = Some(DiskStatistics {
        log_bytes: get(&counters.log_bytes),
        flushes: get(&counters.flushes),
        segments_begun: get(&counters.segments_begun),
        segments_recycled: get(&counters.segments_recycled),
        snapshots: get(&counters.snapshots),
        snapshots_failed: get(&counters.snapshots_failed),
        replayed: get(&counters.replayed),
        torn_bytes: get(&counters.torn_bytes),
    });
    statistics
});

/// Hands commands to the committer.
struct Submit {
    core: Arc<Core>,
    queue: Arc<Queue>,
}

impl Writer for Submit {
    async fn write(&self, command: Command) -> Result<Answer, StoreError> {
        self.core.published.read().writable()?;
        self.queue.submit(command).await
    }
}
