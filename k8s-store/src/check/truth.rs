//! Every state that a store was in, rebuilt change by change: the index is the revision.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::history::Tick;
use crate::{Change, ChangeEvent, Digest, Entry, Guard, Key, Op, Revision, Transaction};

/// What happened, in the order in which it happened. Begins with an empty store at revision zero.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// What revision `index + 1` did.
    changes: Vec<Arc<Change>>,
    /// When that was asked for: it cannot have happened before.
    asked: Vec<Tick>,
    /// The versions that each key had, oldest first; `None` where it was deleted.
    versions: BTreeMap<Key, Vec<(Revision, Option<Entry>)>>,
}

impl Truth {
    /// The newest revision.
    pub fn head(&self) -> Revision {
        Revision(self.changes.len() as u64)
    }

    /// What a revision did; `None` for one that never was.
    pub fn change(&self, revision: Revision) -> Option<&Arc<Change>> {
        self.changes.get(usize::try_from(revision.0.checked_sub(1)?).ok()?)
    }

    /// The changes with a revision greater than `from`.
    pub fn after(&self, from: Revision) -> &[Arc<Change>] {
        self.changes.get(from.0 as usize..).unwrap_or(&[])
    }

    /// What a key held, oldest first; `None` where it was deleted.
    pub fn versions(&self, key: &str) -> &[(Revision, Option<Entry>)] {
        self.versions.get(key).map_or(&[][..], |versions| versions)
    }

    /// What somebody sees who is shown some entries only, each as `shown` says. To them an entry is created when it
    /// begins to be shown, and deleted when it ceases to be; revisions are the same, and some of them hold nothing.
    pub fn through(&self, shown: impl Fn(&Entry) -> Option<Bytes>) -> Self {
        let mut seen = Self::default();
        for (change, asked) in self.changes.iter().zip(&self.asked) {
            let revision = change.revision;
            let events = change.events.iter().filter_map(|event| {
                let (key, previous) = (event.key.clone(), seen.at(&event.key, revision).cloned());
                let value = event.entry.as_ref().and_then(&shown);
                let created = previous.as_ref().map_or(revision, |entry| entry.created);
                let entry = value.map(|value| Entry {
                    key: key.clone(),
                    value,
                    created,
                    modified: revision,
                    lease: None,
                    attachment: None,
                });
                (entry.is_some() || previous.is_some()).then_some(ChangeEvent { key, entry, previous })
            });
            let events = events.collect();
            seen.push(Arc::new(Change { revision, events }), *asked);
        }
        seen
    }

    /// When the change at this revision was asked for.
    pub(crate) fn asked(&self, revision: Revision) -> Tick {
        revision.0.checked_sub(1).and_then(|index| self.asked.get(index as usize)).copied().unwrap_or(0)
    }

    /// What was under the key at a revision.
    pub fn at(&self, key: &str, revision: Revision) -> Option<&Entry> {
        at(self.versions.get(key)?, revision)
    }

    /// The entries under the prefix, and after a key, as they were at a revision, in order.
    pub fn list(&self, prefix: &str, after: Option<&Key>, revision: Revision) -> impl Iterator<Item = &Entry> {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        self.versions
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(_, versions)| at(versions, revision))
    }

    /// The digest of everything at a revision, by a store whose own revisions are greater by `base`.
    pub(crate) fn digest(&self, revision: Revision, base: u64) -> Digest {
        let own = |entry: &Entry| {
            let [created, modified] = [entry.created, entry.modified].map(|revision| Revision(revision.0 + base));
            Entry { created, modified, ..entry.clone() }
        };
        let entries: Vec<_> = self.list("", None, revision).map(own).collect();
        Digest::of(&entries)
    }

    /// The first guard that does not hold at a revision, and what is there instead.
    pub(crate) fn refuses<'a>(&self, guards: &'a [Guard], revision: Revision) -> Option<(&'a Key, Option<&Entry>)> {
        guards.iter().map(|guard| (guard, self.at(guard.key(), revision))).find_map(|(guard, found)| {
            let holds = match guard {
                Guard::Absent(_) => found.is_none(),
                Guard::Exists(_) => found.is_some(),
                Guard::At(_, at) => found.is_some_and(|entry| entry.modified == *at),
            };
            (!holds).then_some((guard.key(), found))
        })
    }

    /// What the transaction's operations would do as the revision after `before`; `None` if nothing.
    pub(crate) fn predict(&self, transaction: &Transaction, before: Revision) -> Option<Change> {
        let revision = before.next();
        let events = transaction.ops.iter().filter_map(|op| {
            let previous = self.at(op.key(), before).cloned();
            match op {
                Op::Put { key, value, lease, .. } => {
                    let (key, value, lease) = (key.clone(), value.clone(), *lease);
                    let created = previous.as_ref().map_or(revision, |entry| entry.created);
                    let entry = Entry { key: key.clone(), value, created, modified: revision, lease, attachment: None };
                    Some(ChangeEvent { key, entry: Some(entry), previous })
                }
                Op::Delete { key } => {
                    previous.map(|entry| ChangeEvent { key: key.clone(), entry: None, previous: Some(entry) })
                }
            }
        });
        let events: Vec<_> = events.collect();
        (!events.is_empty()).then_some(Change { revision, events })
    }

    /// Adds the next change, which was asked for at `asked`.
    pub(crate) fn push(&mut self, change: Arc<Change>, asked: Tick) {
        for event in &change.events {
            let versions = self.versions.entry(event.key.clone()).or_default();
            versions.push((change.revision, event.entry.clone()));
        }
        self.changes.push(change);
        self.asked.push(asked);
    }

    /// Takes back everything after `revision`.
    pub(crate) fn truncate(&mut self, revision: Revision) {
        for change in self.changes.drain(revision.0 as usize..) {
            for event in &change.events {
                if let Some(versions) = self.versions.get_mut(&event.key) {
                    versions.retain(|(at, _)| *at != change.revision);
                }
            }
        }
        self.asked.truncate(revision.0 as usize);
    }
}

fn at(versions: &[(Revision, Option<Entry>)], revision: Revision) -> Option<&Entry> {
    let count = versions.partition_point(|(at, _)| *at <= revision);
    versions.get(count.checked_sub(1)?)?.1.as_ref()
}
