//! The shared change log: a ring of the latest changes, which every watch and every older list reads through a
//! position of its own. Pure: no lock, no clock, no disk.

use std::{collections::VecDeque, sync::Arc};

use crate::{Change, Revision, StoreError};

/// How much history a store keeps by itself, before anybody compacts. Beyond either bound the oldest revision is
/// dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most this many revisions.
    pub revisions: usize,
    /// At most about this many bytes of memory, old values included.
    pub bytes: usize,
}

impl Default for Retention {
    /// 100,000 revisions or 32 MiB.
    fn default() -> Self {
        Self { revisions: 100_000, bytes: 32 << 20 }
    }
}

/// Invariant: `changes[i].revision == oldest + 1 + i`.
pub(crate) struct History {
    changes: VecDeque<Arc<Change>>,
    oldest: Revision,
    bytes: usize,
    retention: Retention,
}

impl History {
    /// A history that begins after `oldest`.
    pub(crate) fn new(oldest: Revision, retention: Retention) -> Self {
        Self { changes: VecDeque::new(), oldest, bytes: 0, retention }
    }

    /// The oldest revision that can be listed, and after which a watch can start.
    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn head(&self) -> Revision {
        Revision(self.oldest.0 + self.changes.len() as u64)
    }

    /// Takes the next change and drops what is beyond the retention. The caller has checked that it is the next.
    pub(crate) fn push(&mut self, change: Arc<Change>) {
        self.bytes += change.weight();
        self.changes.push_back(change);
        while self.changes.len() > self.retention.revisions || self.bytes > self.retention.bytes {
            self.drop_oldest();
        }
    }

    /// Forgets every change up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self.oldest < revision && !self.changes.is_empty() {
            self.drop_oldest();
        }
    }

    /// The changes with a revision greater than `revision`, oldest first, or why they cannot be told.
    pub(crate) fn after(&self, revision: Revision) -> Result<impl Iterator<Item = &Arc<Change>>, StoreError> {
        if revision < self.oldest {
            return Err(StoreError::Compacted { oldest: self.oldest });
        }
        if revision > self.head() {
            return Err(StoreError::Future { head: self.head() });
        }
        Ok(self.changes.range((revision.0 - self.oldest.0) as usize..))
    }

    fn drop_oldest(&mut self) {
        if let Some(change) = self.changes.pop_front() {
            self.bytes -= change.weight();
            self.oldest = change.revision;
        }
    }
}
