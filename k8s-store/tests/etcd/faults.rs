//! A cluster of three, whose members die, stop and come back while it is written to and watched.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_store::{Entry, Etcd, EtcdOptions, Page, Revision, Store, StoreError, Transaction, WatchItem};

use super::{member::Member, time};

/// Some ten seconds on an idle machine; writes that meet a stopped member wait for their limit each.
const LIMIT: Duration = Duration::from_secs(150);

fn options(members: &[Member]) -> EtcdOptions {
    let endpoints = members.iter().map(Member::endpoint);
    EtcdOptions {
        timeout: Duration::from_secs(1),
        keep_alive: Duration::from_millis(500),
        ..EtcdOptions::new(endpoints)
    }
}

/// What writers know to have happened: which key got which number at a revision. A write without an answer is not in it,
/// and may happen late: after others that were acknowledged.
type Acknowledged = BTreeMap<Revision, (String, u64)>;

/// Writes rising numbers under a key of its own until told to stop.
async fn write(store: Arc<Etcd>, key: String, running: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Acknowledged {
    let (mut number, mut last, mut acknowledged) = (0_u64, Revision::ZERO, Acknowledged::new());
    while running.load(SeqCst) {
        number += 1;
        match store.commit(Transaction::new().put(key.clone(), number.to_string())).await {
            Ok(committed) => {
                assert!(committed.revision > last, "revisions rise");
                last = committed.revision;
                acknowledged.insert(last, (key.clone(), number));
                done.fetch_add(1, SeqCst);
            }
            Err(error) => assert!(error.outcome_unknown(), "a healthy majority refuses nothing: {error}"),
        }
    }
    acknowledged
}

async fn progresses(done: &AtomicU64) {
    let goal = done.load(SeqCst) + 30;
    while done.load(SeqCst) < goal {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_missed() {
    tokio::time::timeout(LIMIT, survive()).await.expect("the cluster goes on in time");
}

async fn survive() {
    let mut members = Member::three();
    let cluster = members.each_ref().map(Member::in_cluster).join(",");
    let store = Arc::new(Etcd::connect(options(&members), time::real()).await.expect("etcd answers"));
    let start = store.head().await.expect("a head");
    let mut watch = store.watch("/registry/", start).await.expect("it can be watched");
    let (running, done) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..3)
        .map(|n| tokio::spawn(write(store.clone(), format!("/registry/w/{n}"), running.clone(), done.clone())))
        .collect();
    for victim in 0..3 {
        progresses(&done).await;
        members[victim].kill();
        progresses(&done).await;
        members[victim].start(&cluster);
        members[victim].wait_until_it_listens();
        progresses(&done).await;
        members[(victim + 1) % 3].pause();
        progresses(&done).await;
        members[(victim + 1) % 3].resume();
    }
    progresses(&done).await;
    running.store(false, SeqCst);
    let mut acknowledged = Acknowledged::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer does not panic"));
    }
    let listing = listed(&store).await;
    let (mut seen, mut current) = (start, BTreeMap::new());
    while seen < listing.revision {
        match watch.next().await.expect("the watch goes on").expect("without an error") {
            WatchItem::Change(change) => {
                assert_eq!(change.revision, seen.next(), "every revision once, in order");
                seen = change.revision;
                let [event] = &change.events[..] else { panic!("a writer puts one key at a time: {change:?}") };
                let entry = event.entry.as_ref().expect("writers delete nothing");
                let written = (entry.key.to_string(), number(entry));
                if let Some(promised) = acknowledged.remove(&seen) {
                    assert_eq!(written, promised, "what was acknowledged at {seen}");
                }
                current.insert(written.0, written.1);
            }
            WatchItem::Progress(at) => assert_eq!(at, seen),
        }
    }
    assert!(acknowledged.is_empty(), "acknowledged, and not in the history: {acknowledged:?}");
    let stored: BTreeMap<_, _> = listing.entries.iter().map(|entry| (entry.key.to_string(), number(entry))).collect();
    assert_eq!(stored, current, "the list is what the history leads to");
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).expect("text").parse().expect("a number")
}

/// A list after faults: the members may still be choosing a leader.
async fn listed(store: &Etcd) -> k8s_store::Listing {
    loop {
        match store.list("/registry/", Page::all()).await {
            Ok(listing) => return listing,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
