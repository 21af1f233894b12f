//! What every backend of this process shares: the published state, its history, the open watches and the leases.
//!
//! Readers see only what was published, and a backend publishes only what is durable.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::ControlFlow, task::Waker};

use k8s_core::env::Env;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::{
    Change, Digest, Entry, Key, Listing, Page, Revision, Statistics, StoreError,
    history::{History, Retention},
    lease::Leases,
    plan::Effect,
    state::{self, Entries, State},
    watch::Watches,
};

/// How many changes a reader of the history walks before it lets a writer in.
pub(crate) const CHANGES_PER_LOCK: usize = 1024;

pub(crate) struct Core {
    pub(crate) env: Env,
    pub(crate) published: RwLock<Published>,
    /// Locked after `published`.
    pub(crate) watches: Mutex<Watches>,
    /// Locked after `published`.
    pub(crate) leases: Mutex<Leases>,
    /// Told when a lease begins, so that the expiry looks at its deadline.
    pub(crate) lease_begun: Notify,
}

/// What readers see.
pub(crate) struct Published {
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) fault: Option<Fault>,
}

/// Why a store does not work as usual.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// For now: writes are tried, and fail cleanly as long as there is no space.
    Full(String),
    ReadOnly(String),
    Closed,
}

impl Core {
    /// An empty store.
    pub(crate) fn empty(env: Env, retention: Retention) -> Self {
        Self::with(env, State::default(), History::new(Revision::ZERO, retention), Leases::default())
    }

    /// A store that goes on from what was recovered.
    pub(crate) fn with(env: Env, state: State, history: History, leases: Leases) -> Self {
        Self {
            env,
            published: RwLock::new(Published { state, history, fault: None }),
            watches: Mutex::default(),
            leases: Mutex::new(leases),
            lease_begun: Notify::new(),
        }
    }

    pub(crate) fn head(&self) -> Result<Revision, StoreError> {
        let published = self.published.read();
        published.readable()?;
        Ok(published.state.head)
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let published = self.published.read();
        published.readable()?;
        Ok(published.state.entries.get(key).map(|entry| (**entry).clone()))
    }

    pub(crate) fn list(&self, prefix: &str, page: &Page) -> Result<Listing, StoreError> {
        let (entries, undo, revision) = match page.at {
            None => {
                let (entries, head) = self.entries()?;
                (entries, Undo::new(), head)
            }
            Some(revision) => {
                let (entries, undo) = self.entries_at(prefix, page.after.as_ref(), revision)?;
                (entries, undo, revision)
            }
        };
        Ok(page_of(&entries, &undo, prefix, page, revision))
    }

    pub(crate) fn digest(&self) -> Result<Digest, StoreError> {
        Ok(Digest::of(self.entries()?.0.values().map(AsRef::as_ref)))
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let published = self.published.read();
        Statistics {
            head: published.state.head,
            oldest: published.history.oldest(),
            entries: published.state.entries.len() as u64,
            bytes: published.state.bytes,
            history_bytes: published.history.bytes() as u64,
            watches: self.watches.lock().count() as u64,
            leases: self.leases.lock().count() as u64,
            read_only: match &published.fault {
                Some(Fault::ReadOnly(reason) | Fault::Full(reason)) => Some(reason.clone()),
                _ => None,
            },
            disk: None,
        }
    }

    /// Makes the effects visible, in order, and wakes the watches that they concern.
    ///
    /// If an effect breaks an invariant, it and the rest stay invisible and the store takes no more writes.
    pub(crate) fn publish<'a>(&self, effects: impl IntoIterator<Item = &'a Effect>) -> Result<(), StoreError> {
        let mut published = self.published.write();
        let mut watches = self.watches.lock();
        let outcome = effects.into_iter().try_for_each(|effect| published.take(effect, &mut watches));
        let wakers = watches.take_wakers();
        drop(watches);
        drop(published);
        wakers.into_iter().for_each(Waker::wake);
        outcome
    }

    /// Takes no more writes from now on (or, if closed, nothing at all). The first fault stays, but a graver one wins.
    pub(crate) fn fail(&self, fault: Fault) {
        let mut published = self.published.write();
        match (&published.fault, &fault) {
            (None, _) | (Some(_), Fault::Closed) | (Some(Fault::Full(_)), Fault::ReadOnly(_)) => {
                published.fault = Some(fault);
            }
            (Some(_), Fault::Full(_)) | (Some(_), Fault::ReadOnly(_)) => {}
        }
        let wakers = self.watches.lock().wake_all();
        drop(published);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Notes that there is space again.
    pub(crate) fn has_space(&self) {
        let mut published = self.published.write();
        if let Some(Fault::Full(_)) = published.fault {
            published.fault = None;
        }
    }

    /// The newest entries and their revision.
    pub(crate) fn entries(&self) -> Result<(Entries, Revision), StoreError> {
        let published = self.published.read();
        published.readable()?;
        Ok((published.state.entries.clone(), published.state.head))
    }

    /// The newest entries, and what to undo in them to get the state at `revision` for keys after `after`.
    ///
    /// Costs a walk over the changes since then, a lock's worth at a time.
    fn entries_at(&self, prefix: &str, after: Option<&Key>, revision: Revision) -> Result<(Entries, Undo), StoreError> {
        let mut undo = Undo::new();
        let mut at = revision;
        loop {
            let published = self.published.read();
            published.readable()?;
            if revision < published.history.oldest() {
                return Err(StoreError::Compacted { oldest: published.history.oldest() });
            }
            for change in published.history.after(at)?.take(CHANGES_PER_LOCK) {
                undo_change(&mut undo, change, prefix, after);
                at = change.revision;
            }
            if at == published.state.head {
                return Ok((published.state.entries.clone(), undo));
            }
        }
    }
}

impl Published {
    pub(crate) fn readable(&self) -> Result<(), StoreError> {
        match &self.fault {
            Some(Fault::Closed) => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }

    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        match &self.fault {
            None | Some(Fault::Full(_)) => Ok(()),
            Some(Fault::Closed) => Err(StoreError::Closed),
            Some(Fault::ReadOnly(reason)) => Err(StoreError::ReadOnly { reason: reason.clone() }),
        }
    }

    fn take(&mut self, effect: &Effect, watches: &mut Watches) -> Result<(), StoreError> {
        self.writable()?;
        if let Some(change) = &effect.change {
            self.state.apply(change).map_err(|broken| self.refuse(&broken))?;
            self.history.push(change.clone());
            watches.note(change);
        }
        if let Some(revision) = effect.compact {
            self.history.compact(revision);
        }
        Ok(())
    }

    fn refuse(&mut self, broken: &str) -> StoreError {
        let reason = format!("an invariant is broken: {broken}");
        tracing::error!(reason, "the store takes no more writes");
        self.fault = Some(Fault::ReadOnly(reason.clone()));
        StoreError::ReadOnly { reason }
    }
}

/// What was under the keys that changed since an older revision.
type Undo = BTreeMap<Key, Option<Entry>>;

fn undo_change(undo: &mut Undo, change: &Change, prefix: &str, after: Option<&Key>) {
    for event in &change.events {
        let wanted = event.key.starts_with(prefix) && after.is_none_or(|after| event.key > *after);
        if wanted && !undo.contains_key(&event.key) {
            undo.insert(event.key.clone(), event.previous.clone());
        }
    }
}

/// The page of the list that `entries` with `undo` on top of it holds.
fn page_of(entries: &Entries, undo: &Undo, prefix: &str, page: &Page, revision: Revision) -> Listing {
    let limit = page.limit.unwrap_or(usize::MAX);
    let mut listing = Listing { entries: Vec::new(), revision, more: false, remaining: 0 };
    let _ = merge(entries, undo, prefix, page.after.as_ref(), |entry| {
        if listing.entries.len() < limit {
            listing.entries.push(entry.clone());
        } else {
            listing.more = true;
            listing.remaining += 1;
        }
        ControlFlow::Continue(())
    });
    listing
}

/// Walks `entries` with `undo` on top of it, in the order of the keys, until `visit` breaks.
fn merge(
    entries: &Entries,
    undo: &Undo,
    prefix: &str,
    after: Option<&Key>,
    mut visit: impl FnMut(&Entry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut undone = undo.iter().peekable();
    for entry in state::range(entries, prefix, after) {
        while let Some((_, old)) = undone.next_if(|(key, _)| **key < entry.key) {
            old.iter().try_for_each(&mut visit)?;
        }
        match undone.next_if(|(key, _)| **key == entry.key) {
            Some((_, old)) => old.iter().try_for_each(&mut visit)?,
            None => visit(entry)?,
        }
    }
    undone.filter_map(|(_, old)| old.as_ref()).try_for_each(visit)
}
