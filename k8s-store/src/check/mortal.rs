//! A store whose power fails while clients work on it. They go on with what came back, and must find in it all that
//! was acknowledged, each of the unknown outcomes wholly or not at all.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::{Mutex, RwLock};

use super::{Checked, Failure, Random, Workload, run, script::open};
use crate::{
    Committed, Digest, Embedded, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, Store, StoreError,
    Transaction, WatchStream, embedded::simulated::Simulated,
};

/// Checks one history of an embedded store that loses power once in about `one_in` commits.
///
/// # Errors
///
/// The first contradiction.
pub fn history_with_power_cuts(seed: u64, one_in: u64, workload: &Workload) -> Result<Checked, Box<Failure>> {
    let disk = Simulated::default();
    let fail = |error: StoreError| {
        let contradiction = super::Contradiction::new("durable", 0, error.to_string());
        Box::new(Failure { seed, contradiction })
    };
    let store = RwLock::new(open(&disk).map_err(fail)?);
    let life = Mutex::new(Life { disk, random: Random::new(seed), one_in });
    let workload = Workload { compacts_itself: true, ..workload.clone() };
    run(Arc::new(Mortal { store, life }), seed, &workload)
}

struct Mortal {
    store: RwLock<Arc<Embedded>>,
    life: Mutex<Life>,
}

struct Life {
    disk: Simulated,
    random: Random,
    one_in: u64,
}

impl Mortal {
    fn store(&self) -> Arc<Embedded> {
        self.store.read().clone()
    }

    /// The power fails, and comes back.
    fn perhaps_die(&self) -> Result<(), StoreError> {
        let mut life = self.life.lock();
        let one_in = life.one_in;
        if one_in == 0 || !life.random.one_in(one_in) {
            return Ok(());
        }
        let Life { disk, random, .. } = &mut *life;
        // From here on nothing that the old store writes is acknowledged: its disk is off.
        *disk = disk.cut(random);
        let mut store = self.store.write();
        store.close();
        *store = open(disk)?;
        Ok(())
    }
}

#[async_trait]
impl Store for Mortal {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.store().head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store().get(key).await
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.store().list(prefix, page).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.store().watch(prefix, from).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let store = self.store();
        let mut outcome = store.commit(transaction);
        // Handed over first, so that the power may fail in the middle of it.
        if let Some(outcome) = outcome.as_mut().now_or_never() {
            return outcome;
        }
        self.perhaps_die()?;
        outcome.await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store().compact(revision).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.store().progress().await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store().grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.store().keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store().revoke(lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.store().statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.store().digest().await
    }
}
