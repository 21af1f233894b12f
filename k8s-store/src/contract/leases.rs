//! Promises about leases.

use k8s_core::env::Env;

use super::{Subject, all, get, make, next_change, put, watch};
use crate::{LeaseId, Op, Revision, Store, StoreError, Transaction};

async fn put_leased(store: &dyn Store, key: &str, lease: LeaseId) -> Revision {
    let op = Op::Put { key: key.into(), value: "leased".into(), lease: Some(lease), attachment: None };
    store.commit(Transaction::new().op(op)).await.expect("the lease lives").revision
}

/// When a lease's time is up, its keys are deleted in one commit, and nothing else is.
pub async fn leases_end_with_their_keys(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    let store = &*subject.store;
    let (time, ttl) = (subject.lease_time, subject.lease_time.ttl());
    let lease = store.grant(ttl).await.expect("grants");
    let other = store.grant(10 * ttl).await.expect("grants");
    assert_ne!(lease, other);
    assert_eq!(store.head().await.expect("a head"), Revision::ZERO, "a lease is no change");
    put_leased(store, "mine/a", lease).await;
    put_leased(store, "mine/b", lease).await;
    put_leased(store, "other", other).await;
    let last = put(store, "free", "v").await;
    assert_eq!(get(store, "mine/a").await.expect("it is there").lease, Some(lease));
    let mut watch = watch(store, "", last).await;
    time.pass(&clock, ttl).await;
    let change = next_change(&mut watch).await;
    assert_eq!(change.revision, last.next());
    let deleted: Vec<_> = change.events.iter().map(|event| (event.key.as_str(), event.entry.is_none())).collect();
    assert_eq!(deleted, [("mine/a", true), ("mine/b", true)]);
    let left: Vec<_> = all(store, "").await.into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(left, ["free", "other"]);
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseNotFound { .. })));
    assert_eq!(store.statistics().await.expect("statistics").leases, 1);
}

/// A lease that is kept alive in time does not end; one that is not, does, while others live on.
pub async fn leases_live_while_kept_alive(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    let store = &*subject.store;
    let (time, ttl) = (subject.lease_time, subject.lease_time.ttl());
    let kept = store.grant(ttl).await.expect("grants");
    let left = store.grant(ttl).await.expect("grants");
    put_leased(store, "kept", kept).await;
    let last = put_leased(store, "left", left).await;
    time.pass(&clock, ttl / 2).await;
    assert_eq!(store.keep_alive(kept).await.expect("it lives"), ttl);
    let mut watch = watch(store, "", last).await;
    time.pass(&clock, ttl / 2).await;
    // The end of the other lease shows that the expiry has run, and passed this one over.
    assert_eq!(next_change(&mut watch).await.events[0].key.as_str(), "left");
    assert!(get(store, "kept").await.is_some());
    time.pass(&clock, ttl / 2).await;
    assert_eq!(next_change(&mut watch).await.events[0].key.as_str(), "kept");
}

/// Revoking ends a lease at once. A lease without keys ends without a change.
pub async fn leases_can_be_revoked(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let ttl = subject.lease_time.ttl();
    let (used, unused) = (store.grant(ttl).await.expect("grants"), store.grant(ttl).await.expect("grants"));
    put_leased(store, "a", used).await;
    put_leased(store, "b", used).await;
    store.revoke(used).await.expect("it lives");
    assert_eq!(all(store, "").await, []);
    assert_eq!(store.head().await.expect("a head"), Revision(3), "both in one commit");
    store.revoke(unused).await.expect("it lives");
    assert_eq!(store.head().await.expect("a head"), Revision(3), "nothing changed");
    for lease in [used, unused] {
        assert!(matches!(store.revoke(lease).await, Err(StoreError::LeaseNotFound { lease: said }) if said == lease));
    }
    let next = store.grant(ttl).await.expect("grants");
    assert!(next != used && next != unused, "a lease's name is not given twice");
}

/// A key belongs to the lease of its last put; one that was deleted belongs to none.
pub async fn keys_leave_their_lease(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let ttl = subject.lease_time.ttl();
    let (one, other) = (store.grant(ttl).await.expect("grants"), store.grant(ttl).await.expect("grants"));
    for key in ["freed", "moved", "deleted", "stays"] {
        put_leased(store, key, one).await;
    }
    put(store, "freed", "v").await;
    put_leased(store, "moved", other).await;
    super::delete(store, "deleted").await;
    put(store, "deleted", "again").await;
    store.revoke(one).await.expect("it lives");
    let left: Vec<_> = all(store, "").await.into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(left, ["deleted", "freed", "moved"]);
    store.revoke(other).await.expect("it lives");
    assert!(get(store, "moved").await.is_none());
}

/// A put under a lease that does not live is refused, with all of its transaction.
pub async fn unknown_leases_are_refused(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let ttl = subject.lease_time.ttl();
    let lease = store.grant(ttl).await.expect("grants");
    store.revoke(lease).await.expect("it lives");
    let op = Op::Put { key: "a".into(), value: "v".into(), lease: Some(lease), attachment: None };
    let outcome = store.commit(Transaction::new().put("b", "v").op(op)).await;
    assert!(matches!(outcome, Err(StoreError::LeaseNotFound { lease: said }) if said == lease));
    assert_eq!(all(store, "").await, []);
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseNotFound { .. })));
}
