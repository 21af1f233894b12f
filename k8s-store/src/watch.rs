//! Watches: positions in the shared history, and who is to be woken when it grows.
//!
//! A watch that waits is *parked*: the writer compares each change with its prefix, and either wakes it or passes the
//! change over on its behalf. So a quiet watch costs nothing, never falls behind, and is never woken for nothing.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Stream;

use crate::{
    Change, Revision, StoreError, WatchItem,
    core::{CHANGES_PER_LOCK, Core},
};

/// Everybody who watches.
#[derive(Default)]
pub(crate) struct Watches {
    slots: BTreeMap<u64, Slot>,
    last: u64,
    /// Collected by `note`, woken by the publisher after it has let go of the locks.
    wakers: Vec<Waker>,
}

struct Slot {
    prefix: Arc<str>,
    parked: Parked,
    /// Somebody asked for progress and has not been answered.
    progress: bool,
}

enum Parked {
    /// The watch is reading; it looks for new changes itself before it parks.
    No,
    /// Nothing for the watch was published since it parked.
    Waiting(Waker),
    /// The first change for the watch since it parked.
    Found(Revision),
    /// Woken for another reason; nothing for the watch was published before this revision's successor.
    Nudged(Revision),
}

impl Watches {
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Wakes the watches whose prefix covers a key of the change, and passes it over for the others that wait.
    pub(crate) fn note(&mut self, change: &Change) {
        for slot in self.slots.values_mut() {
            if matches!(slot.parked, Parked::Waiting(_))
                && change.events.iter().any(|event| event.key.starts_with(&*slot.prefix))
                && let Parked::Waiting(waker) = std::mem::replace(&mut slot.parked, Parked::Found(change.revision))
            {
                self.wakers.push(waker);
            }
        }
    }

    pub(crate) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// The wakers of everybody who waits, because the store failed or was closed.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        self.slots.values().filter_map(|slot| slot.parked.waker()).cloned().collect()
    }

    fn ask_progress(&mut self, head: Revision) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for slot in self.slots.values_mut() {
            slot.progress = true;
            if let Some(waker) = slot.parked.waker() {
                wakers.push(waker.clone());
                slot.parked = Parked::Nudged(head);
            }
        }
        wakers
    }

    fn open(&mut self, prefix: Arc<str>) -> u64 {
        self.last += 1;
        self.slots.insert(self.last, Slot { prefix, parked: Parked::No, progress: false });
        self.last
    }
}

impl Parked {
    fn waker(&self) -> Option<&Waker> {
        match self {
            Self::Waiting(waker) => Some(waker),
            _ => None,
        }
    }
}

/// One reader's position.
pub(crate) struct Watch {
    core: Arc<Core>,
    id: u64,
    prefix: Arc<str>,
    /// Everything up to here was yielded or is not under the prefix.
    seen: Revision,
    ended: bool,
}

impl Watch {
    /// Begins after `from`, or says why not.
    pub(crate) fn open(core: &Arc<Core>, prefix: &str, from: Revision) -> Result<Self, StoreError> {
        let prefix: Arc<str> = prefix.into();
        let published = core.published.read();
        published.readable()?;
        let _ = published.history.after(from)?;
        let id = core.watches.lock().open(prefix.clone());
        Ok(Self { core: core.clone(), id, prefix, seen: from, ended: false })
    }

    /// Asks every watch for its progress; returns the head that they will have reached.
    pub(crate) fn ask_progress(core: &Core) -> Result<Revision, StoreError> {
        let published = core.published.read();
        published.readable()?;
        let head = published.state.head;
        let wakers = core.watches.lock().ask_progress(head);
        drop(published);
        wakers.into_iter().for_each(Waker::wake);
        Ok(head)
    }

    fn advance(&mut self, waker: &Waker) -> Poll<Result<WatchItem, StoreError>> {
        self.unpark();
        loop {
            if let Some(outcome) = self.read(waker) {
                return outcome;
            }
        }
    }

    /// Stops waiting, and takes over what the writer passed over on the watch's behalf.
    fn unpark(&mut self) {
        let published = self.core.published.read();
        let mut watches = self.core.watches.lock();
        let Some(slot) = watches.slots.get_mut(&self.id) else { return };
        self.seen = match std::mem::replace(&mut slot.parked, Parked::No) {
            Parked::No => self.seen,
            Parked::Waiting(_) => published.state.head,
            Parked::Found(revision) => Revision(revision.0 - 1),
            Parked::Nudged(head) => head,
        };
    }

    /// Reads some of the history; `None` if there is more of it to look at.
    fn read(&mut self, waker: &Waker) -> Option<Poll<Result<WatchItem, StoreError>>> {
        let published = self.core.published.read();
        let changes = match published.history.after(self.seen) {
            Ok(changes) => changes,
            Err(error) => return Some(Poll::Ready(Err(error))),
        };
        for change in changes.take(CHANGES_PER_LOCK) {
            self.seen = change.revision;
            if let Some(change) = change.under(&self.prefix) {
                return Some(Poll::Ready(Ok(WatchItem::Change(change))));
            }
        }
        if self.seen < published.state.head {
            return None;
        }
        if let Err(closed) = published.readable() {
            return Some(Poll::Ready(Err(closed)));
        }
        // Still under the lock that a writer would need: between the last look and parking nothing can be published.
        Some(self.park(waker))
    }

    fn park(&self, waker: &Waker) -> Poll<Result<WatchItem, StoreError>> {
        let mut watches = self.core.watches.lock();
        let Some(slot) = watches.slots.get_mut(&self.id) else { return Poll::Ready(Err(StoreError::Closed)) };
        if std::mem::take(&mut slot.progress) {
            return Poll::Ready(Ok(WatchItem::Progress(self.seen)));
        }
        slot.parked = Parked::Waiting(waker.clone());
        Poll::Pending
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(this.advance(cx.waker()));
        this.ended = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.core.watches.lock().slots.remove(&self.id);
    }
}
