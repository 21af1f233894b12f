//! The newest version of everything, as a copy-on-write ordered map. Pure: no lock, no clock, no disk.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;

use crate::{Change, ChangeEvent, Entry, Key, Revision};

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
        if change.revision != self.head.next() {
            return Err(format!("revision {} was about to follow revision {}", change.revision, self.head));
        }
        for (index, event) in change.events.iter().enumerate() {
            let found = self.set(&event.key, event.entry.clone().map(Arc::new));
            let claimed = event.previous.as_ref().map(|entry| entry.modified);
            if found.as_ref().map(|entry| entry.modified) != claimed {
                self.set(&event.key, found);
                self.take_back(&change.events[..index]);
                return Err(format!(
                    "revision {} replaces a version of {} that is not there",
                    change.revision, event.key
                ));
            }
        }
        self.head = change.revision;
        Ok(())
    }

    /// Puts an entry without taking a revision: for rebuilding the state from a snapshot.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        let key = entry.key.clone();
        self.set(&key, Some(entry));
    }

    /// Stores an entry, or removes what is there; returns what was there. One walk through the map, since that is most
    /// of what a put costs here.
    fn set(&mut self, key: &Key, entry: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        self.bytes += entry.as_ref().map_or(0, |entry| size(entry));
        let previous = match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(key),
        };
        self.bytes -= previous.as_ref().map_or(0, |previous| size(previous));
        previous
    }

    /// Undoes events that were found to say truly what was there before.
    fn take_back(&mut self, events: &[ChangeEvent]) {
        for event in events.iter().rev() {
            self.set(&event.key, event.previous.clone().map(Arc::new));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, revision: u64, previous: Option<u64>) -> ChangeEvent {
        let entry = |revision: u64| Entry {
            key: key.into(),
            value: "value".into(),
            created: Revision(revision),
            modified: Revision(revision),
            lease: None,
            attachment: None,
        };
        ChangeEvent { key: key.into(), entry: Some(entry(revision)), previous: previous.map(entry) }
    }

    #[test]
    fn a_change_that_does_not_say_truly_what_was_there_changes_nothing() {
        let mut state = State::default();
        let first = ["a", "b", "c"].map(|key| event(key, 1, None)).into();
        state.apply(&Change { revision: Revision(1), events: first }).unwrap();
        let before = state.clone();
        let mut removes_b = event("b", 2, Some(1));
        removes_b.entry = None;
        for lie in [event("c", 2, None), event("c", 2, Some(2)), event("e", 2, Some(1))] {
            let events = vec![event("a", 2, Some(1)), event("d", 2, None), removes_b.clone(), lie];
            assert!(state.apply(&Change { revision: Revision(2), events }).is_err());
        }
        assert_eq!(state.entries, before.entries);
        assert_eq!((state.head, state.bytes), (before.head, before.bytes));
    }
}
