//! The oldest revision that can be read. etcd says only whether a given one can, so it is searched for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use etcd_client::GetOptions;

use super::{Shared, keyspace};
use crate::{Revision, StoreError};

/// What is known already. It never falls.
#[derive(Default)]
pub(super) struct Oldest(AtomicU64);

impl Oldest {
    /// Searches from `least`. One request if nothing was compacted since the last search; otherwise as many as the
    /// head has binary digits, and again if somebody compacts meanwhile.
    pub(super) async fn find(&self, shared: &Shared, least: Revision) -> Result<Revision, StoreError> {
        let known = Revision(self.0.load(Relaxed)).max(least);
        if is_kept(shared, known).await? {
            return Ok(known);
        }
        let mut low = known;
        loop {
            // Invariant: `low` is compacted and `high` its successor, so if `high` is kept it is the oldest.
            let high = first_kept(shared, &mut low).await?;
            if is_kept(shared, high).await? {
                self.0.fetch_max(high.0, Relaxed);
                return Ok(high);
            }
            low = high;
        }
    }
}

/// The successor of the last revision that was found compacted, and was itself kept when it was looked at. `low` must be
/// compacted, and is that last one afterwards.
async fn first_kept(shared: &Shared, low: &mut Revision) -> Result<Revision, StoreError> {
    let mut high = shared.head().await?;
    while high.0 > low.0 + 1 {
        let middle = Revision(low.0 + (high.0 - low.0) / 2);
        if is_kept(shared, middle).await? {
            high = middle;
        } else {
            *low = middle;
        }
    }
    Ok(high)
}

async fn is_kept(shared: &Shared, revision: Revision) -> Result<bool, StoreError> {
    let revision = keyspace::number(revision.max(Revision(1)));
    let options = GetOptions::new().with_count_only().with_revision(revision);
    match shared.connection.get(vec![0], options).await {
        // A revision to come is no compacted one.
        Ok(_) | Err(StoreError::Future { .. }) => Ok(true),
        Err(StoreError::Compacted { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
