//! How effects and entries are written in a frame's payload. Pure.
//!
//! Numbers are little-endian; texts and values are a four-byte length and their bytes. An effect is a byte of flags
//! and then what each flag announces. A change holds no previous values: replay has them in hand.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Change, ChangeEvent, Entry, Key, LeaseId, Revision,
    plan::{Effect, LeaseEffect},
    state::State,
};

const CHANGE: u8 = 1;
const LEASE_BEGINS: u8 = 2;
const LEASE_ENDS: u8 = 4;
const COMPACTED: u8 = 8;

const DELETED: u8 = 0;
const PUT: u8 = 1;

/// Adds an effect to the end of `out`.
pub(crate) fn encode_effect(out: &mut Vec<u8>, effect: &Effect) {
    let lease = match effect.lease {
        None => 0,
        Some(LeaseEffect::Begin(..)) => LEASE_BEGINS,
        Some(LeaseEffect::End(_)) => LEASE_ENDS,
    };
    let change = if effect.change.is_some() { CHANGE } else { 0 };
    let compacted = if effect.compact.is_some() { COMPACTED } else { 0 };
    out.push(change | lease | compacted);
    if let Some(change) = &effect.change {
        encode_change(out, change);
    }
    match effect.lease {
        None => {}
        Some(LeaseEffect::Begin(id, ttl)) => encode_lease(out, id, ttl),
        Some(LeaseEffect::End(id)) => put_u64(out, id.0),
    }
    if let Some(revision) = effect.compact {
        put_u64(out, revision.0);
    }
}

fn encode_change(out: &mut Vec<u8>, change: &Change) {
    put_u64(out, change.revision.0);
    put_u32(out, change.events.len());
    for event in &change.events {
        match &event.entry {
            Some(entry) => {
                out.push(PUT);
                encode_entry(out, entry);
            }
            None => {
                out.push(DELETED);
                put_bytes(out, event.key.as_bytes());
            }
        }
    }
}

/// Adds an entry to the end of `out`.
pub(crate) fn encode_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, entry.key.as_bytes());
    put_u64(out, entry.created.0);
    put_u64(out, entry.modified.0);
    // Leases are numbered from one.
    put_u64(out, entry.lease.map_or(0, |lease| lease.0));
    put_bytes(out, &entry.value);
}

/// Adds a lease and its time to live to the end of `out`.
pub(crate) fn encode_lease(out: &mut Vec<u8>, id: LeaseId, ttl: Duration) {
    put_u64(out, id.0);
    put_u64(out, u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
}

/// Reads a payload from its start. Every method is `None` if the bytes are not what is asked for.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An effect on `state`, which is where its change finds what was there before.
    pub(crate) fn effect(&mut self, state: &State) -> Option<Effect> {
        let flags = self.u8()?;
        if flags & !(CHANGE | LEASE_BEGINS | LEASE_ENDS | COMPACTED) != 0 {
            return None;
        }
        let change = if flags & CHANGE != 0 { Some(Arc::new(self.change(state)?)) } else { None };
        let lease = match flags & (LEASE_BEGINS | LEASE_ENDS) {
            0 => None,
            LEASE_BEGINS => self.lease().map(|(id, ttl)| Some(LeaseEffect::Begin(id, ttl)))?,
            LEASE_ENDS => Some(LeaseEffect::End(LeaseId(self.u64()?))),
            _ => return None,
        };
        let compact = if flags & COMPACTED != 0 { Some(Revision(self.u64()?)) } else { None };
        Some(Effect { change, lease, compact })
    }

    fn change(&mut self, state: &State) -> Option<Change> {
        let revision = Revision(self.u64()?);
        let count = self.u32()?;
        let events = (0..count).map(|_| self.event(state)).collect::<Option<_>>()?;
        Some(Change { revision, events })
    }

    fn event(&mut self, state: &State) -> Option<ChangeEvent> {
        let before = |key: &Key| state.entries.get(key).map(|entry| (**entry).clone());
        match self.u8()? {
            PUT => {
                let entry = self.entry()?;
                Some(ChangeEvent { key: entry.key.clone(), previous: before(&entry.key), entry: Some(entry) })
            }
            DELETED => {
                let key = self.key()?;
                Some(ChangeEvent { previous: before(&key), key, entry: None })
            }
            _ => None,
        }
    }

    pub(crate) fn entry(&mut self) -> Option<Entry> {
        let key = self.key()?;
        let created = Revision(self.u64()?);
        let modified = Revision(self.u64()?);
        let lease = Some(self.u64()?).filter(|id| *id != 0).map(LeaseId);
        let value = Bytes::copy_from_slice(self.bytes()?);
        Some(Entry { key, value, created, modified, lease, attachment: None })
    }

    pub(crate) fn lease(&mut self) -> Option<(LeaseId, Duration)> {
        Some((LeaseId(self.u64()?), Duration::from_nanos(self.u64()?)))
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key::from(std::str::from_utf8(self.bytes()?).ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    // Invariant: lengths and counts are bounded by the size of a transaction, far below 4 Gi.
    out.extend_from_slice(&(number as u32).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}
