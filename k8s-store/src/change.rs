//! What a watch yields: the changes of a store, in the order in which they happened.

use std::{pin::Pin, sync::Arc};

use futures::Stream;

use crate::{Entry, Key, Revision, StoreError};

/// The stream that [`Store::watch`](crate::Store::watch) returns. After an error it ends.
///
/// Dropping it ends the watch. It holds a position, never a queue: how far a reader may fall behind is bounded by the
/// history that the store keeps, and a reader that falls further gets [`StoreError::Compacted`].
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchItem, StoreError>> + Send>>;

/// One item of a watch.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A commit changed keys under the watched prefix.
    Change(Arc<Change>),
    /// Every change up to this revision has been yielded: a place to resume from.
    Progress(Revision),
}

/// Everything that one commit changed, as far as the watch's prefix covers it. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of the commit.
    pub revision: Revision,
    /// One event per key, in the order of the transaction's operations.
    pub events: Vec<ChangeEvent>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The key.
    pub key: Key,
    /// What is there now; `None` if the key was deleted.
    pub entry: Option<Entry>,
    /// What was there before; `None` if the key was absent.
    pub previous: Option<Entry>,
}

impl Change {
    /// The change as a reader of `prefix` sees it: itself if all of it is under the prefix, `None` if nothing is.
    pub fn under(self: &Arc<Self>, prefix: &str) -> Option<Arc<Self>> {
        let matching = self.events.iter().filter(|event| event.key.starts_with(prefix)).count();
        match matching {
            0 => None,
            n if n == self.events.len() => Some(self.clone()),
            _ => {
                let events = self.events.iter().filter(|event| event.key.starts_with(prefix)).cloned().collect();
                Some(Arc::new(Self { revision: self.revision, events }))
            }
        }
    }

    /// What keeping this change costs in memory, in bytes (an estimate that never forgets the values).
    pub(crate) fn weight(&self) -> usize {
        const OVERHEAD: usize = 320;
        let value = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        self.events.iter().map(|e| OVERHEAD + e.key.len() + value(&e.entry) + value(&e.previous)).sum()
    }
}
