//! Leases are etcd's own: it counts their time, and ends them whoever is gone.

use std::{collections::BTreeSet, time::Duration};

use super::connection::Connection;
use crate::{LeaseId, StoreError};

/// Grants at least the time asked for: etcd counts whole seconds.
pub(super) async fn grant(connection: &Connection, ttl: Duration) -> Result<LeaseId, StoreError> {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
    let granted = connection.once(connection.leases().grant(seconds, None)).await?;
    u64::try_from(granted.id())
        .map(LeaseId)
        .map_err(|_| StoreError::Unavailable(format!("etcd granted the lease {}", granted.id())))
}

pub(super) async fn keep_alive(connection: &Connection, lease: LeaseId) -> Result<Duration, StoreError> {
    let mut leases = connection.leases();
    let kept = async {
        // The library keeps the answer to its first question to itself.
        let (mut keeper, mut answers) = leases.keep_alive(id(lease)).await?;
        keeper.keep_alive().await?;
        answers.message().await
    };
    let seconds = match connection.once(kept).await {
        Ok(Some(answer)) => answer.ttl(),
        Ok(None) => return Err(StoreError::Unavailable("etcd ended the stream of keep-alives".into())),
        // The client library's word for a time of zero.
        Err(StoreError::Unavailable(why)) if why.contains("lease not found") => 0,
        Err(error) => return Err(named(error, lease)),
    };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(StoreError::LeaseNotFound { lease }),
    }
}

pub(super) async fn revoke(connection: &Connection, lease: LeaseId) -> Result<(), StoreError> {
    connection.once(connection.leases().revoke(id(lease))).await.map(drop).map_err(|error| named(error, lease))
}

/// All that etcd has, whoever granted them.
pub(super) async fn count(connection: &Connection) -> Result<u64, StoreError> {
    Ok(connection.once(connection.leases().leases()).await?.leases().len() as u64)
}

pub(super) fn id(lease: LeaseId) -> i64 {
    i64::try_from(lease.0).unwrap_or(i64::MAX)
}

/// etcd does not say which lease it did not find.
fn named(error: StoreError, lease: LeaseId) -> StoreError {
    match error {
        StoreError::LeaseNotFound { .. } => StoreError::LeaseNotFound { lease },
        other => other,
    }
}

/// Which of the leases, of which there is at least one, has ended, when one of them has.
pub(super) async fn missing(connection: &Connection, named: &BTreeSet<LeaseId>) -> Result<LeaseId, StoreError> {
    let first = named.first().copied().unwrap_or(LeaseId(0));
    if named.len() == 1 {
        return Ok(first);
    }
    let live = connection.once(connection.leases().leases()).await?;
    // The member that was asked may not know yet.
    Ok(named.iter().copied().find(|lease| live.leases().iter().all(|one| one.id() != id(*lease))).unwrap_or(first))
}
