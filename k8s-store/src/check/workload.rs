//! What clients do at random to a store.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;

use super::random::Random;
use crate::{Guard, Key, LeaseId, Op, Page, Revision, Store, StoreError, Transaction, WatchItem, WatchStream};

/// How much is done to a store in one history.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many clients there are at a time.
    pub clients: usize,
    /// How many steps they take together, at least. A step is one or a few calls.
    pub steps: usize,
    /// How long in real time nothing may move before the store counts as stuck.
    pub patience: Duration,
    /// Whether the store may forget history that nobody asks it to compact: its own retention is small, or it restarts.
    pub compacts_itself: bool,
}

impl Default for Workload {
    /// Five clients, two and a half thousand steps, twenty seconds.
    fn default() -> Self {
        Self { clients: 5, steps: 2500, patience: Duration::from_secs(20), compacts_itself: false }
    }
}

const KEYS: [&str; 14] =
    ["a", "a/", "a/1", "a/2", "a/3", "a/30", "aa", "b", "b/1", "b/2", "b/2/x", "c/1", "c/2", "\u{10ffff}"];
const PREFIXES: [&str; 8] = ["", "a", "a/", "a/3", "b/", "b/2", "c/", "d"];

/// What the clients share.
#[derive(Default)]
pub(crate) struct Shared {
    leases: Mutex<Vec<LeaseId>>,
    /// Whether clients go on although they have taken their steps.
    pub(crate) longer: AtomicBool,
    /// The watches that are open when a client ends.
    pub(crate) watches: Mutex<Vec<OpenWatch>>,
}

/// A watch and how far it has come.
pub(crate) struct OpenWatch {
    stream: WatchStream,
    prefix: String,
    last: Revision,
    ended: bool,
}

impl OpenWatch {
    /// Reads what is there, at most `limit` items.
    fn read(&mut self, limit: usize) {
        for _ in 0..limit {
            match self.stream.next().now_or_never() {
                Some(item) => self.note(item),
                None => return,
            }
            if self.ended {
                return;
            }
        }
    }

    /// Reads until the watch has said that it has come to `head`, or has ended.
    pub(crate) async fn read_until(&mut self, head: Revision) {
        while !self.ended {
            let item = self.stream.next().await;
            let done = matches!(&item, Some(Ok(WatchItem::Progress(revision))) if *revision >= head);
            self.note(item);
            if done {
                return;
            }
        }
    }

    fn note(&mut self, item: Option<Result<WatchItem, StoreError>>) {
        match item {
            Some(Ok(WatchItem::Change(change))) => self.last = change.revision,
            Some(Ok(WatchItem::Progress(revision))) => self.last = revision,
            Some(Err(_)) | None => self.ended = true,
        }
    }
}

/// One client.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) random: Random,
    pub(crate) shared: Arc<Shared>,
    pub(crate) steps: usize,
    /// When it last saw each key, for its guards.
    seen: BTreeMap<Key, Revision>,
    head: Revision,
    watches: Vec<OpenWatch>,
    written: u64,
}

impl Client {
    pub(crate) fn new(number: usize, store: Arc<dyn Store>, random: Random, shared: Arc<Shared>, steps: usize) -> Self {
        let (seen, watches) = (BTreeMap::new(), Vec::new());
        Self { number, store, random, shared, steps, seen, head: Revision::ZERO, watches, written: 0 }
    }

    pub(crate) async fn run(mut self) {
        while self.steps > 0 || self.shared.longer.load(Relaxed) {
            self.step().await;
            self.steps = self.steps.saturating_sub(1);
        }
        self.shared.watches.lock().append(&mut self.watches);
    }

    /// Errors are recorded, and the checker judges them; a client goes on.
    async fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.commit().await,
            40..52 => self.get().await,
            52..58 => self.list().await,
            58..61 => self.pages().await,
            61..64 => self.older().await,
            64..68 => self.note_head().await,
            68..72 => self.watch().await,
            72..89 => self.read(),
            89..92 => self.resume().await,
            92..94 => drop(self.store.progress().await),
            94 => self.compact().await,
            95..97 => self.grant().await,
            97 => self.keep_alive().await,
            98 => self.revoke().await,
            _ => drop(self.store.digest().await),
        }
    }

    fn key(&mut self) -> Key {
        Key::from(*self.random.pick(&KEYS))
    }

    fn prefix(&mut self) -> String {
        (*self.random.pick(&PREFIXES)).to_owned()
    }

    async fn commit(&mut self) {
        let mut transaction = Transaction::new();
        let count = [1, 1, 1, 2, 3][self.random.below(5) as usize];
        for _ in 0..count {
            let op = self.op();
            if !transaction.ops.iter().any(|other| other.key() == op.key()) {
                if self.random.one_in(3) {
                    transaction = transaction.guard(self.guard(op.key()));
                }
                transaction = transaction.op(op);
            }
        }
        match self.store.commit(transaction).await {
            Ok(committed) => {
                self.head = committed.revision;
                for event in committed.change.iter().flat_map(|change| &change.events) {
                    self.seen.insert(event.key.clone(), committed.revision);
                }
            }
            Err(StoreError::Conflict { key, found: Some(entry) }) => drop(self.seen.insert(key, entry.modified)),
            Err(_) => {}
        }
    }

    fn op(&mut self) -> Op {
        let key = self.key();
        if self.random.one_in(4) {
            return Op::Delete { key };
        }
        self.written += 1;
        let mut value = format!("{}.{}", self.number, self.written).into_bytes();
        if self.random.one_in(8) {
            value.resize(value.len() + self.random.below(700) as usize, b'.');
        }
        let leases = self.shared.leases.lock();
        let lease = if leases.is_empty() || !self.random.one_in(10) { None } else { Some(*self.random.pick(&leases)) };
        Op::Put { key, value: value.into(), lease, attachment: None }
    }

    fn guard(&mut self, key: &Key) -> Guard {
        match (self.random.below(4), self.seen.get(key)) {
            (0, _) => Guard::Exists(key.clone()),
            (1, _) | (_, None) => Guard::Absent(key.clone()),
            (_, Some(revision)) => Guard::At(key.clone(), *revision),
        }
    }

    async fn get(&mut self) {
        let key = self.key();
        if let Ok(Some(entry)) = self.store.get(&key).await {
            self.seen.insert(key, entry.modified);
        }
    }

    async fn list(&mut self) {
        let prefix = self.prefix();
        if let Ok(listing) = self.store.list(&prefix, Page::all()).await {
            self.head = listing.revision;
            if self.random.one_in(3) {
                self.open(prefix, listing.revision).await;
            }
        }
    }

    async fn pages(&mut self) {
        let prefix = self.prefix();
        let mut page = Page { limit: Some(1 + self.random.below(4) as usize), ..Page::all() };
        while let Ok(listing) = self.store.list(&prefix, page.clone()).await {
            page.at = Some(listing.revision);
            match listing.entries.last() {
                Some(last) if listing.more => page.after = Some(last.key.clone()),
                _ => return,
            }
        }
    }

    /// A revision around the newest that the client knows: mostly before it, now and then after it.
    fn revision(&mut self) -> Revision {
        Revision((self.head.0 + 3).saturating_sub(self.random.below(60)))
    }

    async fn older(&mut self) {
        let (prefix, at) = (self.prefix(), Some(self.revision()));
        let after = if self.random.one_in(4) { Some(self.key()) } else { None };
        let limit = if self.random.one_in(3) { Some(self.random.below(4) as usize) } else { None };
        // What comes back is recorded.
        let _ = self.store.list(&prefix, Page { at, after, limit }).await;
    }

    async fn note_head(&mut self) {
        if let Ok(head) = self.store.head().await {
            self.head = head;
        }
    }

    async fn watch(&mut self) {
        let (prefix, from) = (self.prefix(), self.revision());
        self.open(prefix, from).await;
    }

    async fn open(&mut self, prefix: String, last: Revision) {
        let mut opened = self.store.watch(&prefix, last).await;
        let mut last = last;
        if let Err(StoreError::Compacted { oldest }) = opened {
            last = oldest;
            opened = self.store.watch(&prefix, oldest).await;
        }
        if let Ok(stream) = opened {
            if self.watches.len() == 3 {
                self.watches.remove(0);
            }
            self.watches.push(OpenWatch { stream, prefix, last, ended: false });
        }
    }

    fn read(&mut self) {
        let limit = 1 + self.random.below(12) as usize;
        self.watches.iter_mut().for_each(|watch| watch.read(limit));
        self.watches.retain(|watch| !watch.ended);
    }

    /// Ends a watch and opens another where it was.
    async fn resume(&mut self) {
        if let Some(watch) = self.watches.pop() {
            let (prefix, last) = (watch.prefix.clone(), watch.last);
            drop(watch);
            self.open(prefix, last).await;
        }
    }

    async fn compact(&mut self) {
        let revision = Revision(self.revision().0.saturating_sub(self.random.below(20)));
        // What comes back is recorded.
        let _ = self.store.compact(revision).await;
    }

    async fn grant(&mut self) {
        if let Ok(lease) = self.store.grant(Duration::from_secs(3600)).await {
            self.shared.leases.lock().push(lease);
        }
    }

    fn lease(&mut self) -> Option<LeaseId> {
        let leases = self.shared.leases.lock();
        if leases.is_empty() { None } else { Some(*self.random.pick(&leases)) }
    }

    async fn keep_alive(&mut self) {
        if let Some(lease) = self.lease() {
            // What comes back is recorded.
            let _ = self.store.keep_alive(lease).await;
        }
    }

    async fn revoke(&mut self) {
        if let Some(lease) = self.lease() {
            // What comes back is recorded.
            let _ = self.store.revoke(lease).await;
        }
    }
}
