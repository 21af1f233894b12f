//! What was seen, put into the terms of the store's validators and given to them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{object::Object, request::WatchEvent};
use k8s_store::{
    Change, ChangeEvent, Entry, Key, Revision, WatchItem,
    check::{Contradiction, Tick, Truth, WatchRecord, watches},
};

use super::{
    informed::key,
    watcher::{Log, Seen},
};

/// What was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    pub watches: u64,
    pub events: u64,
    pub bookmarks: u64,
    pub lists: u64,
}

/// Checks all that a watcher saw against its view of the truth.
pub fn judge(view: &Truth, log: &Log) -> Result<Judged, Contradiction> {
    let (mut judged, mut reader) = (Judged::default(), Reader::new(log));
    for (tick, seen) in &log.seen {
        match seen {
            Seen::All { revision, not_before, objects } => {
                reader.close(view)?;
                judged.lists += 1;
                reader.list(view, *tick, *revision, *not_before, objects)?;
            }
            Seen::Open { from } => {
                reader.close(view)?;
                judged.watches += 1;
                reader.record.from = Revision(*from);
            }
            Seen::Event(event) => {
                let item = reader.item(event);
                match item {
                    WatchItem::Change(_) => judged.events += 1,
                    WatchItem::Progress(_) => judged.bookmarks += 1,
                }
                reader.record.items.push((*tick, Ok(item)));
            }
        }
    }
    reader.close(view)?;
    Ok(judged)
}

/// A reader's memory: what it believes to be there, and the watch that it reads.
struct Reader<'a> {
    log: &'a Log,
    known: BTreeMap<Key, Entry>,
    record: WatchRecord,
}

impl<'a> Reader<'a> {
    fn new(log: &'a Log) -> Self {
        let record =
            WatchRecord { client: log.number, prefix: log.wanted.prefix(), from: Revision::ZERO, items: Vec::new() };
        Self { log, known: BTreeMap::new(), record }
    }

    /// Judges the watch that was read, by the nine promises.
    fn close(&mut self, view: &Truth) -> Result<(), Contradiction> {
        let outcome = watches::validate(view, &self.record);
        self.record.items.clear();
        outcome.map_err(|found| {
            let what = format!("watching {:?}: {}", self.log.wanted, found.what);
            Contradiction { what, ..found }
        })
    }

    /// A list is of one revision, which is not older than anything that was known when it was asked for.
    fn list(
        &mut self,
        view: &Truth,
        tick: Tick,
        revision: u64,
        not_before: u64,
        objects: &[Arc<Object>],
    ) -> Result<(), Contradiction> {
        let Log { number, wanted, .. } = self.log;
        let broken = |promise, what: String| {
            Err(Contradiction::new(promise, tick, format!("the list of {wanted:?} by watcher {number} {what}")))
        };
        if revision < not_before || revision > view.head().0 {
            return broken("fresh", format!("is of revision {revision}; {not_before} was acknowledged before"));
        }
        let there = view.list(&self.record.prefix, None, Revision(revision));
        self.known = there.map(|entry| (entry.key.clone(), entry.clone())).collect();
        let same = objects.len() == self.known.len()
            && objects.iter().all(|object| {
                let known = self.known.get(&key(object));
                known.is_some_and(|entry| entry.modified.0 == object.revision() && entry.value == object.stored_json())
            });
        if !same {
            let shown: Vec<_> = objects.iter().map(|object| format!("{object:?}")).collect();
            let there: Vec<_> = self.known.values().map(|entry| format!("{}@{}", entry.key, entry.modified)).collect();
            return broken("exact", format!("at {revision} shows {shown:?}; there were {there:?}"));
        }
        Ok(())
    }

    /// An event with what the reader knew before it. What it did not know has revision zero, which nothing has.
    fn item(&mut self, event: &WatchEvent) -> WatchItem {
        let Some(object) = event.object() else { return WatchItem::Progress(Revision(event.revision())) };
        let (key, revision) = (key(object), Revision(event.revision()));
        let value = object.stored_json().clone();
        let entry = |created: Revision, modified: Revision| Entry {
            key: key.clone(),
            value: value.clone(),
            created,
            modified,
            lease: None,
            attachment: None,
        };
        let known = self.known.remove(&key);
        let (previous, now) = match event {
            WatchEvent::Added(_) => (known, Some(entry(revision, revision))),
            WatchEvent::Modified(_) => {
                let created = known.as_ref().map_or(Revision::ZERO, |entry| entry.created);
                (known, Some(entry(created, revision)))
            }
            // It carries the last state.
            _ => {
                let said = known.filter(|known| known.value == value);
                (Some(said.unwrap_or_else(|| entry(Revision::ZERO, Revision::ZERO))), None)
            }
        };
        self.known.extend(now.clone().map(|now| (key.clone(), now)));
        let events = vec![ChangeEvent { key, entry: now, previous }];
        WatchItem::Change(Arc::new(Change { revision, events }))
    }
}
