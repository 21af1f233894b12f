//! A store whose watches are late, as one is that a distant server sees.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_core::env::Env;
use k8s_store::{
    Committed, Digest, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, Store, StoreError, Transaction,
    WatchStream, check::Random,
};
use parking_lot::Mutex;

/// Passes everything on; what watches yield comes later.
pub struct Lagging {
    pub inner: Arc<dyn Store>,
    pub env: Env,
    /// How late the next item is.
    pub late: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Lagging {
    /// One item in four is late, by `longest` at most.
    pub fn sometimes(inner: Arc<dyn Store>, env: Env, random: Random, longest: Duration) -> Self {
        let random = Mutex::new(random);
        let late = move || {
            let mut random = random.lock();
            if random.one_in(4) { longest.mul_f64(random.below(100) as f64 / 100.0) } else { Duration::ZERO }
        };
        Self { inner, env, late: Arc::new(late) }
    }
}

#[async_trait]
impl Store for Lagging {
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let stream = self.inner.watch(prefix, from).await?;
        let (env, late) = (self.env.clone(), self.late.clone());
        let late = stream.then(move |item| {
            let late = late();
            let nap = (!late.is_zero()).then(|| env.sleep(late));
            async move {
                if let Some(nap) = nap {
                    nap.await;
                }
                item
            }
        });
        Ok(Box::pin(late))
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        self.inner.head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.inner.list(prefix, page).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        self.inner.commit(transaction).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.inner.progress().await
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
        self.inner.statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.inner.digest().await
    }
}
