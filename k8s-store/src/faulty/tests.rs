//! Every documented error can be made to happen, and means what it says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};

use super::{Calls, Failure, Faulty};
use crate::{
    Embedded, EmbeddedOptions, Guard, LeaseId, MAX_TRANSACTION_BYTES, Memory, Op, Page, Revision, Store, StoreError,
    Transaction, contract::Clock,
};

/// Without a wildcard: a new variant asks for its case here.
fn name(error: &StoreError) -> &'static str {
    match error {
        StoreError::Conflict { .. } => "Conflict",
        StoreError::Compacted { .. } => "Compacted",
        StoreError::Future { .. } => "Future",
        StoreError::TooLarge { .. } => "TooLarge",
        StoreError::Invalid { .. } => "Invalid",
        StoreError::LeaseNotFound { .. } => "LeaseNotFound",
        StoreError::Unreadable { .. } => "Unreadable",
        StoreError::Keyless { .. } => "Keyless",
        StoreError::Unavailable(_) => "Unavailable",
        StoreError::ReadOnly { .. } => "ReadOnly",
        StoreError::Full { .. } => "Full",
        StoreError::Corrupt { .. } => "Corrupt",
        StoreError::Locked { .. } => "Locked",
        StoreError::Disk { .. } => "Disk",
        StoreError::Closed => "Closed",
    }
}

const ALL: usize = 15;

fn faulty() -> Faulty {
    Faulty::new(Arc::new(Memory::new(Clock::new().env())))
}

fn put() -> Transaction {
    Transaction::new().put("a", "1")
}

/// The errors that a caller brings about itself.
async fn own_mistakes(store: &dyn Store) -> Vec<StoreError> {
    for _ in 0..3 {
        store.commit(put()).await.expect("a plain put succeeds");
    }
    store.compact(Revision(2)).await.expect("compacts");
    let leased = Op::Put { key: "b".into(), value: "1".into(), lease: Some(LeaseId(9)), attachment: None };
    let large = Transaction::new().put("b", vec![0; MAX_TRANSACTION_BYTES + 1]);
    let refused = [put().guard(Guard::Absent("a".into())), large, put().delete("a"), Transaction::new().op(leased)];
    let mut errors = Vec::new();
    for transaction in refused {
        errors.push(store.commit(transaction).await.expect_err("it is refused"));
    }
    for at in [Revision(1), Revision(9)] {
        errors.push(store.list("", Page { at: Some(at), ..Page::all() }).await.expect_err("it cannot be told"));
    }
    assert_eq!(store.head().await.expect("a head"), Revision(3), "nothing of it happened");
    errors
}

/// The errors that a store in memory never has by itself.
async fn planned() -> Vec<StoreError> {
    let mut errors = Vec::new();
    let reason = || "on purpose".to_owned();
    let refusals = [
        StoreError::ReadOnly { reason: reason() },
        StoreError::Full { reason: reason() },
        StoreError::Unavailable(reason()),
        StoreError::Closed,
    ];
    for refusal in refusals {
        let store = faulty();
        store.fail(Calls::Writes, Failure::Refuse(refusal), 1);
        errors.push(store.commit(put()).await.expect_err("it is to fail"));
        assert_eq!(store.head().await.expect("reads go on"), Revision::ZERO, "nothing happened");
        store.commit(put()).await.expect("once is enough");
    }
    let store = faulty();
    let unreadable = StoreError::Unreadable { key: "a".into(), reason: reason() };
    for refused in [unreadable, StoreError::Keyless { reason: reason() }] {
        store.fail(Calls::Reads, Failure::Refuse(refused), 1);
        errors.push(store.get(&"a".into()).await.expect_err("it is to fail"));
    }
    errors
}

/// The errors of a folder that cannot be opened.
fn while_opening() -> Vec<StoreError> {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |path: &std::path::Path| Embedded::open(path, Clock::new().env(), EmbeddedOptions::default());
    let store = open(folder.path()).expect("it opens");
    let locked = open(folder.path()).err();
    drop(store);
    std::fs::write(folder.path().join("log-0000000000000001"), vec![7; 8192]).expect("it can be overwritten");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("it can be written");
    [locked, open(folder.path()).err(), open(&file.join("below")).err()].map(|error| error.expect("it fails")).into()
}

#[tokio::test]
async fn every_error_can_be_made_to_happen() {
    let mut errors = own_mistakes(&faulty()).await;
    errors.extend(planned().await);
    errors.extend(while_opening());
    let names: BTreeSet<_> = errors.iter().map(name).collect();
    assert_eq!(names.len(), ALL, "only {names:?}");
    let unknown: Vec<_> = errors.iter().filter(|error| error.outcome_unknown()).map(name).collect();
    assert_eq!(unknown, ["Unavailable"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_has_happened() {
    let store = faulty();
    store.fail(Calls::Writes, Failure::LoseAnswer, 2);
    assert!(store.commit(put()).await.expect_err("it is lost").outcome_unknown());
    assert_eq!(store.head().await.expect("a head"), Revision(1));
    assert!(store.grant(Duration::from_secs(1)).await.is_err());
    assert_eq!(store.statistics().await.expect("statistics").leases, 1);
    store.commit(put()).await.expect("twice is enough");
}

#[tokio::test]
async fn watches_end_as_they_are_told() {
    let store = faulty();
    let mut watch = store.watch("", Revision::ZERO).await.expect("it can be watched");
    let mut waiting = watch.next();
    assert!((&mut waiting).now_or_never().is_none());
    store.end_watches(&StoreError::Compacted { oldest: Revision(7) });
    assert!(matches!(waiting.await, Some(Err(StoreError::Compacted { oldest: Revision(7) }))));
    assert!(watch.next().await.is_none());
    store.fail(Calls::Watches, Failure::Refuse(StoreError::Closed), 1);
    assert!(store.watch("", Revision::ZERO).await.is_err());
    assert!(store.watch("", Revision::ZERO).await.is_ok());
}
