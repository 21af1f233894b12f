//! The store's keys as etcd knows them, and etcd's entries as the store knows them. Pure.

use bytes::Bytes;
use etcd_client::KeyValue;

use crate::{Entry, Key, LeaseId, Revision};

/// Puts the prefix in front of names, and takes it off again.
pub(super) struct Keyspace {
    prefix: String,
}

impl Keyspace {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The name of a key in etcd.
    pub(super) fn name(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// The range `[start, end)` of the keys that start with `prefix` and are greater than `after`.
    pub(super) fn range(&self, prefix: &str, after: Option<&Key>) -> (Vec<u8>, Vec<u8>) {
        let start = self.name(prefix);
        let end = end_of(&start);
        let start = match after {
            Some(after) if after.as_str() >= prefix => [&self.name(after)[..], &[0]].concat(),
            // etcd knows no empty key.
            _ if start.is_empty() => vec![0],
            _ => start,
        };
        (start, end)
    }

    /// The store's key; `None` for what is not under the prefix, and for what is no text: nobody wrote it through a
    /// store.
    pub(super) fn key(&self, name: &[u8]) -> Option<Key> {
        std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok().map(Key::from)
    }

    /// The store's entry, under the same conditions.
    pub(super) fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let key = self.key(kv.key())?;
        let (created, modified) = (revision(kv.create_revision()), revision(kv.mod_revision()));
        let lease = u64::try_from(kv.lease()).ok().filter(|lease| *lease > 0).map(LeaseId);
        let (_, value) = kv.into_key_value();
        Some(Entry { key, value: Bytes::from(value), created, modified, lease, attachment: None })
    }
}

/// A number of etcd's as a revision. etcd gives no negative ones.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// A revision as etcd's number. One beyond etcd's range is as much in the future as the last one in it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The first name after all that start with `prefix`; etcd's sign for "no end" if there is none.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
