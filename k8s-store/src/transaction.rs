//! Writes: conditions that must hold, and changes that then happen at one revision.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Attachment, Change, Key, LeaseId, Revision};

/// All or nothing: if every guard holds, every operation happens, at one revision.
///
/// A key may appear in at most one operation. Guards see the store as it was before the transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// What must hold. Checked in order; the first that does not hold is the one reported.
    pub guards: Vec<Guard>,
    /// What changes.
    pub ops: Vec<Op>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key is not there.
    Absent(Key),
    /// The key is there, whatever its revision.
    Exists(Key),
    /// The key is there and was last put at this revision.
    At(Key, Revision),
}

/// A change to one key.
#[derive(Clone)]
pub enum Op {
    /// Stores the value, replacing the one that is there.
    Put {
        /// The name of the value.
        key: Key,
        /// The value.
        value: Bytes,
        /// The lease whose end deletes the key. `None` detaches the key from the lease it had.
        lease: Option<LeaseId>,
        /// What readers in this process get back with the entry.
        attachment: Option<Attachment>,
    },
    /// Removes the key. Removing a key that is not there changes nothing and makes no event.
    Delete {
        /// The name of the value.
        key: Key,
    },
}

/// The outcome of a transaction that was accepted.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision of the change, or the head if the transaction changed nothing.
    pub revision: Revision,
    /// What changed; `None` if nothing did. The same value that watches yield.
    pub change: Option<Arc<Change>>,
}

impl Transaction {
    /// A transaction that asks for nothing and changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds a change.
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Adds a put without lease or attachment.
    pub fn put(self, key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        self.op(Op::Put { key: key.into(), value: value.into(), lease: None, attachment: None })
    }

    /// Adds a delete.
    pub fn delete(self, key: impl Into<Key>) -> Self {
        self.op(Op::Delete { key: key.into() })
    }

    /// What the transaction weighs against the limit on its size: the bytes of its keys and values.
    pub fn size(&self) -> usize {
        self.ops.iter().map(Op::size).sum()
    }
}

impl Guard {
    /// The key that the condition is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Exists(key) | Self::At(key, _) => key,
        }
    }
}

impl Op {
    /// The key that changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, .. } => write!(f, "Put({key:?}, {} bytes)", value.len()),
            Self::Delete { key } => write!(f, "Delete({key:?})"),
        }
    }
}
