//! Promises about compaction.

use futures::StreamExt;
use k8s_core::env::Env;

use super::{Subject, all, delete, get, make, next_change, put, watch};
use crate::{Page, Revision, StoreError, WatchItem};

fn at(revision: Revision) -> Page {
    Page { at: Some(revision), ..Page::all() }
}

/// The compacted revision can still be listed and watched from; the one before it cannot, and the error says so.
pub async fn compaction_is_exact(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    for round in 0..20 {
        put(store, &format!("k/{}", round % 3), &round.to_string()).await;
    }
    let before: Vec<_> = store.list("", at(Revision(10))).await.expect("it is kept").entries;
    for oldest in [10, 15, 15, 12] {
        let oldest = Revision(oldest);
        store.compact(oldest).await.expect("compacts");
        let oldest = oldest.max(store.statistics().await.expect("statistics").oldest);
        for revision in 0..=20 {
            let revision = Revision(revision);
            let listed = store.list("", at(revision)).await;
            let watched = store.watch("", revision).await;
            if revision >= oldest {
                assert_eq!(listed.expect("it is kept").revision, revision);
                let mut watched = watched.expect("it is kept");
                if revision < Revision(20) {
                    assert_eq!(next_change(&mut watched).await.revision, revision.next());
                }
                continue;
            }
            for error in [listed.expect_err("it is compacted"), watched.err().expect("it is compacted")] {
                assert!(matches!(error, StoreError::Compacted { oldest: said } if said == oldest), "{error}");
            }
        }
        if oldest == Revision(10) {
            assert_eq!(store.list("", at(oldest)).await.expect("it is kept").entries, before);
        }
    }
}

/// Compacting the revision before a delete keeps the delete.
pub async fn a_delete_outlives_the_compaction_before_it(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    put(store, "other", "v").await;
    let written = put(store, "a", "v").await;
    let deleted = delete(store, "a").await;
    store.compact(written).await.expect("compacts");
    let mut watch = watch(store, "a", written).await;
    let change = next_change(&mut watch).await;
    assert_eq!(change.revision, deleted);
    assert!(change.events[0].entry.is_none());
    assert_eq!(change.events[0].previous.as_ref().map(|entry| entry.modified), Some(written));
    assert_eq!(store.list("a", at(written)).await.expect("it is kept").entries.len(), 1);
}

/// Compacting at the revision of a delete: nobody who was before it goes on as if it had not happened.
pub async fn a_compacted_delete_is_not_seen_again(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    put(store, "other", "v").await;
    let written = put(store, "a", "v").await;
    let deleted = delete(store, "a").await;
    store.compact(deleted).await.expect("compacts");
    assert!(matches!(store.watch("a", written).await, Err(StoreError::Compacted { oldest }) if oldest == deleted));
    assert!(store.list("a", at(deleted)).await.expect("it is kept").entries.is_empty());
    assert_eq!(get(store, "a").await, None);
    let mut watch = watch(store, "a", deleted).await;
    let again = put(store, "a", "w").await;
    let change = next_change(&mut watch).await;
    assert_eq!(change.revision, again, "the delete is before the watch");
    assert!(change.events[0].previous.is_none(), "the key was absent");
}

/// A reader whose next change was compacted away is told so, and then the watch ends.
pub async fn an_overtaken_watch_ends_with_an_error(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut behind = watch(store, "a", Revision::ZERO).await;
    let mut seen = 0;
    for _ in 0..10 {
        put(store, "a", "v").await;
    }
    store.compact(Revision(8)).await.expect("compacts");
    let error = loop {
        match behind.next().await.expect("an error comes before the end") {
            // A backend may have read ahead; then it yields without a gap what it has.
            Ok(WatchItem::Change(change)) => {
                assert_eq!(change.revision, Revision(seen + 1), "there is a gap");
                seen += 1;
                if seen == 10 {
                    return;
                }
            }
            Ok(WatchItem::Progress(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Compacted { oldest: Revision(8) }), "{error}");
    assert!(behind.next().await.is_none(), "after an error the watch ends");
}

/// Compaction takes history, never state, and it takes no revision.
pub async fn compaction_keeps_what_is_stored(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    for key in ["a", "b", "c"] {
        put(store, key, "v").await;
    }
    delete(store, "b").await;
    let (digest, entries) = (store.digest().await.expect("a digest"), all(store, "").await);
    store.compact(Revision(4)).await.expect("compacts");
    assert_eq!(store.digest().await.expect("a digest"), digest);
    assert_eq!(all(store, "").await, entries);
    assert_eq!(store.head().await.expect("a head"), Revision(4), "the head stays, even if its key is gone");
    assert_eq!(put(store, "d", "v").await, Revision(5));
}
