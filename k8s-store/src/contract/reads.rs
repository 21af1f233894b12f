//! Promises about gets and lists.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use k8s_core::env::Env;

use super::{Subject, all, changes_until, delete, in_parallel, make, put, watch};
use crate::{Entry, Key, Page, Revision, StoreError, Transaction};

/// A list and a watch show the keys that start with the prefix and no neighbour of theirs.
pub async fn a_prefix_shows_nothing_else(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let keys = ["/a", "/a/", "/a/x", "/a/y/z", "/a0", "/a.", "/b", "/", "a/x", "/a/\u{10ffff}", "/a\u{10ffff}"];
    for key in keys {
        put(store, key, "v").await;
    }
    let last = put(store, "zz", "v").await;
    for prefix in ["", "/a", "/a/", "/a/x", "/a/\u{10ffff}", "/a\u{10ffff}", "/a/nothing", "z", "zzz"] {
        let mut expected: Vec<_> = keys.into_iter().chain(["zz"]).filter(|key| key.starts_with(prefix)).collect();
        let mut watch = watch(store, prefix, Revision::ZERO).await;
        let mut watched = Vec::new();
        while watched.len() < expected.len() {
            let change = super::next_change(&mut watch).await;
            watched.extend(change.events.iter().map(|event| event.key.to_string()));
        }
        assert_eq!(watched, expected, "watched under {prefix:?}");
        // Whatever else the watch had to say would come before the answer to this.
        store.progress().await.expect("progress");
        assert!(matches!(super::next(&mut watch).await, crate::WatchItem::Progress(at) if at == last));
        expected.sort_unstable();
        let listed: Vec<_> = all(store, prefix).await.into_iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(listed, expected, "listed under {prefix:?}");
    }
}

/// While commits change two keys together, no list and no event shows them apart.
pub async fn commits_are_seen_whole(new: impl AsyncFn(Env) -> Subject) {
    const COMMITS: usize = 200;
    let (subject, clock) = make(new).await;
    let writing = Arc::new(AtomicBool::new(true));
    in_parallel(&clock, 2, |number| {
        let (store, writing) = (subject.store.clone(), writing.clone());
        Box::pin(async move {
            if number == 0 {
                for round in 0..COMMITS {
                    let both = Transaction::new().put("pair/a", round.to_string()).put("pair/b", round.to_string());
                    store.commit(both).await.expect("commits");
                }
                return writing.store(false, Relaxed);
            }
            while writing.load(Relaxed) {
                let entries = all(&*store, "pair/").await;
                assert!(entries.is_empty() || entries.len() == 2, "half a commit was listed");
                assert!(entries.windows(2).all(|pair| pair[0].value == pair[1].value), "two commits were mixed");
            }
        })
    })
    .await;
    let mut watch = watch(&*subject.store, "pair/", Revision::ZERO).await;
    let changes = changes_until(&mut watch, Revision(COMMITS as u64)).await;
    assert!(changes.iter().all(|change| change.events.len() == 2), "half a commit was watched");
}

/// The pages of a list are of the state at the revision of the first, whatever happens meanwhile.
pub async fn pages_are_of_one_snapshot(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    for number in 0..25 {
        put(store, &format!("item/{number:02}"), "v").await;
    }
    put(store, "other", "v").await;
    let expected = all(store, "item/").await;
    let mut pages = Vec::new();
    let mut page = Page { limit: Some(10), ..Page::all() };
    loop {
        let listing = store.list("item/", page.clone()).await.expect("the page can be listed");
        assert_eq!(listing.revision, Revision(26));
        pages.extend(listing.entries);
        assert_eq!(listing.remaining, (expected.len() - pages.len()) as u64);
        assert_eq!(listing.more, listing.remaining > 0);
        if !listing.more {
            break;
        }
        page.at = Some(listing.revision);
        page.after = pages.last().map(|entry| entry.key.clone());
        // Before, in, and after what has been listed.
        for key in ["item/00", "item/05x", "item/15", "item/99"] {
            put(store, key, "changed").await;
        }
        delete(store, "item/16").await;
        delete(store, "item/03").await;
    }
    assert_eq!(pages, expected);
    let none = store.list("item/", Page { limit: Some(0), ..Page::all() }).await.expect("lists");
    assert_eq!((none.entries.len(), none.more), (0, true), "a page of none says that there are some");
}

/// The state at every kept revision is what the history says.
pub async fn older_states_can_be_listed(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut states: Vec<BTreeMap<Key, Entry>> = vec![BTreeMap::new()];
    for round in 0..40_u64 {
        let key = format!("k/{}", round * 7 % 5);
        let revision = if round % 3 == 2 { delete(store, &key).await } else { put(store, &key, "v").await };
        let state = all(store, "k/").await.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        if revision.0 as usize == states.len() {
            states.push(state);
        }
    }
    assert!(states.len() > 20, "the rounds made changes");
    for (revision, state) in states.iter().enumerate() {
        let page = Page { at: Some(Revision(revision as u64)), ..Page::all() };
        let listing = store.list("k/", page).await.expect("the revision is kept");
        assert_eq!(listing.revision, Revision(revision as u64));
        assert_eq!(listing.entries, state.values().cloned().collect::<Vec<_>>(), "at revision {revision}");
    }
}

/// A revision that has not happened is refused, not answered with what there is.
pub async fn revisions_to_come_are_refused(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let head = put(store, "a", "1").await;
    let at = Page { at: Some(head.next()), ..Page::all() };
    let is_future = |error: StoreError| matches!(error, StoreError::Future { head: said } if said == head);
    assert!(is_future(store.list("", at).await.expect_err("it has not happened")));
    assert!(is_future(store.watch("", head.next()).await.err().expect("it has not happened")));
    assert!(is_future(store.compact(head.next()).await.expect_err("it has not happened")));
    store.watch("", head).await.map(drop).expect("the head has happened");
}
