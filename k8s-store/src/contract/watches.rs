//! Promises about watches.

use futures::{FutureExt, StreamExt};
use k8s_core::env::{BoxFuture, Env};

use super::{Subject, all, changes_until, delete, in_parallel, make, next, next_change, put, replay, watch};
use crate::{Page, Revision, Transaction, WatchItem};

/// A watch opened on a store that nobody has written to shows the first write.
pub async fn the_first_change_is_watched(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut watch = watch(store, "a", Revision::ZERO).await;
    assert!(watch.next().now_or_never().is_none(), "nothing has happened");
    put(store, "a", "1").await;
    assert_eq!(next_change(&mut watch).await.revision, Revision(1));
    put(store, "a", "2").await;
    assert_eq!(next_change(&mut watch).await.revision, Revision(2));
}

/// A delete is an event of its own and carries what was deleted.
pub async fn deletes_are_watched_with_what_was_there(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    put(store, "a", "1").await;
    put(store, "a", "2").await;
    let before = super::get(store, "a").await;
    let revision = delete(store, "a").await;
    delete(store, "a").await;
    put(store, "a", "3").await;
    let mut watch = watch(store, "a", Revision::ZERO).await;
    let changes = changes_until(&mut watch, revision.next()).await;
    let events: Vec<_> = changes.iter().flat_map(|change| &change.events).collect();
    assert_eq!(events.len(), 4, "deleting what is not there is no event");
    assert!(events[0].previous.is_none() && events[1].previous == events[0].entry);
    assert!(events[2].entry.is_none(), "it was deleted");
    assert_eq!(events[2].previous, before);
    assert!(events[3].previous.is_none(), "it was absent in between");
}

/// While many write, a watch yields every revision once, in order, and what it yields adds up to what is stored.
pub async fn watches_yield_every_change_once_in_order(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    let store = &*subject.store;
    let mut early = watch(store, "", Revision::ZERO).await;
    write_in_parallel(&subject, &clock).await;
    let head = store.head().await.expect("a head");
    let mut late = watch(store, "", Revision::ZERO).await;
    for watch in [&mut early, &mut late] {
        let changes = changes_until(watch, head).await;
        let revisions: Vec<_> = changes.iter().map(|change| change.revision.0).collect();
        assert_eq!(revisions, (1..=head.0).collect::<Vec<_>>(), "every revision once, in order");
        let left: Vec<_> = replay(&changes).into_values().collect();
        assert_eq!(left, all(store, "").await, "the events add up to the state");
        assert!(watch.next().now_or_never().is_none(), "there is nothing after the head");
    }
}

/// Wherever a watch stopped, another goes on from there, with neither a gap nor a repetition.
pub async fn watches_resume_after_any_revision(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    for round in 0..30 {
        put(store, &format!("k/{}", round % 4), "v").await;
        put(store, "elsewhere", "v").await;
    }
    let head = put(store, "k/last", "v").await;
    let mut whole = watch(store, "k/", Revision::ZERO).await;
    let whole = changes_until(&mut whole, head).await;
    assert_eq!(whole.len(), 31);
    for from in 0..head.0 {
        let mut resumed = watch(store, "k/", Revision(from)).await;
        let resumed = changes_until(&mut resumed, head).await;
        let expected: Vec<_> = whole.iter().filter(|change| change.revision.0 > from).cloned().collect();
        assert_eq!(resumed, expected, "resumed after {from}");
    }
}

/// A list and a watch from its revision, taken at any moment while others write, add up to what is stored.
pub async fn a_list_and_a_watch_miss_nothing(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    let mut taken = Vec::new();
    let mut writers = write_in_parallel(&subject, &clock);
    let mut writing = true;
    while writing && taken.len() < 100 {
        writing = futures::poll!(&mut writers).is_pending();
        let listing = subject.store.list("", Page::all()).await.expect("a list succeeds");
        let from = listing.revision;
        taken.push((listing, watch(&*subject.store, "", from).await));
    }
    if writing {
        writers.await;
    }
    let last = put(&*subject.store, "the-end", "v").await;
    let expected = all(&*subject.store, "").await;
    for (listing, mut watch) in taken {
        let mut state: std::collections::BTreeMap<_, _> =
            listing.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for change in changes_until(&mut watch, last).await {
            assert!(change.revision > listing.revision);
            for event in &change.events {
                match &event.entry {
                    Some(entry) => state.insert(event.key.clone(), entry.clone()),
                    None => state.remove(&event.key),
                };
            }
        }
        assert_eq!(state.into_values().collect::<Vec<_>>(), expected);
    }
}

/// A reader that does not read for thousands of changes finds them all.
pub async fn a_slow_reader_loses_nothing(new: impl AsyncFn(Env) -> Subject) {
    const CHANGES: u64 = 5000;
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut watch = watch(store, "slow/", Revision::ZERO).await;
    assert!(watch.next().now_or_never().is_none());
    let writes: Vec<_> = (0..CHANGES).map(|n| Transaction::new().put(format!("slow/{}", n % 10), "v")).collect();
    for chunk in writes.chunks(500) {
        let commits = chunk.iter().map(|transaction| store.commit(transaction.clone()));
        futures::future::join_all(commits).await.into_iter().for_each(|outcome| drop(outcome.expect("commits")));
    }
    let revisions: Vec<_> =
        changes_until(&mut watch, Revision(CHANGES)).await.iter().map(|change| change.revision.0).collect();
    assert_eq!(revisions, (1..=CHANGES).collect::<Vec<_>>());
}

/// Progress comes after every change that it covers, and before every one that it does not.
pub async fn progress_never_overtakes_a_change(new: impl AsyncFn(Env) -> Subject) {
    let (subject, clock) = make(new).await;
    let store = &*subject.store;
    let mut watch = watch(store, "", Revision::ZERO).await;
    in_parallel(&clock, 4, |number| {
        let store = subject.store.clone();
        Box::pin(async move {
            for round in 0..100 {
                if number == 0 {
                    store.progress().await.expect("progress");
                } else {
                    put(&*store, &format!("{number}/{}", round % 3), "v").await;
                }
            }
        })
    })
    .await;
    let head = store.progress().await.expect("progress");
    assert_eq!(head, Revision(300));
    let mut seen = Revision::ZERO;
    loop {
        match next(&mut watch).await {
            WatchItem::Change(change) => {
                assert_eq!(change.revision, seen.next(), "a change came twice, too late, or not at all");
                seen = change.revision;
            }
            WatchItem::Progress(at) => {
                assert_eq!(at, seen, "progress is what has been yielded");
                if at == head {
                    break;
                }
            }
        }
    }
}

/// A watch whose prefix nobody writes to progresses with the store, and is never overtaken by compaction.
pub async fn a_quiet_watch_progresses_too(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut quiet = watch(store, "quiet/", Revision::ZERO).await;
    assert!(quiet.next().now_or_never().is_none());
    for round in 0..20 {
        let head = put(store, "loud", &round.to_string()).await;
        assert!(quiet.next().now_or_never().is_none(), "the change is not under the prefix");
        // The watch waits first, so that it is the request that must wake it.
        let (item, asked) = futures::join!(next(&mut quiet), store.progress());
        assert_eq!(asked.expect("progress"), head);
        assert!(matches!(item, WatchItem::Progress(at) if at == head));
        store.compact(head).await.expect("compacts");
    }
    let last = put(store, "quiet/x", "v").await;
    assert_eq!(next_change(&mut quiet).await.revision, last);
}

/// Of a commit that changes more than the prefix, a watch yields the part that is under it, and nothing if none is.
pub async fn a_watch_filters_what_a_commit_changed(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let mut under_a = watch(store, "a/", Revision::ZERO).await;
    let mixed = Transaction::new().put("b/1", "v").put("a/1", "v").put("c/1", "v").put("a/2", "v");
    store.commit(mixed).await.expect("commits");
    store.commit(Transaction::new().put("b/1", "w").put("c/1", "w")).await.expect("commits");
    store.commit(Transaction::new().put("b/1", "x").delete("a/1")).await.expect("commits");
    let keys = |change: &crate::Change| change.events.iter().map(|event| event.key.to_string()).collect::<Vec<_>>();
    let first = next_change(&mut under_a).await;
    assert_eq!((first.revision, keys(&first)), (Revision(1), vec!["a/1".into(), "a/2".into()]));
    let second = next_change(&mut under_a).await;
    assert_eq!((second.revision, keys(&second)), (Revision(3), vec!["a/1".into()]));
}

/// A watch that its reader dropped costs nothing any more.
pub async fn dropped_watches_are_forgotten(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let store = &*subject.store;
    let watches = [watch(store, "a", Revision::ZERO).await, watch(store, "", Revision::ZERO).await];
    assert_eq!(store.statistics().await.expect("statistics").watches, 2);
    drop(watches);
    assert_eq!(store.statistics().await.expect("statistics").watches, 0);
}

/// When the store goes, its watches end with an error, after everything that happened.
pub async fn watches_end_with_the_store(new: impl AsyncFn(Env) -> Subject) {
    let (subject, _clock) = make(new).await;
    let mut behind = watch(&*subject.store, "", Revision::ZERO).await;
    let mut waiting = watch(&*subject.store, "elsewhere", Revision::ZERO).await;
    let last = put(&*subject.store, "a", "1").await;
    // The watch waits first, so that it is the end of the store that must wake it.
    let (woken, ()) = futures::join!(waiting.next(), async { drop(subject) });
    woken.expect("an error comes before the end").map(drop).expect_err("nothing more can come");
    assert!(waiting.next().await.is_none(), "after an error the watch ends");
    assert_eq!(changes_until(&mut behind, last).await.len(), 1);
    behind.next().await.expect("an error comes before the end").map(drop).expect_err("nothing more can come");
}

/// Puts, deletes and transactions of several keys, by tasks that get into each other's way.
fn write_in_parallel<'a>(subject: &'a Subject, clock: &'a super::Clock) -> BoxFuture<'a, ()> {
    Box::pin(in_parallel(clock, 4, |number| {
        let store = subject.store.clone();
        Box::pin(async move {
            for round in 0..100 {
                let (shared, own) = (format!("shared/{}", round % 5), format!("own-{number}/{round}"));
                let transaction = match (round + number) % 4 {
                    0 => Transaction::new().put(shared, format!("{number}")).put(own, "v"),
                    1 => Transaction::new().delete(shared),
                    2 => Transaction::new().put(own, "v"),
                    _ => {
                        Transaction::new().put(shared, "w").delete(format!("own-{number}/{}", round.saturating_sub(1)))
                    }
                };
                store.commit(transaction).await.expect("commits");
            }
        })
    }))
}
