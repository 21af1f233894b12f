//! The leases of a store: which there are, when each ends, and which keys end with it. Pure: no lock, no clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{Change, Key, LeaseId};

/// All times are on the environment's monotonic clock.
#[derive(Default)]
pub(crate) struct Leases {
    live: BTreeMap<LeaseId, Lease>,
    last: u64,
    /// How to take back what was done since [`Self::settle`], in the order in which it was done.
    undo: Vec<Undo>,
}

enum Undo {
    Began(LeaseId, u64),
    Ended(LeaseId, Lease),
    Attached(LeaseId, Key),
    Detached(LeaseId, Key),
}

struct Lease {
    ttl: Duration,
    deadline: Duration,
    keys: BTreeSet<Key>,
}

impl Leases {
    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.live.contains_key(&id)
    }

    /// The number of the last lease granted.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn next_id(&self) -> LeaseId {
        LeaseId(self.last + 1)
    }

    /// Begins a lease, or makes sure that its number is not given again (see [`Self::end`]).
    pub(crate) fn begin(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        self.undo.push(Undo::Began(id, self.last));
        self.last = self.last.max(id.0);
        self.live.insert(id, Lease { ttl, deadline: now.saturating_add(ttl), keys: BTreeSet::new() });
    }

    pub(crate) fn end(&mut self, id: LeaseId) {
        if let Some(lease) = self.live.remove(&id) {
            self.undo.push(Undo::Ended(id, lease));
        }
    }

    /// What was done is durable.
    pub(crate) fn settle(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was done since the last time that it was settled: it could not be made durable.
    pub(crate) fn take_back(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Began(id, last) => {
                    self.live.remove(&id);
                    self.last = last;
                }
                Undo::Ended(id, lease) => drop(self.live.insert(id, lease)),
                Undo::Attached(id, key) => drop(self.live.get_mut(&id).map(|lease| lease.keys.remove(&key))),
                Undo::Detached(id, key) => drop(self.live.get_mut(&id).map(|lease| lease.keys.insert(key))),
            }
        }
    }

    /// Notes that numbers up to `last` have been given.
    pub(crate) fn skip_to(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Gives a lease its whole time again; `None` if there is no such lease or its time is up.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Option<Duration> {
        let lease = self.live.get_mut(&id).filter(|lease| lease.deadline > now)?;
        lease.deadline = now.saturating_add(lease.ttl);
        Some(lease.ttl)
    }

    /// The keys that end with the lease.
    pub(crate) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Key> {
        self.live.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    pub(crate) fn is_due(&self, id: LeaseId, now: Duration) -> bool {
        self.live.get(&id).is_some_and(|lease| lease.deadline <= now)
    }

    /// The leases whose time is up.
    pub(crate) fn due(&self, now: Duration) -> Vec<LeaseId> {
        self.live.iter().filter(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id).collect()
    }

    /// When the next lease ends.
    pub(crate) fn earliest(&self) -> Option<Duration> {
        self.live.values().map(|lease| lease.deadline).min()
    }

    /// The leases with their times to live, for a snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, Duration)> {
        self.live.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    /// Attaches and detaches the keys that a change moved.
    pub(crate) fn follow(&mut self, change: &Change) {
        for event in &change.events {
            let before = event.previous.as_ref().and_then(|entry| entry.lease);
            let after = event.entry.as_ref().and_then(|entry| entry.lease);
            if before != after {
                self.detach(before, &event.key);
                self.attach(after, &event.key);
            }
        }
    }

    pub(crate) fn attach(&mut self, id: Option<LeaseId>, key: &Key) {
        if let Some(lease) = id.and_then(|id| self.live.get_mut(&id)) {
            lease.keys.insert(key.clone());
            self.undo.extend(id.map(|id| Undo::Attached(id, key.clone())));
        }
    }

    fn detach(&mut self, id: Option<LeaseId>, key: &Key) {
        if let Some(lease) = id.and_then(|id| self.live.get_mut(&id)) {
            lease.keys.remove(key);
            self.undo.extend(id.map(|id| Undo::Detached(id, key.clone())));
        }
    }
}
