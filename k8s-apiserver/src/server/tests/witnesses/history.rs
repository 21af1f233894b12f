//! What happened, what a watcher must therefore have been told, and whether it was.
//!
//! A record is a revision, a kind of event, a key and what the object says. The truth is the store's own change feed.

use std::{collections::BTreeMap, fmt};

use futures::StreamExt;
use k8s_core::doc::Doc;
use k8s_store::{Entry, Revision, Store, WatchItem};

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Added,
    Modified,
    Deleted,
    /// Everything up to the revision has been told.
    Bookmark,
}

/// What an object says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub label: String,
    /// Different in every write.
    pub value: String,
}

/// What a watcher was told, or should have been.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub revision: u64,
    pub what: What,
    pub key: String,
    pub said: Said,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, what, key, said } = self;
        write!(f, "{revision} {what:?} {key} {}={}", said.label, said.value)
    }
}

/// Which objects a watcher wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub namespace: Option<&'static str>,
    pub name: Option<&'static str>,
    pub label: Option<&'static str>,
}

impl Wanted {
    fn has(&self, key: &str, said: &Said) -> bool {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        self.namespace.is_none_or(|wanted| wanted == namespace)
            && self.name.is_none_or(|wanted| wanted == name)
            && self.label.is_none_or(|wanted| wanted == said.label)
    }
}

/// One change of one object: what it said before and after.
#[derive(Clone, Debug)]
struct Step {
    revision: u64,
    key: String,
    old: Option<Said>,
    new: Option<Said>,
}

/// Everything that happened, in order.
pub struct History(Vec<Step>);

/// What an object says.
pub fn said(doc: &Doc) -> Said {
    let text = |path: &[&str]| doc.str_at(path).to_owned();
    Said { label: text(&["metadata", "labels", "l"]), value: text(&["data", "v"]) }
}

/// The key of an object: namespace and name.
pub fn key(doc: &Doc) -> String {
    format!("{}/{}", doc.str_at(&["metadata", "namespace"]), doc.str_at(&["metadata", "name"]))
}

impl History {
    /// The changes under a prefix that the store has kept, from its first revision to its head.
    pub async fn of(store: &dyn Store, prefix: &str) -> Self {
        let head = store.head().await.unwrap();
        let mut changes = store.watch(prefix, Revision::ZERO).await.unwrap();
        store.progress().await.unwrap();
        let mut steps = Vec::new();
        let read = |entry: &Entry| said(&Doc::parse(&entry.value).unwrap());
        loop {
            match changes.next().await.unwrap().unwrap() {
                WatchItem::Change(change) => steps.extend(change.events.iter().map(|event| Step {
                    revision: change.revision.0,
                    key: event.key[prefix.len()..].to_owned(),
                    old: event.previous.as_ref().map(read),
                    new: event.entry.as_ref().map(read),
                })),
                WatchItem::Progress(reached) if reached >= head => return Self(steps),
                WatchItem::Progress(_) => {}
            }
        }
    }

    /// How many changes there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The revisions of the changes.
    pub fn revisions(&self) -> Vec<u64> {
        self.0.iter().map(|step| step.revision).collect()
    }

    /// What a watcher is to be told of what happened after `from`.
    pub fn expected(&self, wanted: &Wanted, from: u64) -> Vec<Record> {
        let told = |step: &Step| {
            let of = |said: &Option<Said>| said.clone().filter(|said| wanted.has(&step.key, said));
            let (what, said) = match (of(&step.old), of(&step.new)) {
                (None, Some(new)) => (What::Added, new),
                (Some(_), Some(new)) => (What::Modified, new),
                (Some(old), None) => (What::Deleted, old),
                (None, None) => return None,
            };
            Some(Record { revision: step.revision, what, key: step.key.clone(), said })
        };
        self.0.iter().filter(|step| step.revision > from).filter_map(told).collect()
    }

    /// The objects at a revision, as a watcher is told of what is there already.
    pub fn state(&self, wanted: &Wanted, at: u64) -> Vec<Record> {
        let mut state = BTreeMap::new();
        for step in self.0.iter().take_while(|step| step.revision <= at) {
            match &step.new {
                Some(new) => drop(state.insert(sortable(&step.key), (step.revision, &step.key, new))),
                None => drop(state.remove(&sortable(&step.key))),
            }
        }
        let here = state.into_values().filter(|(_, key, said)| wanted.has(key, said));
        let record = |(revision, key, said): (u64, &String, &Said)| Record {
            revision,
            what: What::Added,
            key: key.clone(),
            said: said.clone(),
        };
        here.map(record).collect()
    }
}

fn sortable(key: &str) -> (String, String) {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    (namespace.to_owned(), name.to_owned())
}

/// Checks what a watcher was told against what it should have been: ordered, unique, whole, nothing left out, nothing
/// invented, every object as it was, and no bookmark ahead of what it covers.
pub fn check(told: &[Record], expected: &[Record]) -> Result<(), String> {
    let mut ahead = expected.iter().peekable();
    let mut reached = 0;
    for (place, record) in told.iter().enumerate() {
        if record.revision < reached || (record.what != What::Bookmark && record.revision == reached) {
            return Err(format!("record {place} is out of order: {record:?} after {reached}"));
        }
        reached = record.revision;
        if record.what == What::Bookmark {
            match ahead.peek() {
                Some(next) if next.revision <= reached => {
                    return Err(format!("record {place}, a bookmark at {reached}, overtakes {next:?}"));
                }
                _ => continue,
            }
        }
        match ahead.next() {
            Some(next) if next == record => {}
            next => return Err(format!("record {place} is {record:?}; expected is {next:?}")),
        }
    }
    match ahead.next() {
        None => Ok(()),
        Some(missed) => Err(format!("after {} records, {missed:?} is missing", told.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: u64, what: What) -> Record {
        let said = Said { label: "l".into(), value: revision.to_string() };
        Record { revision, what, key: "n/a".into(), said: if what == What::Bookmark { Said::default() } else { said } }
    }

    #[test]
    fn a_watch_that_breaks_a_promise_is_found_out() {
        let good = vec![record(3, What::Added), record(5, What::Modified), record(9, What::Deleted)];
        assert_eq!(check(&good, &good), Ok(()));
        let marked = |place: usize, revision| {
            let mut told = good.clone();
            told.insert(place, record(revision, What::Bookmark));
            told
        };
        for (place, revision) in [(0, 2), (1, 3), (1, 4), (2, 8), (3, 9), (3, 100)] {
            assert_eq!(check(&marked(place, revision), &good), Ok(()), "{place} {revision}");
        }
        let edited = |edit: &dyn Fn(&mut Vec<Record>)| {
            let mut told = good.clone();
            edit(&mut told);
            told
        };
        let bad = [
            ("nothing", vec![]),
            ("the first one missed", good[1..].to_vec()),
            ("one missed", edited(&|told| drop(told.remove(1)))),
            ("the last one missed", good[..2].to_vec()),
            ("one twice", edited(&|told| told.insert(1, good[0].clone()))),
            ("two out of order", edited(&|told| told.swap(0, 1))),
            ("one invented", edited(&|told| told.insert(1, record(4, What::Modified)))),
            ("another kind of event", edited(&|told| told[0].what = What::Modified)),
            ("another object", edited(&|told| told[1].key = "n/b".into())),
            ("another state", edited(&|told| told[2].said.value = "5".into())),
            ("a bookmark too early", marked(1, 5)),
            ("a bookmark that goes back", marked(2, 4)),
        ];
        for (name, told) in bad {
            assert!(check(&told, &good).is_err(), "{name} is not found out");
        }
    }
}
