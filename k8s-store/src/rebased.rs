//! A store that has been used before, seen from where it is now.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;

use crate::{
    Change, ChangeEvent, Committed, Digest, Entry, Guard, Key, LeaseId, Listing, Page, Revision, Statistics, Store,
    StoreError, Transaction, WatchItem, WatchStream,
};

/// Counts the revisions of `inner` from `base`, so that promises about numbers can be tested on a store whose counter
/// does not begin at zero. Digests stay those of `inner`.
pub(crate) struct Rebased {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) base: u64,
}

/// The numbers of a store, seen from `base`.
trait Seen {
    fn seen(self, base: u64) -> Self;
}

impl Seen for Revision {
    fn seen(self, base: u64) -> Self {
        Self(self.0.saturating_sub(base))
    }
}

impl Seen for Entry {
    fn seen(self, base: u64) -> Self {
        Self { created: self.created.seen(base), modified: self.modified.seen(base), ..self }
    }
}

impl Seen for Arc<Change> {
    fn seen(self, base: u64) -> Self {
        let event = |event: &ChangeEvent| ChangeEvent {
            key: event.key.clone(),
            entry: event.entry.clone().map(|entry| entry.seen(base)),
            previous: event.previous.clone().map(|entry| entry.seen(base)),
        };
        Arc::new(Change { revision: self.revision.seen(base), events: self.events.iter().map(event).collect() })
    }
}

impl Seen for StoreError {
    fn seen(self, base: u64) -> Self {
        match self {
            Self::Conflict { key, found } => Self::Conflict { key, found: found.map(|entry| entry.seen(base)) },
            Self::Compacted { oldest } => Self::Compacted { oldest: oldest.seen(base) },
            Self::Future { head } => Self::Future { head: head.seen(base) },
            other => other,
        }
    }
}

impl Rebased {
    fn real(&self, revision: Revision) -> Revision {
        Revision(revision.0 + self.base)
    }

    /// A guard as the store knows it. No key was put at revision zero, before or after.
    fn guard(&self, guard: Guard) -> Guard {
        match guard {
            Guard::At(key, revision) if revision > Revision::ZERO => Guard::At(key, self.real(revision)),
            other => other,
        }
    }
}

#[async_trait]
impl Store for Rebased {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.inner.head().await.map(|head| head.seen(self.base))
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await.map(|found| found.map(|entry| entry.seen(self.base)))
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        let page = Page { at: page.at.map(|at| self.real(at)), ..page };
        let listing = self.inner.list(prefix, page).await.map_err(|error| error.seen(self.base))?;
        let entries = listing.entries.into_iter().map(|entry| entry.seen(self.base)).collect();
        Ok(Listing { entries, revision: listing.revision.seen(self.base), ..listing })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let base = self.base;
        let watch = self.inner.watch(prefix, self.real(from)).await.map_err(|error| error.seen(base))?;
        let item = move |item: WatchItem| match item {
            WatchItem::Change(change) => WatchItem::Change(change.seen(base)),
            WatchItem::Progress(at) => WatchItem::Progress(at.seen(base)),
        };
        Ok(Box::pin(watch.map(move |next| next.map(item).map_err(|error| error.seen(base)))))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let guards = transaction.guards.into_iter().map(|guard| self.guard(guard)).collect();
        let committed = self.inner.commit(Transaction { guards, ops: transaction.ops }).await;
        let committed = committed.map_err(|error| error.seen(self.base))?;
        let change = committed.change.map(|change| change.seen(self.base));
        Ok(Committed { revision: committed.revision.seen(self.base), change })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(self.real(revision)).await.map_err(|error| error.seen(self.base))
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.inner.progress().await.map(|head| head.seen(self.base))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let statistics = self.inner.statistics().await?;
        let (head, oldest) = (statistics.head.seen(self.base), statistics.oldest.seen(self.base));
        Ok(Statistics { head, oldest, ..statistics })
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.inner.digest().await
    }
}
