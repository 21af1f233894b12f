//! A store that fails on purpose, so that whoever uses a store can test what they do then.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, task::AtomicWaker};
use parking_lot::Mutex;

use crate::{
    Committed, Digest, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, Store, StoreError, Transaction,
    WatchStream, check::Random,
};

/// Passes calls on to a store, and lets some of them fail.
///
/// ```
/// use std::sync::Arc;
/// use k8s_store::{Calls, Failure, Faulty, Memory, Store, Transaction, contract::Clock};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = Faulty::new(Arc::new(Memory::new(Clock::new().env())));
/// store.fail(Calls::Writes, Failure::LoseAnswer, 1);
/// let outcome = store.commit(Transaction::new().put("a", "1")).await;
/// assert!(outcome.unwrap_err().outcome_unknown());
/// assert!(store.get(&"a".into()).await.unwrap().is_some(), "it has happened all the same");
/// # }
/// ```
pub struct Faulty {
    store: Arc<dyn Store>,
    faults: Mutex<Faults>,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `head`, `get`, `list`, `progress`, `statistics` and `digest`.
    Reads,
    /// `commit`, `compact`, `grant`, `keep_alive` and `revoke`.
    Writes,
    /// `watch`.
    Watches,
}

/// How a call fails.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Nothing happens, and the caller gets this error. With [`StoreError::Unavailable`] it cannot know that.
    Refuse(StoreError),
    /// It happens, and the caller gets [`StoreError::Unavailable`].
    LoseAnswer,
}

#[derive(Default)]
struct Faults {
    planned: Vec<(Calls, Failure, u64)>,
    /// Draws which writes fail, one in so many.
    chance: Option<(Random, u64)>,
    watches: Vec<Weak<Ending>>,
}

impl Faulty {
    /// A store that works until it is told to fail.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, faults: Mutex::default() }
    }

    /// A store of which one write in `one_in` gets [`StoreError::Unavailable`], having happened or not, as `seed` says.
    pub fn unreliable(store: Arc<dyn Store>, seed: u64, one_in: u64) -> Self {
        let faulty = Self::new(store);
        faulty.faults.lock().chance = Some((Random::new(seed), one_in.max(1)));
        faulty
    }

    /// Lets the next `times` such calls fail. What was said before about the same calls comes first.
    pub fn fail(&self, calls: Calls, failure: Failure, times: u64) {
        self.faults.lock().planned.push((calls, failure, times));
    }

    /// Ends every open watch with this error.
    pub fn end_watches(&self, error: &StoreError) {
        for ending in self.faults.lock().watches.drain(..).filter_map(|watch| watch.upgrade()) {
            *ending.error.lock() = Some(error.clone());
            ending.waker.wake();
        }
    }

    fn next(&self, calls: Calls) -> Option<Failure> {
        let mut faults = self.faults.lock();
        let planned = faults.planned.iter().position(|(planned, _, times)| *planned == calls && *times > 0);
        if let Some(index) = planned {
            let (_, failure, times) = &mut faults.planned[index];
            *times -= 1;
            return Some(failure.clone());
        }
        let (random, one_in) = faults.chance.as_mut().filter(|_| calls == Calls::Writes)?;
        let refused = Failure::Refuse(StoreError::Unavailable("by chance".into()));
        random.one_in(*one_in).then(|| if random.one_in(2) { Failure::LoseAnswer } else { refused })
    }

    async fn pass<T>(&self, calls: Calls, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.next(calls) {
            None => work.await,
            Some(Failure::Refuse(error)) => Err(error),
            Some(Failure::LoseAnswer) => {
                work.await?;
                Err(StoreError::Unavailable("the answer was lost".into()))
            }
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.pass(Calls::Reads, self.store.head()).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.pass(Calls::Reads, self.store.get(key)).await
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.pass(Calls::Reads, self.store.list(prefix, page)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let stream = self.pass(Calls::Watches, self.store.watch(prefix, from)).await?;
        let ending = Arc::new(Ending::default());
        let mut faults = self.faults.lock();
        faults.watches.retain(|watch| watch.strong_count() > 0);
        faults.watches.push(Arc::downgrade(&ending));
        Ok(Box::pin(FaultyWatch { stream: Some(stream), ending }))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        self.pass(Calls::Writes, self.store.commit(transaction)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.pass(Calls::Writes, self.store.compact(revision)).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.pass(Calls::Reads, self.store.progress()).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.pass(Calls::Writes, self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.pass(Calls::Writes, self.store.keep_alive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.pass(Calls::Writes, self.store.revoke(lease)).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.pass(Calls::Reads, self.store.statistics()).await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.pass(Calls::Reads, self.store.digest()).await
    }
}

/// Why a watch is to end.
#[derive(Default)]
struct Ending {
    error: Mutex<Option<StoreError>>,
    waker: AtomicWaker,
}

struct FaultyWatch {
    /// `None` after the watch was ended.
    stream: Option<WatchStream>,
    ending: Arc<Ending>,
}

impl Stream for FaultyWatch {
    type Item = <WatchStream as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ending.waker.register(cx.waker());
        let ended = self.ending.error.lock().take();
        if let Some(error) = ended {
            self.stream = None;
            return Poll::Ready(Some(Err(error)));
        }
        match &mut self.stream {
            Some(stream) => stream.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests;
