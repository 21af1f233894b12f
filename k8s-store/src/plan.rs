//! What a command does, decided before anything happens: `(state, leases, command) -> (answer, effect)`.
//!
//! A plan covers a batch of commands, each of which sees the ones before it. Nothing of it is visible to readers
//! until the batch is published.

use std::{collections::BTreeSet, collections::HashMap, sync::Arc, time::Duration};

use crate::{
    Change, ChangeEvent, Committed, Entry, Guard, Key, LeaseId, Op, Revision, StoreError, Transaction, lease::Leases,
    state::State,
};

/// The largest transaction that a store takes: the bytes of all keys and values in it.
pub const MAX_TRANSACTION_BYTES: usize = 4 << 20;

/// A request that changes the store.
#[derive(Debug)]
pub(crate) enum Command {
    Commit(Transaction),
    Grant {
        ttl: Duration,
    },
    Revoke {
        lease: LeaseId,
    },
    /// Revokes the lease unless it was kept alive in the meantime.
    Expire {
        lease: LeaseId,
    },
    Compact {
        revision: Revision,
    },
}

/// The outcome of a command that succeeded.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Committed(Committed),
    Granted(LeaseId),
    Done,
}

/// What a command does to the store: what a log must hold to do it again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effect {
    pub(crate) change: Option<Arc<Change>>,
    pub(crate) lease: Option<LeaseEffect>,
    pub(crate) compact: Option<Revision>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LeaseEffect {
    Begin(LeaseId, Duration),
    End(LeaseId),
}

/// The batch so far.
///
/// The lease table runs ahead of what is published: it is read by nobody but the writer, and a batch that fails
/// makes the store read-only.
pub(crate) struct Plan<'a> {
    state: &'a State,
    leases: &'a mut Leases,
    now: Duration,
    oldest: Revision,
    head: Revision,
    /// What the batch's earlier commands left under the keys that they changed. Only looked up, never walked.
    overlay: HashMap<Key, Option<Entry>, foldhash::fast::FixedState>,
}

impl Effect {
    pub(crate) fn is_empty(&self) -> bool {
        self.change.is_none() && self.lease.is_none() && self.compact.is_none()
    }
}

impl<'a> Plan<'a> {
    /// An empty batch over a state whose history begins after `oldest`, at the monotonic time `now`.
    pub(crate) fn new(state: &'a State, oldest: Revision, leases: &'a mut Leases, now: Duration) -> Self {
        Self { head: state.head, state, leases, now, oldest, overlay: HashMap::default() }
    }

    /// Adds a command. On error the batch is as it was.
    pub(crate) fn add(&mut self, command: Command) -> Result<(Answer, Effect), StoreError> {
        match command {
            Command::Commit(transaction) => self.commit(transaction),
            Command::Grant { ttl } => Ok(self.grant(ttl)),
            Command::Revoke { lease } if self.leases.contains(lease) => Ok(self.end(lease)),
            Command::Expire { lease } if self.leases.is_due(lease, self.now) => Ok(self.end(lease)),
            Command::Revoke { lease } | Command::Expire { lease } => Err(StoreError::LeaseNotFound { lease }),
            Command::Compact { revision } => self.compact(revision),
        }
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(Answer, Effect), StoreError> {
        self.check_shape(&transaction)?;
        transaction.guards.iter().try_for_each(|guard| self.check_guard(guard))?;
        self.check_leases(&transaction)?;
        let change = self.change(transaction.ops);
        let committed = Committed { revision: self.head, change: change.clone() };
        Ok((Answer::Committed(committed), Effect { change, ..Effect::default() }))
    }

    fn check_shape(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let bytes = transaction.size();
        if bytes > MAX_TRANSACTION_BYTES {
            return Err(StoreError::TooLarge { bytes, limit: MAX_TRANSACTION_BYTES });
        }
        if transaction.ops.len() < 2 {
            return Ok(());
        }
        let mut keys = BTreeSet::new();
        match transaction.ops.iter().find(|op| !keys.insert(op.key())) {
            Some(op) => {
                Err(StoreError::Invalid { reason: format!("the key {} appears in more than one operation", op.key()) })
            }
            None => Ok(()),
        }
    }

    fn check_guard(&self, guard: &Guard) -> Result<(), StoreError> {
        let found = self.get(guard.key());
        let holds = match guard {
            Guard::Absent(_) => found.is_none(),
            Guard::Exists(_) => found.is_some(),
            Guard::At(_, revision) => found.is_some_and(|entry| entry.modified == *revision),
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict { key: guard.key().clone(), found: found.cloned() }) }
    }

    fn check_leases(&self, transaction: &Transaction) -> Result<(), StoreError> {
        for op in &transaction.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.leases.contains(*lease)
            {
                return Err(StoreError::LeaseNotFound { lease: *lease });
            }
        }
        Ok(())
    }

    fn grant(&mut self, ttl: Duration) -> (Answer, Effect) {
        let lease = self.leases.next_id();
        self.leases.begin(lease, ttl, self.now);
        let effect = Effect { lease: Some(LeaseEffect::Begin(lease, ttl)), ..Effect::default() };
        (Answer::Granted(lease), effect)
    }

    fn end(&mut self, lease: LeaseId) -> (Answer, Effect) {
        let ops = self.leases.keys(lease).map(|key| Op::Delete { key: key.clone() }).collect();
        let change = self.change(ops);
        self.leases.end(lease);
        (Answer::Done, Effect { change, lease: Some(LeaseEffect::End(lease)), compact: None })
    }

    fn compact(&mut self, revision: Revision) -> Result<(Answer, Effect), StoreError> {
        // A compaction at a revision of this batch would outrun the history that it cuts; readers cannot know such a
        // revision yet.
        if revision > self.state.head {
            return Err(StoreError::Future { head: self.state.head });
        }
        let compact = (revision > self.oldest).then_some(revision);
        self.oldest = self.oldest.max(revision);
        Ok((Answer::Done, Effect { compact, ..Effect::default() }))
    }

    /// Turns operations whose conditions hold into the next change; `None` if nothing changes.
    fn change(&mut self, ops: Vec<Op>) -> Option<Arc<Change>> {
        let revision = self.head.next();
        let events: Vec<_> = ops.into_iter().filter_map(|op| self.event(op, revision)).collect();
        if events.is_empty() {
            return None;
        }
        for event in &events {
            self.overlay.insert(event.key.clone(), event.entry.clone());
        }
        self.head = revision;
        let change = Arc::new(Change { revision, events });
        self.leases.follow(&change);
        Some(change)
    }

    fn event(&self, op: Op, revision: Revision) -> Option<ChangeEvent> {
        match op {
            Op::Put { key, value, lease, attachment } => {
                let previous = self.get(&key).cloned();
                let created = previous.as_ref().map_or(revision, |entry| entry.created);
                let entry = Entry { key: key.clone(), value, created, modified: revision, lease, attachment };
                Some(ChangeEvent { key, entry: Some(entry), previous })
            }
            Op::Delete { key } => {
                let previous = Some(self.get(&key)?.clone());
                Some(ChangeEvent { key, entry: None, previous })
            }
        }
    }

    fn get(&self, key: &Key) -> Option<&Entry> {
        match self.overlay.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.entries.get(key).map(AsRef::as_ref),
        }
    }
}
