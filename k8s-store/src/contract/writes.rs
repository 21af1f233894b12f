//! Promises about commits.

use std::sync::Arc;

use futures::StreamExt;
use k8s_core::env::Env;

use super::{Subject, all, changes_until, delete, get, in_parallel, increment, make, put, watch};
use crate::{Guard, Key, MAX_TRANSACTION_BYTES, Op, Revision, StoreError, Transaction};

/// A store that nobody has written to is at revision zero and holds nothing.
pub async fn the_empty_store_is_at_revision_zero(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    assert_eq!(store.head().await.expect("a head"), Revision::ZERO);
    assert_eq!(all(store, "").await, []);
    let statistics = store.statistics().await.expect("statistics");
    assert_eq!((statistics.entries, statistics.bytes, statistics.watches), (0, 0, 0));
}

/// Revisions are dense: a change takes the next, what changes nothing takes none.
pub async fn every_change_takes_the_next_revision(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    assert_eq!(put(store, "a", "1").await, Revision(1));
    let both = Transaction::new().put("b", "1").put("c", "1").delete("a");
    assert_eq!(store.commit(both).await.expect("commits").revision, Revision(2));
    let nothing = store.commit(Transaction::new().delete("absent")).await.expect("commits");
    assert_eq!(nothing.revision, Revision(2));
    assert!(nothing.change.is_none(), "nothing changed");
    store.commit(Transaction::new().guard(Guard::Absent("b".into())).put("b", "2")).await.expect_err("conflicts");
    assert_eq!(store.head().await.expect("a head"), Revision(2));
    assert_eq!(put(store, "b", "1").await, Revision(3), "a put of the same value is a change");
    let entry = get(store, "b").await.expect("it is there");
    assert_eq!((entry.created, entry.modified), (Revision(2), Revision(3)));
    delete(store, "b").await;
    put(store, "b", "again").await;
    let entry = get(store, "b").await.expect("it is there");
    assert_eq!((entry.created, entry.modified), (Revision(5), Revision(5)), "a key that comes back is new");
}

/// Each guard, when it holds and when it does not. The error says what is there.
pub async fn guards_hold_or_nothing_happens(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let there = put(store, "there", "v").await;
    let digest = store.digest().await.expect("a digest");
    let failing = [
        Guard::Absent("there".into()),
        Guard::Exists("absent".into()),
        Guard::At("there".into(), there.next()),
        Guard::At("there".into(), Revision::ZERO),
        Guard::At("absent".into(), Revision::ZERO),
    ];
    for guard in failing {
        let transaction = Transaction::new().guard(guard.clone()).put("there", "w").put("other", "w");
        match store.commit(transaction).await {
            Err(StoreError::Conflict { key, found }) => {
                assert_eq!(&key, guard.key());
                assert_eq!(found, get(store, guard.key()).await, "{guard:?}");
            }
            other => panic!("{guard:?} does not hold, and the commit gave {other:?}"),
        }
    }
    assert_eq!(store.digest().await.expect("a digest"), digest, "a refused transaction leaves nothing");
    let holding = [Guard::Exists("there".into()), Guard::At("there".into(), there), Guard::Absent("absent".into())];
    let transaction = holding.into_iter().fold(Transaction::new(), Transaction::guard).put("there", "w");
    assert_eq!(store.commit(transaction).await.expect("all guards hold").revision, there.next());
}

/// A guard is about the state before the transaction, and all guards must hold.
pub async fn guards_see_the_store_before_the_transaction(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let create = Transaction::new().guard(Guard::Absent("a".into())).put("a", "1");
    store.commit(create.clone()).await.expect("it is absent before");
    store.commit(create).await.expect_err("now it is there");
    let one_of_two = Transaction::new().guard(Guard::Exists("a".into())).guard(Guard::Exists("b".into())).delete("a");
    match store.commit(one_of_two).await {
        Err(StoreError::Conflict { key, found: None }) => assert_eq!(key.as_str(), "b"),
        other => panic!("the second guard does not hold, and the commit gave {other:?}"),
    }
    assert!(get(store, "a").await.is_some());
}

/// Many read, decide and write at once; not one update is lost.
pub async fn guarded_writers_lose_no_update(new: impl AsyncFn(Env) -> Subject) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let (subject, clock) = make(new).await;
    let counter = Key::from("counter");
    in_parallel(&clock, WRITERS, |_| {
        let (store, counter) = (subject.store.clone(), counter.clone());
        Box::pin(async move {
            for _ in 0..EACH {
                increment(&*store, &counter).await;
            }
        })
    })
    .await;
    let entry = get(&*subject.store, "counter").await.expect("it was counted");
    assert_eq!(entry.value, (WRITERS * EACH).to_string());
    assert_eq!(entry.modified, Revision((WRITERS * EACH) as u64), "every update has its own revision");
}

/// What a commit has acknowledged, a get, a list, the head and a watch that begin afterwards show.
pub async fn acknowledged_writes_are_read_at_once(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    in_parallel(&clock, 4, |number| {
        let store = subject.store.clone();
        Box::pin(async move {
            let prefix = format!("writer-{number}/");
            for round in 0..50 {
                let (key, value) = (format!("{prefix}{}", round % 7), round.to_string());
                let revision = put(&*store, &key, &value).await;
                let entry = get(&*store, &key).await.expect("it was acknowledged");
                assert_eq!((entry.value.as_ref(), entry.modified), (value.as_bytes(), revision));
                assert!(store.head().await.expect("a head") >= revision);
                assert!(all(&*store, &prefix).await.contains(&entry), "the list has it");
                let mut watch = watch(&*store, &prefix, Revision(revision.0 - 1)).await;
                let first = watch.next().await.expect("the watch goes on").expect("it has no error");
                assert!(matches!(first, crate::WatchItem::Change(change) if change.revision == revision));
            }
        })
    })
    .await;
}

/// A transaction that contradicts itself or is too large leaves no trace.
pub async fn invalid_transactions_change_nothing(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    put(store, "a", "1").await;
    let digest = store.digest().await.expect("a digest");
    let twice = Transaction::new().put("b", "1").delete("a").put("b", "2");
    assert!(matches!(store.commit(twice).await, Err(StoreError::Invalid { .. })));
    let large = Transaction::new().put("b", vec![0; MAX_TRANSACTION_BYTES + 1]);
    assert!(matches!(store.commit(large).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.digest().await.expect("a digest"), digest);
    assert_eq!(store.head().await.expect("a head"), Revision(1));
}

/// Any bytes can be a value and any text a key.
pub async fn values_and_keys_come_back_unharmed(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let every_byte: Vec<u8> = (0..=255).collect();
    let values = [vec![], vec![0], every_byte, vec![b'x'; 1 << 20]];
    let keys = ["plain", "/registry/pods/default/a", "umlaut-ü", "\u{10ffff}", "nul-\0-inside", "new\nline"];
    for (number, key) in keys.iter().enumerate() {
        let value = &values[number % values.len()];
        store.commit(Transaction::new().put(*key, value.clone())).await.expect("it is a valid put");
        assert_eq!(get(store, key).await.expect("it is there").value, value, "under {key:?}");
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable_by_key(|key| key.as_bytes());
    let listed: Vec<_> = all(store, "").await.into_iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(listed, sorted, "a list is in the order of the keys' bytes");
}

/// What a writer hangs on a put, readers and watches in the process get back; it is no part of the value.
pub async fn attachments_are_handed_back(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let attached: Arc<str> = "decoded".into();
    let attachment: crate::Attachment = Arc::new(attached.clone());
    let op = Op::Put { key: "a".into(), value: "1".into(), lease: None, attachment: Some(attachment) };
    let revision = store.commit(Transaction::new().op(op)).await.expect("commits").revision;
    let mut changes = watch(store, "", Revision::ZERO).await;
    let change = changes_until(&mut changes, revision).await.remove(0);
    let from_watch = change.events[0].entry.clone().expect("it was put");
    let from_get = get(store, "a").await.expect("it is there");
    for entry in [from_watch, from_get] {
        let found = entry.attachment.as_ref().map(|attachment| attachment.downcast_ref::<Arc<str>>());
        match found {
            Some(found) => assert!(found.is_some_and(|found| Arc::ptr_eq(found, &attached)), "it is another's"),
            None => assert!(!subject.hands_back_attachments, "the attachment is lost"),
        }
    }
    put(store, "a", "2").await;
    assert!(get(store, "a").await.expect("it is there").attachment.is_none(), "it belonged to the value before");
}

/// The digest is of what is stored, and of all of it.
pub async fn equal_histories_have_equal_digests(new: impl AsyncFn(Env) -> Subject) {
    let (one, _clock) = make(&new).await;
    let (other, _clock) = make(&new).await;
    let mut digests = Vec::new();
    for store in [&*one.store, &*other.store] {
        let empty = store.digest().await.expect("a digest");
        put(store, "a", "1").await;
        let first = store.digest().await.expect("a digest");
        put(store, "a", "1").await;
        let modified = store.digest().await.expect("a digest");
        put(store, "b", "1").await;
        let more = store.digest().await.expect("a digest");
        delete(store, "b").await;
        assert_eq!(store.digest().await.expect("a digest"), modified, "what was deleted leaves no trace");
        delete(store, "a").await;
        assert_eq!(store.digest().await.expect("a digest"), empty);
        digests.push([empty, first, modified, more]);
    }
    assert_eq!(digests[0], digests[1]);
    let [empty, first, modified, more] = digests[0];
    assert!(empty != first && first != modified && modified != more, "every difference shows");
}
