//! The storage contract: what every backend promises.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::{Committed, Entry, Key, LeaseId, Revision, StoreError, Transaction, WatchStream};

/// A versioned, watchable map from keys to bytes. It never looks into a value.
///
/// # Promises
///
/// Each is tested by [`contract!`](crate::contract!), over every backend.
///
/// - **Linearizable.** [`commit`](Self::commit), [`get`](Self::get), [`head`](Self::head) and a
///   [`list`](Self::list) without `at` take effect at one moment between call and return.
/// - **Durable.** What a backend that has a disk acknowledged is there after a crash.
/// - **Dense.** Every commit that changes something takes the next [`Revision`]; nothing else does. On a server that
///   others write to as well, their commits count, too: then a store's own revisions rise, with gaps.
/// - **One change feed.** A watch is *ordered* (revisions rise), *unique* (no revision twice), *atomic* (all of a
///   commit in one item), *reliable* (nothing under the prefix is left out), *resumable* (from any kept revision)
///   and *bookmarkable* (a [`Progress`](crate::WatchItem::Progress) never overtakes a change).
/// - **No gaps.** A revision older than the kept history answers [`StoreError::Compacted`], never with less.
/// - **Only the prefix.** Reads and watches never show a key that does not start with the prefix.
///
/// # Cancellation
///
/// Reads, `watch`, `head` and `progress` may be dropped at any moment. A dropped `commit`, `grant`, `revoke` or
/// `compact` may or may not have happened, as after [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest revision, linearizable: everything acknowledged before the call is at or below it.
    async fn head(&self) -> Result<Revision, StoreError>;

    /// What is stored under the key now, linearizable.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// The entries whose keys start with `prefix`, in the order of the keys, as they were at one revision.
    ///
    /// Without [`Page::at`] that is the newest one; further pages name the revision of the first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Compacted`] and [`StoreError::Future`] for an `at` that cannot be answered.
    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError>;

    /// Every change with a revision greater than `from` to keys that start with `prefix`, past and to come.
    ///
    /// A list followed by a watch from its revision misses nothing and repeats nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Compacted`] and [`StoreError::Future`], at once if `from` is out of range, or as the last item of
    /// the stream if the reader falls behind the kept history.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Checks the guards and applies the changes, atomically. Linearizable; durable when it returns.
    ///
    /// A transaction that changes nothing takes no revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if a guard does not hold. After [`StoreError::Unavailable`] the outcome is unknown.
    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError>;

    /// Forgets what was before `revision`: afterwards the oldest state that can be listed is the one at `revision`, and
    /// the oldest change that can be watched is the one after it. Compacting what is compacted is a success.
    ///
    /// # Errors
    ///
    /// [`StoreError::Future`] if the revision has not happened.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// Asks every open watch to yield [`WatchItem::Progress`](crate::WatchItem::Progress) once it has yielded every
    /// change up to the head, which is returned. Requests that a watch has not answered yet are answered together.
    async fn progress(&self) -> Result<Revision, StoreError>;

    /// Starts a lease: unless kept alive, it ends `ttl` from now, and the keys attached to it are deleted in one
    /// commit. After a restart every lease has its whole `ttl` again.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Gives the lease its whole time again, and returns that time.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseNotFound`] if it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError>;

    /// Ends the lease now and deletes the keys attached to it, in one commit.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseNotFound`] if it has ended.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// What the store is doing, for metrics and for people.
    async fn statistics(&self) -> Result<Statistics, StoreError>;

    /// A digest of every key, value, created and modified revision and lease. Two stores with equal entries have
    /// equal digests, whatever else happened to them. Costs a pass over everything stored.
    async fn digest(&self) -> Result<Digest, StoreError>;
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The state at this revision; `None` is the newest.
    pub at: Option<Revision>,
    /// Only keys greater than this one.
    pub after: Option<Key>,
    /// At most this many entries; `None` is all of them.
    pub limit: Option<usize>,
}

/// A list, or a page of one.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// The revision whose state this is; a watch from here misses nothing.
    pub revision: Revision,
    /// Whether there are entries after the last one.
    pub more: bool,
    /// How many entries there are after the last one. Counting them costs a walk, with a limit only.
    pub remaining: u64,
}

/// A fingerprint of everything stored, for comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// Figures about a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The newest revision.
    pub head: Revision,
    /// The oldest revision that can still be listed and watched from.
    pub oldest: Revision,
    /// How many keys there are.
    pub entries: u64,
    /// The bytes of all keys and values; zero on a backend that does not count them.
    pub bytes: u64,
    /// An estimate of the memory that the kept history holds, in bytes.
    pub history_bytes: u64,
    /// Open watches.
    pub watches: u64,
    /// Leases that have not ended.
    pub leases: u64,
    /// Why the store takes no writes, if it does not. After a full disk this goes away by itself with the next write.
    pub read_only: Option<String>,
    /// What happens on the disk; `None` for a backend that has none.
    pub disk: Option<DiskStatistics>,
}

/// Figures about a store's files, counted since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStatistics {
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Flushes of the log, each of which made one or more commits durable.
    pub flushes: u64,
    /// Log segments begun.
    pub segments_begun: u64,
    /// Log segments used again for new records.
    pub segments_recycled: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that could not be written. The log grows until one succeeds.
    pub snapshots_failed: u64,
    /// Records replayed when the store was opened.
    pub replayed: u64,
    /// Bytes of a record that was being written at a crash, cut off when the store was opened.
    pub torn_bytes: u64,
}

impl Digest {
    /// The digest of entries in the order of their keys: for a store around a store, or of a list of everything.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut hash = Sha256::new();
        for entry in entries {
            hash.update((entry.key.len() as u64).to_le_bytes());
            hash.update(entry.key.as_bytes());
            hash.update((entry.value.len() as u64).to_le_bytes());
            hash.update(&entry.value);
            hash.update(entry.created.0.to_le_bytes());
            hash.update(entry.modified.0.to_le_bytes());
            hash.update([u8::from(entry.lease.is_some())]);
            hash.update(entry.lease.map_or(0, |lease| lease.0).to_le_bytes());
        }
        Self(hash.finalize().into())
    }
}

impl Page {
    /// Everything, now.
    pub fn all() -> Self {
        Self::default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
