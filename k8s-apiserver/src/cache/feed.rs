//! Fills the cache from the store: one list, then one watch.

use std::{collections::BTreeMap, sync::Arc, task::Waker, time::Duration};

use futures::{FutureExt, StreamExt};
use k8s_core::{
    env,
    object::{Object, ObjectKey},
    status::{ApiError, ApiResult},
};
use k8s_store::{
    Change, ChangeEvent, Entry, Listing, Page, Revision, Store, StoreError, Transaction, WatchItem, WatchStream,
};

use super::{
    Cache, Wanted,
    kind::KindCache,
    ring::{Event, Ring},
    state::State,
    table::Table,
};
use crate::storage;

/// Everything that the API server stores is below it.
pub const ROOT: &str = "/registry/";
/// When a server's cache was last found wrong.
const REBUILT: &str = "/registry/watch-cache/rebuilt";
/// How many changes are published together when they come faster than one at a time.
const BATCH: usize = 128;
/// How many of the store's last changes are read at a start, so that watches resume over it.
const RESUMABLE: u64 = 10_000;
/// How long that may take.
const REPLAY_LIMIT: Duration = Duration::from_secs(2);
/// The pause before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(200);

/// Follows the store until the cache is closed.
pub(super) struct Feed {
    cache: Arc<Cache>,
    store: Arc<dyn Store>,
    watch: WatchStream,
}

/// Why following ended.
enum Broke {
    /// The store's watch failed; what is cached is still true.
    Watch(String),
    /// What the store says contradicts what is cached.
    Invariant(ApiError),
}

/// What the cache knows of the time before it was filled.
enum Past {
    /// The store's kept history, so that watches resume over a restart of the server.
    Replayed,
    /// Nothing: whoever watched must start anew.
    Unknown,
}

impl Feed {
    /// Lists everything and begins to watch. The cache is whole when this returns.
    pub(super) async fn start(cache: Arc<Cache>, store: Arc<dyn Store>) -> Result<Self, StoreError> {
        Self::fill(cache, store, Past::Replayed).await
    }

    async fn fill(cache: Arc<Cache>, store: Arc<dyn Store>, past: Past) -> Result<Self, StoreError> {
        let listing = store.list(ROOT, Page::all()).await?;
        let head = listing.revision;
        if matches!(past, Past::Replayed) {
            refuse_sealed(&*store, &listing).await?;
        }
        let watch = store.watch(ROOT, head).await?;
        let rings = match past {
            Past::Replayed => env::timeout(&*cache.env, REPLAY_LIMIT, replay(&cache, &*store, head)).await,
            Past::Unknown => None,
        };
        // To resume from before a start is a favour, not a promise: without it clients list anew.
        let rings = rings.and_then(Result::ok).unwrap_or_else(|| empty_rings(&cache, head));
        let table = cache.table.load_full();
        let mut states: Vec<State> = table.kinds().iter().map(|_| State::empty(head.0)).collect();
        for entry in &listing.entries {
            for (place, kind) in table.at(&entry.key) {
                if let Some(object) = or_left_out(entry, kind.object(entry)) {
                    drop(states[place].set(&object.meta.key(), Some(object)));
                }
            }
        }
        let mut wakers = Vec::new();
        for (kind, (state, ring)) in table.kinds().iter().zip(states.into_iter().zip(rings)) {
            kind.reset(state, ring, &mut wakers);
        }
        cache.reached(head.0);
        wakers.into_iter().for_each(Waker::wake);
        Ok(Self { cache, store, watch })
    }

    /// Applies changes as they come. A watch that fails is opened again where it was; a cache that is wrong is made
    /// anew.
    pub(super) async fn run(mut self) {
        loop {
            let broke = self.follow().await;
            while !self.cache.is_closed() {
                let again = match &broke {
                    Broke::Watch(why) => {
                        tracing::warn!(why, "the watch of the store is opened again");
                        self.reopen().await
                    }
                    Broke::Invariant(error) => {
                        tracing::error!(%error, "the watch cache is made anew");
                        self.pass_a_revision().await;
                        self.refill().await
                    }
                };
                match again {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, "the store cannot be read; trying again"),
                }
                self.cache.env.sleep(RETRY).await;
            }
            if self.cache.is_closed() {
                return;
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), StoreError> {
        self.cache.env.sleep(RETRY).await;
        match self.store.watch(ROOT, Revision(self.cache.revision())).await {
            Ok(watch) => {
                self.watch = watch;
                Ok(())
            }
            Err(StoreError::Compacted { .. } | StoreError::Future { .. }) => self.refill().await,
            Err(error) => Err(error),
        }
    }

    /// Takes a revision, so that the cache begins after every revision that anybody was told of: a watcher that was
    /// told of a revision without all that is in it must not resume from there.
    async fn pass_a_revision(&mut self) {
        let now = self.cache.env.now().to_string();
        if let Err(error) = self.store.commit(Transaction::new().put(REBUILT, now)).await {
            tracing::warn!(%error, "watches may resume over the cache's making");
        }
    }

    async fn refill(&mut self) -> Result<(), StoreError> {
        self.cache.count_rebuild();
        *self = Self::fill(self.cache.clone(), self.store.clone(), Past::Unknown).await?;
        Ok(())
    }

    /// Applies changes until something breaks.
    async fn follow(&mut self) -> Broke {
        loop {
            let cache = self.cache.clone();
            let (batch, end) = tokio::select! {
                biased;
                () = cache.doubted.notified() => {
                    return Broke::Invariant(ApiError::internal("a comparison with the store found a difference"));
                }
                () = cache.asked.notified() => {
                    self.change_kinds().await;
                    continue;
                }
                // Cancel-safe: it waits before it takes anything.
                next = self.next_batch() => next,
            };
            if let Err(error) = apply(&self.cache, &batch) {
                return Broke::Invariant(error);
            }
            if let Some(why) = end {
                return Broke::Watch(why);
            }
        }
    }

    /// Holds other kinds from here on: what is new is read as it was at the revision that the cache shows, and changes
    /// after that come as they come to all others. If the store cannot be read, who asked is told by a dropped sender.
    async fn change_kinds(&mut self) {
        let Some(Wanted { registry, done }) = self.cache.wanted.lock().take() else { return };
        let before = self.cache.table.load_full();
        let table = Table::new(&registry, &before, &self.cache.followers);
        let revision = self.cache.revision();
        let mut wakers = Vec::new();
        for kind in table.without(&before) {
            let page = Page { at: Some(Revision(revision)), ..Page::all() };
            let listing = match self.store.list(&kind.prefix, page).await {
                Ok(listing) => listing,
                Err(error) => {
                    let what = &kind.info.plural;
                    return tracing::warn!(%error, %what, "the objects of a kind cannot be read");
                }
            };
            let mut state = State::empty(revision);
            for entry in &listing.entries {
                if let Some(object) = or_left_out(entry, kind.object(entry)) {
                    drop(state.set(&object.meta.key(), Some(object)));
                }
            }
            kind.reset(state, Ring::new(revision), &mut wakers);
        }
        let table = Arc::new(table);
        self.cache.table.store(table.clone());
        before.without(&table).for_each(|kind| kind.close(&mut wakers));
        wakers.into_iter().for_each(Waker::wake);
        if done.send(()).is_err() {
            tracing::debug!("nobody waits for the kinds any more");
        }
    }

    /// Waits for a change and takes those that are ready behind it; also says why nothing follows, if nothing does.
    async fn next_batch(&mut self) -> (Vec<Arc<Change>>, Option<String>) {
        let mut batch = Vec::new();
        let mut next = self.watch.next().await;
        loop {
            match next {
                Some(Ok(WatchItem::Change(change))) => batch.push(change),
                Some(Ok(WatchItem::Progress(_))) => {}
                Some(Err(error)) => return (batch, Some(error.to_string())),
                None => return (batch, Some("the store ended the watch".to_owned())),
            }
            if batch.len() >= BATCH {
                return (batch, None);
            }
            match self.watch.next().now_or_never() {
                Some(item) => next = item,
                None => return (batch, None),
            }
        }
    }
}

/// A server must not start on values that it cannot decrypt: it would take them for lost. (While it runs, such a value
/// costs itself only.)
async fn refuse_sealed(store: &dyn Store, listing: &Listing) -> Result<(), StoreError> {
    for entry in listing.entries.iter().filter(|entry| storage::is_sealed(&entry.value)) {
        // The store itself says why, if it knows of keys.
        let still = store.get(&entry.key).await?.filter(|entry| storage::is_sealed(&entry.value));
        if let Some(Entry { key, value, .. }) = still {
            return Err(StoreError::Unreadable { key, reason: storage::without_key(&value) });
        }
    }
    Ok(())
}

/// Applies changes in order and publishes them. Nothing is published if one of them cannot be.
fn apply(cache: &Cache, changes: &[Arc<Change>]) -> ApiResult<()> {
    let mut revision = cache.revision();
    let table = cache.table.load_full();
    let mut touched: BTreeMap<usize, (State, Vec<Arc<Event>>)> = BTreeMap::new();
    for change in changes {
        if change.revision.0 <= revision {
            return Err(ApiError::internal(format!("revision {} came after {revision}", change.revision)));
        }
        revision = change.revision.0;
        for changed in &change.events {
            for (place, kind) in table.at(&changed.key) {
                let (state, events) = touched.entry(place).or_insert_with(|| (State::clone(&kind.state()), Vec::new()));
                events.push(step(kind, state, changed, revision)?);
            }
        }
    }
    let mut wakers = Vec::new();
    for (place, (state, events)) in touched {
        table.kinds()[place].publish(state, &events, &mut wakers);
    }
    cache.reached(revision);
    wakers.into_iter().for_each(Waker::wake);
    Ok(())
}

/// Applies one change of one object to a state. An object that cannot be read costs itself only: it is left out, as if
/// it were not there.
fn step(kind: &KindCache, state: &mut State, changed: &ChangeEvent, revision: u64) -> ApiResult<Arc<Event>> {
    let new = changed.entry.as_ref().and_then(|entry| or_left_out(entry, kind.object(entry)));
    let key = kind.key(&changed.key[kind.prefix.len()..]);
    let old = state.set(&key, new.clone());
    state.revision = revision;
    let known = old.as_ref().map(|object| object.revision());
    let stored = changed.previous.as_ref().map(|entry| entry.modified.0);
    let was_left_out = || known.is_none() && changed.previous.as_ref().is_some_and(|entry| kind.decode(entry).is_err());
    if known != stored && !was_left_out() {
        let message = format!("{} was at {stored:?} in the store and at {known:?} in the cache", changed.key);
        return Err(ApiError::internal(message));
    }
    Ok(Arc::new(Event::new(revision, key, new, old)))
}

fn or_left_out(entry: &Entry, object: ApiResult<Arc<Object>>) -> Option<Arc<Object>> {
    object.inspect_err(|error| tracing::error!(key = %entry.key, %error, "a stored object is left out")).ok()
}

fn empty_rings(cache: &Cache, from: Revision) -> Vec<Ring> {
    cache.table.load().kinds().iter().map(|_| Ring::new(from.0)).collect()
}

/// The store's kept changes up to `head`, by kind.
async fn replay(cache: &Cache, store: &dyn Store, head: Revision) -> Result<Vec<Ring>, StoreError> {
    let oldest = store.statistics().await?.oldest;
    let from = Revision(oldest.0.max(head.0.saturating_sub(RESUMABLE)));
    let mut rings = empty_rings(cache, from);
    let mut past = store.watch(ROOT, from).await?;
    store.progress().await?;
    while let Some(item) = past.next().await {
        match item? {
            WatchItem::Change(change) if change.revision > head => break,
            WatchItem::Change(change) => change.events.iter().for_each(|changed| {
                remember(cache, changed, change.revision.0, &mut rings);
            }),
            WatchItem::Progress(reached) if reached >= head => break,
            WatchItem::Progress(_) => {}
        }
    }
    Ok(rings)
}

fn remember(cache: &Cache, changed: &ChangeEvent, revision: u64, rings: &mut [Ring]) {
    for (place, kind) in cache.table.load().at(&changed.key) {
        let object = |entry: &Option<Entry>| -> Option<Arc<Object>> { kind.decode(entry.as_ref()?).ok() };
        let key: ObjectKey = kind.key(&changed.key[kind.prefix.len()..]);
        let event = Event::new(revision, key, object(&changed.entry), object(&changed.previous));
        rings[place].push(Arc::new(event));
    }
}
