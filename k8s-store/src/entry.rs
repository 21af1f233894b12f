//! What is stored under a key at some moment.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;

use crate::{Key, LeaseId, Revision};

/// An opaque value that a writer hangs on a put.
///
/// A backend whose change feed is the commit itself hands it back on the feed and on reads, so that a reader in the
/// same process need not decode what the writer had in hand. It is never stored: after a recovery, and on backends
/// whose feed comes from elsewhere, it is `None`. Nothing may depend on it being there.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// A value with its history in short. Cloning shares the bytes.
///
/// Equality compares everything but the attachment.
#[derive(Clone)]
pub struct Entry {
    /// The name of the value.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// The revision that put the key when it was absent.
    pub created: Revision,
    /// The revision that put this value.
    pub modified: Revision,
    /// The lease whose end deletes the key.
    pub lease: Option<LeaseId>,
    /// What the writer hung on the put, if this process still has it.
    pub attachment: Option<Attachment>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.value, self.created, self.modified, self.lease)
            == (&other.key, &other.value, other.created, other.modified, other.lease)
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .field("created", &self.created.0)
            .field("modified", &self.modified.0)
            .field("lease", &self.lease)
            .field("attached", &self.attachment.is_some())
            .finish()
    }
}
