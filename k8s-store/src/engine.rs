//! The part of a backend that does not depend on where its writes go.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::{Either, select};
use k8s_core::env::Task;
use parking_lot::Mutex;

use crate::{
    Committed, Digest, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, StoreError, Transaction, WatchStream,
    core::{Core, Fault},
    plan::{Answer, Command},
    watch::Watch,
};

/// How long the expiry of leases waits for a full disk.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// Where commands go. They are carried out one after another.
pub(crate) trait Writer: Send + Sync + 'static {
    fn write(&self, command: Command) -> impl Future<Output = Result<Answer, StoreError>> + Send;
}

/// Reads from the core, writes through `W`.
pub(crate) struct Engine<W> {
    pub(crate) core: Arc<Core>,
    pub(crate) writer: Arc<W>,
    /// Started with the first lease; cancelled with the store.
    expiry: Mutex<Option<Task>>,
}

impl<W: Writer> Engine<W> {
    pub(crate) fn new(core: Arc<Core>, writer: Arc<W>) -> Self {
        let engine = Self { core, writer, expiry: Mutex::new(None) };
        if engine.core.leases.lock().count() > 0 {
            engine.start_expiry();
        }
        engine
    }

    pub(crate) fn head(&self) -> Result<Revision, StoreError> {
        self.core.head()
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.core.get(key)
    }

    pub(crate) fn list(&self, prefix: &str, page: &Page) -> Result<Listing, StoreError> {
        self.core.list(prefix, page)
    }

    pub(crate) fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        Ok(Box::pin(Watch::open(&self.core, prefix, from)?))
    }

    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        match self.writer.write(Command::Commit(transaction)).await? {
            Answer::Committed(committed) => Ok(committed),
            answer => Err(unexpected(&answer)),
        }
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.writer.write(Command::Compact { revision }).await.map(drop)
    }

    pub(crate) fn progress(&self) -> Result<Revision, StoreError> {
        Watch::ask_progress(&self.core)
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        match self.writer.write(Command::Grant { ttl }).await? {
            Answer::Granted(lease) => {
                self.start_expiry();
                self.core.lease_begun.notify_one();
                Ok(lease)
            }
            answer => Err(unexpected(&answer)),
        }
    }

    pub(crate) fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.core.published.read().writable()?;
        let now = self.core.env.monotonic();
        self.core.leases.lock().keep_alive(lease, now).ok_or(StoreError::LeaseNotFound { lease })
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.writer.write(Command::Revoke { lease }).await.map(drop)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    pub(crate) fn digest(&self) -> Result<Digest, StoreError> {
        self.core.digest()
    }

    fn start_expiry(&self) {
        let mut expiry = self.expiry.lock();
        if expiry.is_none() {
            let task = expire(self.core.clone(), self.writer.clone());
            *expiry = Some(self.core.env.spawn("store-lease-expiry", Box::pin(task)));
        }
    }
}

impl<W> Drop for Engine<W> {
    /// Watches outlive the store; they learn that nothing more will come.
    fn drop(&mut self) {
        self.core.fail(Fault::Closed);
    }
}

/// Ends leases when their time is up, until the store takes no more writes.
async fn expire(core: Arc<Core>, writer: Arc<impl Writer>) {
    loop {
        let now = core.env.monotonic();
        for lease in due(&core, now) {
            match writer.write(Command::Expire { lease }).await {
                // Not found: kept alive or revoked in the meantime.
                Ok(_) | Err(StoreError::LeaseNotFound { .. }) => {}
                Err(StoreError::Full { .. }) => core.env.sleep(FULL_DISK_RETRY).await,
                Err(error) => {
                    tracing::warn!(%error, "leases no longer expire");
                    return;
                }
            }
        }
        wait_for_deadline(&core).await;
    }
}

fn due(core: &Core, now: Duration) -> Vec<LeaseId> {
    core.leases.lock().due(now)
}

async fn wait_for_deadline(core: &Core) {
    let begun = core.lease_begun.notified();
    let earliest = core.leases.lock().earliest();
    match earliest {
        None => begun.await,
        Some(deadline) => {
            let sleep = core.env.sleep(deadline.saturating_sub(core.env.monotonic()));
            futures::pin_mut!(begun);
            match select(begun, sleep).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }
}

fn unexpected(answer: &Answer) -> StoreError {
    StoreError::Unavailable(format!("the writer gave the answer to another question: {answer:?}"))
}

/// Implements the contract for a backend that wraps an [`Engine`] as its field `engine`.
macro_rules! impl_store {
    ($backend:ty, $statistics:expr) => {
        #[async_trait::async_trait]
        impl crate::Store for $backend {
            async fn head(&self) -> Result<crate::Revision, crate::StoreError> {
                self.engine.head()
            }
            async fn get(&self, key: &crate::Key) -> Result<Option<crate::Entry>, crate::StoreError> {
                self.engine.get(key)
            }
            async fn list(&self, prefix: &str, page: crate::Page) -> Result<crate::Listing, crate::StoreError> {
                self.engine.list(prefix, &page)
            }
            async fn watch(
                &self,
                prefix: &str,
                from: crate::Revision,
            ) -> Result<crate::WatchStream, crate::StoreError> {
                self.engine.watch(prefix, from)
            }
            async fn commit(&self, transaction: crate::Transaction) -> Result<crate::Committed, crate::StoreError> {
                self.engine.commit(transaction).await
            }
            async fn compact(&self, revision: crate::Revision) -> Result<(), crate::StoreError> {
                self.engine.compact(revision).await
            }
            async fn progress(&self) -> Result<crate::Revision, crate::StoreError> {
                self.engine.progress()
            }
            async fn grant(&self, ttl: std::time::Duration) -> Result<crate::LeaseId, crate::StoreError> {
                self.engine.grant(ttl).await
            }
            async fn keep_alive(&self, lease: crate::LeaseId) -> Result<std::time::Duration, crate::StoreError> {
                self.engine.keep_alive(lease)
            }
            async fn revoke(&self, lease: crate::LeaseId) -> Result<(), crate::StoreError> {
                self.engine.revoke(lease).await
            }
            async fn statistics(&self) -> Result<crate::Statistics, crate::StoreError> {
                let complete: fn(&Self, crate::Statistics) -> crate::Statistics = $statistics;
                Ok(complete(self, self.engine.statistics()))
            }
            async fn digest(&self) -> Result<crate::Digest, crate::StoreError> {
                self.engine.digest()
            }
        }
    };
}
pub(crate) use impl_store;
