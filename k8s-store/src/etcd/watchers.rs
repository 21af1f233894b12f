//! What the open watches are told: that progress is asked for, and that the store is gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::Notify;

use crate::Revision;

/// The open watches, and the newest revision that a caller was told of.
#[derive(Default)]
pub(super) struct Watchers {
    open: Mutex<Open>,
    told: AtomicU64,
    closed: AtomicBool,
}

#[derive(Default)]
struct Open {
    slots: BTreeMap<u64, Arc<Slot>>,
    last: u64,
}

/// One watch's mailbox.
pub(super) struct Slot {
    id: u64,
    /// The position to report; zero if nobody asks.
    asked: AtomicU64,
    pub(super) told: Notify,
}

impl Watchers {
    pub(super) fn count(&self) -> usize {
        self.open.lock().slots.len()
    }

    pub(super) fn note(&self, revision: Revision) {
        self.told.fetch_max(revision.0, SeqCst);
    }

    pub(super) fn ask_progress(&self, head: Revision) {
        for slot in self.open.lock().slots.values() {
            slot.asked.fetch_max(head.0, SeqCst);
            slot.told.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.open.lock().slots.values().for_each(|slot| slot.told.notify_one());
    }

    /// Once the store is gone: what a watch still has to yield.
    pub(super) fn closed_at(&self) -> Option<Revision> {
        self.closed.load(SeqCst).then(|| Revision(self.told.load(SeqCst)))
    }

    pub(super) fn register(&self) -> Arc<Slot> {
        let mut open = self.open.lock();
        open.last += 1;
        let slot = Arc::new(Slot { id: open.last, asked: AtomicU64::new(0), told: Notify::new() });
        open.slots.insert(slot.id, slot.clone());
        slot
    }

    pub(super) fn forget(&self, slot: &Slot) {
        self.open.lock().slots.remove(&slot.id);
    }
}

impl Slot {
    /// Takes the question once the watch has come far enough to answer it.
    pub(super) fn answer(&self, seen: Revision) -> bool {
        let asked = self.asked.load(SeqCst);
        asked != 0 && asked <= seen.0 && self.asked.compare_exchange(asked, 0, SeqCst, SeqCst).is_ok()
    }
}
