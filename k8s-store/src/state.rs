//! The newest version of everything, as a copy-on-write ordered map. Pure: no lock, no clock, no disk.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;

use crate::{Change, Entry, Key, Revision};

/// Cloning is O(1) and shares everything, so a reader takes a clone under the lock and walks it outside.
pub(crate) type Entries = OrdMap<Key, Arc<Entry>>;

/// What is stored now.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) entries: Entries,
    pub(crate) head: Revision,
    /// The bytes of all keys and values.
    pub(crate) bytes: u64,
}

impl State {
    /// Takes the next change. Invariant: revisions are dense, and a change says truly what was there before.
    ///
    /// On `Err`, which names the broken invariant, nothing has been applied.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), String> {
        self.check(change)?;
        for event in &change.events {
            match &event.entry {
                Some(entry) => self.insert(Arc::new(entry.clone())),
                None => self.remove(&event.key),
            }
        }
        self.head = change.revision;
        Ok(())
    }

    /// Puts an entry without taking a revision: for rebuilding the state from a snapshot.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        self.bytes += size(&entry);
        if let Some(previous) = self.entries.insert(entry.key.clone(), entry) {
            self.bytes -= size(&previous);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(previous) = self.entries.remove(key) {
            self.bytes -= size(&previous);
        }
    }

    fn check(&self, change: &Change) -> Result<(), String> {
        if change.revision != self.head.next() {
            return Err(format!("revision {} was about to follow revision {}", change.revision, self.head));
        }
        for event in &change.events {
            let found = self.entries.get(&event.key).map(|entry| entry.modified);
            let claimed = event.previous.as_ref().map(|entry| entry.modified);
            if found != claimed {
                return Err(format!(
                    "revision {} replaces a version of {} that is not there",
                    change.revision, event.key
                ));
            }
        }
        Ok(())
    }
}

/// The entries whose keys start with `prefix` and are greater than `after`, in order.
pub(crate) fn range<'a>(
    entries: &'a Entries,
    prefix: &'a str,
    after: Option<&'a Key>,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    let start = match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
        _ => Bound::Included(prefix),
    };
    entries
        .range::<_, str>((start, Bound::Unbounded))
        .map(|(_, entry)| entry)
        .take_while(move |entry| entry.key.starts_with(prefix))
}

fn size(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}
