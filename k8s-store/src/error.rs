//! Why a store did not do what it was asked, and what that obliges the caller to do.

use std::{path::PathBuf, sync::Arc};

use crate::{Entry, Key, LeaseId, Revision};

/// Why an operation of a [`Store`](crate::Store) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A guard does not hold; nothing was changed. The caller decides again on `found`, or gives up.
    #[error("the guard on key {key} does not hold: {}", describe(.found))]
    Conflict {
        /// The key of the first guard that does not hold.
        key: Key,
        /// What is there instead.
        found: Option<Entry>,
    },

    /// The revision is older than the kept history. The caller lists anew and watches from that list's revision.
    #[error("the revision has been compacted; the oldest that can still be read is {oldest}")]
    Compacted {
        /// The oldest revision that can be listed, and that a watch can start after.
        oldest: Revision,
    },

    /// The revision has not happened. The caller has mixed up two stores, or the store has lost writes: it must not go
    /// on with what it has cached, but list anew.
    #[error("the revision is in the future; the store is at {head}")]
    Future {
        /// The newest revision.
        head: Revision,
    },

    /// The transaction is larger than the store takes; nothing was changed. Trying again is useless.
    #[error("the transaction has {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// The size of the transaction.
        bytes: usize,
        /// The largest that is taken.
        limit: usize,
    },

    /// The request contradicts itself; nothing was changed. Trying again is useless.
    #[error("the request is not valid: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },

    /// The lease has expired, was revoked, or never was; nothing was changed. The caller takes a new lease.
    #[error("there is no lease {lease}")]
    LeaseNotFound {
        /// The lease that was named.
        lease: LeaseId,
    },

    /// The value under a key is there and cannot be read: it is encrypted with a key that is not at hand, or it was
    /// altered. Other keys are not concerned. An operator gives the key, or restores or deletes the value.
    #[error("the value of key {key} cannot be read: {reason}")]
    Unreadable {
        /// The key of the value.
        key: Key,
        /// Why it cannot be read.
        reason: String,
    },

    /// Values cannot be encrypted or decrypted now, because whoever keeps the keys does not answer; nothing was changed.
    /// The caller tries again later.
    #[error("values cannot be encrypted or decrypted now: {reason}")]
    Keyless {
        /// Who does not answer, and why.
        reason: String,
    },

    /// The store cannot answer now. **For a commit the outcome is unknown**: it may or may not have happened, now or
    /// later. The caller reads before it writes again, or repeats the transaction if its guards make that safe.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),

    /// The store serves reads but takes no writes; nothing was changed. It stays so until an operator has looked at
    /// the reason and reopened the store.
    #[error("the store is read-only: {reason}")]
    ReadOnly {
        /// The broken invariant or the failed write.
        reason: String,
    },

    /// The disk is full; nothing was changed. Reads go on. The caller tries again later: writes succeed when there is
    /// space, without reopening the store.
    #[error("the store's disk is full: {reason}")]
    Full {
        /// What needed the space.
        reason: String,
    },

    /// The store's files are damaged. It does not open, because opening it would lose acknowledged writes. An operator
    /// restores a backup, or moves the named file away in the knowledge of what it held.
    #[error("{} is damaged at byte {offset}: {reason}", .file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What was found there.
        reason: String,
    },

    /// Another process, or another part of this one, has the folder open.
    #[error("the store's folder is in use; its lock is {}", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// The operating system refused a file operation while the store was being opened.
    #[error("cannot {doing} {}", .path.display())]
    Disk {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<std::io::Error>,
    },

    /// The store was closed. For a commit, nothing was changed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether a commit that got this error may have happened all the same.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

fn describe(found: &Option<Entry>) -> String {
    match found {
        Some(entry) => format!("it was last put at revision {}", entry.modified),
        None => "it is absent".into(),
    }
}
