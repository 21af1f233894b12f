//! The recent changes of one kind: shared by all watchers, each of which keeps a position only.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use k8s_core::{
    object::{Object, ObjectKey},
    request::WatchEvent,
};

use super::filter::Filter;

/// At most this many changes are kept per kind; who falls further behind lists anew.
pub const MAX_EVENTS: usize = 32_768;
/// At most about this many bytes of older objects are kept per kind for those who lag.
pub const MAX_BYTES: usize = 16 << 20;

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// The revision that made it.
    pub revision: u64,
    /// Which object.
    pub key: ObjectKey,
    /// What it is now; `None` if it is gone.
    pub new: Option<Arc<Object>>,
    /// What it was.
    pub old: Option<Arc<Object>>,
    /// `old` at the revision of the change, as watchers are told of a deletion. Made once, for all of them.
    gone: OnceLock<Arc<Object>>,
}

impl Event {
    /// A change from `old` to `new`.
    pub fn new(revision: u64, key: ObjectKey, new: Option<Arc<Object>>, old: Option<Arc<Object>>) -> Self {
        Self { revision, key, new, old, gone: OnceLock::new() }
    }

    /// What a watcher with this filter is told, if anything: an object that begins to match is added, one that
    /// ceases to is deleted.
    pub fn seen_through(&self, filter: &Filter) -> Option<WatchEvent> {
        let new = self.new.as_ref().filter(|object| filter.matches(object));
        let old = self.old.as_ref().filter(|object| filter.matches(object));
        match (old, new) {
            (None, Some(new)) => Some(WatchEvent::Added(new.clone())),
            (Some(_), Some(new)) => Some(WatchEvent::Modified(new.clone())),
            (Some(old), None) => {
                let gone = self.gone.get_or_init(|| Arc::new(old.at_revision(self.revision)));
                Some(WatchEvent::Deleted(gone.clone()))
            }
            (None, None) => None,
        }
    }

    /// Whether a watcher with this filter is told anything.
    pub fn concerns(&self, filter: &Filter) -> bool {
        [&self.new, &self.old].into_iter().flatten().any(|object| filter.matches(object))
    }

    /// What keeping the change costs, in bytes: what was there before. What came is the newest state's, or it is what
    /// was there before a later change.
    fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD + self.old.as_ref().map_or(0, |object| object.stored_json().len())
    }
}

/// Invariant: `events` holds every change of the kind after `oldest`, by rising revision.
#[derive(Debug)]
pub struct Ring {
    events: VecDeque<Arc<Event>>,
    oldest: u64,
    bytes: usize,
    /// Rises when the cache is made anew: who read of an earlier one may have missed something.
    pub generation: u64,
}

impl Ring {
    /// A ring that knows nothing of what was up to `oldest`.
    pub fn new(oldest: u64) -> Self {
        Self { events: VecDeque::new(), oldest, bytes: 0, generation: 0 }
    }

    /// A watch can resume from this revision and no older one.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// How many changes are kept, and about how many bytes they hold beside the newest state.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        (self.events.len(), self.bytes)
    }

    /// Takes the next change; drops the oldest ones beyond the bounds.
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(dropped) = self.events.pop_front() else { return };
            self.bytes -= dropped.weight();
            self.oldest = dropped.revision;
        }
    }

    /// The changes after a revision, oldest first; `None` if not all of them are kept.
    pub fn after(&self, revision: u64) -> Option<impl DoubleEndedIterator<Item = &Arc<Event>>> {
        let start = self.events.partition_point(|event| event.revision <= revision);
        (revision >= self.oldest).then(|| self.events.range(start..))
    }
}
