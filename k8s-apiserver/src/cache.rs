//! The watch cache: every object once, kept true by one watch of the store.
//!
//! A list is a snapshot of a copy-on-write map; a watch is a position in the shared ring of recent changes, woken
//! through an interest index. Readers never touch the store but to ask for its head. A cache that finds itself wrong
//! makes itself anew and counts it; it takes nothing else down.

pub(crate) mod consistency;
mod feed;
mod field;
mod filter;
mod index;
mod interest;
mod kind;
mod metrics;
mod page;
mod reached;
mod read;
mod ring;
mod state;
mod table;
mod watch;
mod written;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use k8s_core::{
    env::{self, Env, Task},
    registry::Registry,
    request::ResourceType,
    status::{ApiError, ApiResult},
};
use k8s_store::{Revision, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

#[cfg(test)]
pub(crate) use self::page::Token;
use self::{feed::Feed, reached::Reached};
pub use self::{
    feed::ROOT, field::field, filter::Filter, kind::KindCache, state::State, table::Table, written::Written,
};
use crate::auth::Follower;

/// How long a read waits for the cache to reach the revision that it needs.
const WAIT: Duration = Duration::from_secs(3);

/// The cache of everything that is served.
pub struct Cache {
    env: Env,
    store: Arc<dyn Store>,
    followers: Vec<Arc<dyn Follower>>,
    table: ArcSwap<Table>,
    /// Other kinds than those of the table, and whom to tell when it holds them.
    wanted: Mutex<Option<Wanted>>,
    reached: Reached,
    closed: AtomicBool,
    rebuilds: AtomicU64,
    /// Told when the cache turned out to be wrong.
    doubted: Notify,
    /// Told when other kinds are wanted.
    asked: Notify,
}

struct Wanted {
    registry: Arc<Registry>,
    done: oneshot::Sender<()>,
}

impl Cache {
    /// An empty cache of the stored kinds of a registry.
    pub fn new(env: Env, store: Arc<dyn Store>, registry: &Registry, followers: &[Arc<dyn Follower>]) -> Self {
        Self {
            env,
            store,
            followers: followers.to_vec(),
            table: ArcSwap::from_pointee(Table::new(registry, &Table::default(), followers)),
            wanted: Mutex::default(),
            reached: Reached::default(),
            closed: AtomicBool::new(false),
            rebuilds: AtomicU64::new(0),
            doubted: Notify::new(),
            asked: Notify::new(),
        }
    }

    /// Holds the stored kinds of another registry from now on: what is new is whole when this returns, watches of what
    /// is gone end. 503 if the store could not be read; ask again.
    pub async fn hold(&self, registry: Arc<Registry>) -> ApiResult<()> {
        let (done, held) = oneshot::channel();
        *self.wanted.lock() = Some(Wanted { registry, done });
        self.asked.notify_one();
        held.await.map_err(|_| ApiError::unavailable("the kinds of the cluster could not be read from the store"))
    }

    /// Fills the cache and keeps it true until the task is dropped.
    pub async fn start(self: &Arc<Self>) -> ApiResult<Task> {
        let feed = Feed::start(self.clone(), self.store.clone()).await;
        let feed = feed.map_err(|error| ApiError::unavailable(format!("the store cannot be read: {error}")))?;
        Ok(self.env.spawn("watch cache", Box::pin(feed.run())))
    }

    /// The cache of a resource; `None` if it is not served or not stored.
    pub fn kind(&self, resource: &ResourceType) -> Option<Arc<KindCache>> {
        self.table.load().kind(resource).cloned()
    }

    /// Every kind of this moment.
    pub fn kinds(&self) -> Vec<Arc<KindCache>> {
        self.table.load().kinds().to_vec()
    }

    /// Everything up to this revision is in the cache.
    pub fn revision(&self) -> u64 {
        self.reached.get()
    }

    fn reached(&self, revision: u64) {
        self.reached.set(revision);
    }

    /// How often the cache was made anew because it or the store's watch was wrong.
    pub fn rebuilds(&self) -> u64 {
        self.rebuilds.load(Ordering::Relaxed)
    }

    fn count_rebuild(&self) {
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.table.load().kinds().iter().map(|kind| kind.interest.lock().len()).sum()
    }

    /// Waits until the cache shows a revision; 504 if it does not in time. Cancel-safe.
    pub async fn wait_for(&self, revision: u64) -> ApiResult<()> {
        if self.revision() >= revision {
            return Ok(());
        }
        match env::timeout(&*self.env, WAIT, self.reached.wait_for(revision)).await {
            Some(()) => Ok(()),
            None => {
                let message = format!("Too large resource version: {revision}, current: {}", self.revision());
                Err(ApiError::timeout(message).retry_after(Duration::from_secs(1)))
            }
        }
    }

    /// Waits until the cache shows everything that was acknowledged before the call. Cancel-safe.
    pub async fn wait_for_head(&self) -> ApiResult<()> {
        let head = self.store.head().await;
        let Revision(head) = head.map_err(|error| ApiError::unavailable(format!("the store's head: {error}")))?;
        self.wait_for(head).await
    }

    /// Forgets how things were before `revision`: lists and further pages of before are 410.
    pub fn compact(&self, revision: u64) {
        self.table.load().kinds().iter().for_each(|kind| kind.compact(revision));
    }

    /// Ends every watch.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut wakers = Vec::new();
        self.table.load().kinds().iter().for_each(|kind| kind.interest.lock().wake_all(&mut wakers));
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Whether every watch has been ended for good.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
