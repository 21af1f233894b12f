//! Durability before visibility, disks that fail, restarts, and the bounds on what waits.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::{fingerprint, open, open_flushing, put, small};
use crate::{
    Embedded, EmbeddedOptions, Key, Op, Page, Retention, Revision, Store, StoreError, Transaction, WatchItem,
    contract::Clock,
    embedded::{
        Surroundings,
        disk::{DiskFile, Native, flush, numbered, numbered_path},
        frame::FileHeader,
        log::{FREE, LOG, LOG_MAGIC, LogContext, Segment},
        queue::Queue,
        simulated::Simulated,
    },
    plan::Command,
};

#[tokio::test]
async fn nothing_is_visible_before_it_is_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let (flushing, flushes) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new((flushing, released));
    let flush = Arc::new(move |_: &dyn DiskFile| {
        let gate = gate.lock();
        gate.0.send(()).expect("the test goes on");
        gate.1.recv().map_err(io::Error::other)
    });
    let store = open_flushing(folder.path(), flush).expect("it opens");
    // Dropped before the store, so that a failing test does not wait for a flush that waits for the test.
    let release = release;
    let mut watch = store.watch("", Revision::ZERO).await.expect("it can be watched");
    let mut commit = store.commit(Transaction::new().put("a", "1"));
    assert!(commit.as_mut().now_or_never().is_none());
    flushes.recv().expect("the commit is being flushed");
    let guarded = Transaction::new().guard(crate::Guard::Absent("a".into())).put("a", "2");
    let mut conflict = store.commit(guarded);
    assert!(conflict.as_mut().now_or_never().is_none());
    assert!(commit.as_mut().now_or_never().is_none(), "acknowledged before it is durable");
    assert!(watch.next().now_or_never().is_none(), "watched before it is durable");
    assert_eq!(store.get(&"a".into()).await.expect("a get succeeds"), None, "read before it is durable");
    assert_eq!(store.head().await.expect("a head"), Revision::ZERO);
    release.send(()).expect("the flush waits");
    assert_eq!(commit.await.expect("it is durable").revision, Revision(1));
    assert!(matches!(conflict.await, Err(StoreError::Conflict { .. })));
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Change(_)))));
}

#[tokio::test]
async fn a_failed_flush_is_never_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = tried.clone();
    let flush = Arc::new(move |file: &dyn DiskFile| match counted.fetch_add(1, SeqCst) {
        0 => file.flush(),
        _ => Err(io::Error::other("the disk is on fire")),
    });
    let store = open_flushing(folder.path(), flush).expect("it opens");
    put(&store, "a", "1").await;
    let before = fingerprint(&store).await;
    let mut watch = store.watch("", Revision(1)).await.expect("it can be watched");
    let error = store.commit(Transaction::new().put("a", "2")).await.expect_err("the flush fails");
    assert!(error.outcome_unknown(), "{error}");
    assert!(error.to_string().contains("on fire"), "{error}");
    for transaction in [Transaction::new().put("b", "1"), Transaction::new()] {
        assert!(matches!(store.commit(transaction).await, Err(StoreError::ReadOnly { .. })));
    }
    assert_eq!(tried.load(SeqCst), 2, "the flush was tried again");
    assert_eq!(fingerprint(&store).await, before, "reads go on as before");
    assert!(watch.next().now_or_never().is_none(), "what is not durable is not published");
    let statistics = store.statistics().await.expect("statistics");
    assert!(statistics.read_only.expect("it is read-only").contains("on fire"));
    drop(store);
    let store = open(folder.path(), small()).expect("a restart finds out");
    let head = store.head().await.expect("a head");
    assert!(head == Revision(1) || head == Revision(2), "the outcome was unknown");
}

#[tokio::test]
async fn a_committer_that_panics_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let flush = Arc::new(|_: &dyn DiskFile| panic!("a defect"));
    let store = open_flushing(folder.path(), flush).expect("it opens");
    let mut outcome = store.commit(Transaction::new().put("a", "1")).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    // The panic is still unwinding when its first victim learns of it.
    while !matches!(outcome, Err(StoreError::ReadOnly { .. })) {
        outcome = store.commit(Transaction::new().put("a", "1")).await;
        assert!(outcome.is_err());
    }
    assert_eq!(store.head().await.expect("reads go on"), Revision::ZERO);
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    match open(folder.path(), small()) {
        Err(StoreError::Locked { path }) => assert_eq!(path, folder.path().join("lock")),
        other => panic!("the folder is in use, and opening it again gave {:?}", other.err()),
    }
    drop(store);
    open(folder.path(), small()).map(drop).expect("the lock file alone holds nobody up");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    put(&store, "a", "1").await;
    let mut watch = store.watch("", Revision::ZERO).await.expect("it can be watched");
    let mut waiting = store.watch("", Revision(1)).await.expect("it can be watched");
    assert!(waiting.next().now_or_never().is_none());
    store.close();
    store.close();
    assert!(matches!(store.commit(Transaction::new().put("a", "2")).await, Err(StoreError::Closed)));
    assert!(matches!(store.get(&"a".into()).await, Err(StoreError::Closed)));
    assert!(matches!(store.keep_alive(crate::LeaseId(1)).await, Err(StoreError::Closed)));
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Change(_)))), "what was published is still read");
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed))));
    assert!(matches!(waiting.next().await, Some(Err(StoreError::Closed))));
    assert!(watch.next().await.is_none());
    open(folder.path(), small()).map(drop).expect("the folder is free");
}

#[tokio::test]
async fn a_restart_brings_everything_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    let lease = store.grant(Duration::from_secs(10)).await.expect("grants");
    let ended = store.grant(Duration::from_secs(10)).await.expect("grants");
    store.revoke(ended).await.expect("it lives");
    for round in 0..20 {
        put(&store, &format!("k/{}", round % 3), round.to_string()).await;
    }
    let leased = Op::Put { key: "leased".into(), value: "v".into(), lease: Some(lease), attachment: None };
    store.commit(Transaction::new().op(leased)).await.expect("commits");
    put(&store, "last", "v").await;
    store.commit(Transaction::new().delete("last")).await.expect("commits");
    store.compact(Revision(5)).await.expect("compacts");
    let before = fingerprint(&store).await;
    let at = Page { at: Some(Revision(9)), ..Page::all() };
    let older = store.list("", at.clone()).await.expect("it is kept").entries;
    drop(store);

    let clock = Clock::new();
    let store = Embedded::open(folder.path(), clock.env(), small()).expect("it opens");
    assert_eq!(fingerprint(&store).await, before);
    assert_eq!(store.list("", at).await.expect("it is still kept").entries, older);
    assert!(matches!(store.watch("", Revision(4)).await, Err(StoreError::Compacted { oldest: Revision(5) })));
    let mut watch = store.watch("", Revision(5)).await.expect("watches resume over a restart");
    for revision in 6..=before.0.0 {
        match watch.next().await {
            Some(Ok(WatchItem::Change(change))) => assert_eq!(change.revision, Revision(revision)),
            other => panic!("revision {revision} should come next, not {other:?}"),
        }
    }
    assert_eq!(put(&store, "next", "v").await, before.0.next(), "the head counts on, though its key was deleted");
    assert!(store.grant(Duration::from_secs(1)).await.expect("grants") > ended, "a lease's name is not given twice");
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Change(_)))));
    clock.advance(Duration::from_secs(10));
    match watch.next().await {
        Some(Ok(WatchItem::Change(change))) => assert_eq!(change.events[0].key.as_str(), "leased"),
        other => panic!("the lease ends in its new life, instead came {other:?}"),
    }
}

#[tokio::test]
async fn leases_outlive_the_log_that_began_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { snapshot_after_bytes: 16 << 10, ..small() };
    let store = open(folder.path(), options.clone()).expect("it opens");
    let lease = store.grant(Duration::from_secs(10)).await.expect("grants");
    let leased = Op::Put { key: "leased".into(), value: "v".into(), lease: Some(lease), attachment: None };
    store.commit(Transaction::new().op(leased)).await.expect("commits");
    let ended = store.grant(Duration::from_secs(10)).await.expect("grants");
    store.revoke(ended).await.expect("it lives");
    while store.statistics().await.expect("statistics").disk.expect("it has a disk").segments_recycled < 3 {
        put(&store, "a", vec![0; 1024]).await;
    }
    drop(store);
    let clock = Clock::new();
    let store = Embedded::open(folder.path(), clock.env(), options).expect("it opens");
    assert_eq!(store.keep_alive(lease).await.expect("it lives"), Duration::from_secs(10));
    assert!(store.grant(Duration::from_secs(99)).await.expect("grants") > ended, "a lease's name is not given twice");
    let mut watch = store.watch("leased", store.head().await.expect("a head")).await.expect("it can be watched");
    clock.advance(Duration::from_secs(10));
    match watch.next().await {
        Some(Ok(WatchItem::Change(change))) => assert!(change.events[0].entry.is_none()),
        other => panic!("the lease ends in its new life, instead came {other:?}"),
    }
}

#[tokio::test]
async fn a_transaction_larger_than_a_segment_gets_one_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    let large = Bytes::from(vec![7; 1 << 20]);
    put(&store, "before", "v").await;
    put(&store, "large", large.clone()).await;
    put(&store, "after", "v").await;
    let before = fingerprint(&store).await;
    drop(store);
    let store = open(folder.path(), small()).expect("it opens");
    assert_eq!(fingerprint(&store).await, before);
    assert_eq!(store.get(&"large".into()).await.expect("a get succeeds").expect("it is there").value, large);
}

#[tokio::test]
async fn an_empty_segment_that_is_too_small_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let large = || Bytes::from(vec![7; 20 << 10]);
    let mut before = None;
    for round in 0..3 {
        let store = open(folder.path(), small()).expect("it opens");
        let found = fingerprint(&store).await;
        assert_eq!(found, before.unwrap_or(found));
        // The first transaction of the store, of a segment that a crash left empty, and of one that is full.
        put(&store, &format!("large/{round}"), large()).await;
        put(&store, &format!("small/{round}"), "v").await;
        put(&store, &format!("large/{round}"), large()).await;
        before = Some(fingerprint(&store).await);
        drop(store);
        begin_segment(folder.path());
    }
}

/// What a crash leaves between beginning a segment and writing its first frame.
fn begin_segment(folder: &std::path::Path) {
    let (last, path) = numbered(&Native, folder, LOG).expect("the folder can be read").pop().expect("there is a log");
    let bytes = std::fs::read(&path).expect("the log can be read");
    let store = FileHeader::decode(&bytes, LOG_MAGIC, &path).expect("a whole header").store;
    let context = LogContext {
        folder: folder.to_owned(),
        store,
        segment_bytes: small().segment_bytes,
        disk: Arc::new(Native),
        flush: flush(),
        counters: Arc::default(),
    };
    let free = numbered_path(folder, FREE, last + 1);
    Segment::begin(&context, last + 1, &free, 0).map(drop).expect("a segment can be begun");
}

#[tokio::test]
async fn a_snapshot_that_fails_costs_only_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { snapshot_after_bytes: 16 << 10, ..small() };
    let store = open(folder.path(), options.clone()).expect("it opens");
    let obstacle = folder.path().join("unfinished-snapshot");
    std::fs::create_dir(&obstacle).expect("a folder stands in the way");
    let disk = async || store.statistics().await.expect("statistics").disk.expect("it has a disk");
    while disk().await.snapshots_failed < 2 {
        put(&store, "a", vec![0; 1024]).await;
    }
    assert_eq!(disk().await.segments_recycled, 0, "nothing replaces the log");
    std::fs::remove_dir(&obstacle).expect("it is empty");
    while disk().await.segments_recycled < 2 {
        put(&store, "a", vec![0; 1024]).await;
    }
    assert!(disk().await.snapshots >= 2, "the next ones succeed");
    let before = fingerprint(&store).await;
    drop(store);
    assert_eq!(fingerprint(&open(folder.path(), options).expect("it opens")).await, before);
}

#[tokio::test]
async fn the_history_that_is_kept_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { retention: Retention { revisions: 10, bytes: 1 << 20 }, ..small() };
    let store = open(folder.path(), options).expect("it opens");
    let mut behind = store.watch("", Revision::ZERO).await.expect("it can be watched");
    for _ in 0..25 {
        put(&store, "a", "v").await;
    }
    assert_eq!(store.statistics().await.expect("statistics").oldest, Revision(15));
    assert!(matches!(behind.next().await, Some(Err(StoreError::Compacted { oldest: Revision(15) }))));
    put(&store, "a", vec![0; 600 << 10]).await;
    put(&store, "a", "v").await;
    let statistics = store.statistics().await.expect("statistics");
    assert!(statistics.history_bytes <= 1 << 20, "old values weigh, too: {}", statistics.history_bytes);
    assert_eq!(store.get(&Key::from("a")).await.expect("a get succeeds").expect("it is there").value, "v");
}

#[tokio::test]
async fn what_waits_for_the_committer_is_bounded() {
    let queue = Queue::new();
    let value = Bytes::from(vec![0; 4 << 20]);
    let mut submissions: Vec<_> = (0..20)
        .map(|number| {
            let transaction = Transaction::new().put(number.to_string(), value.clone());
            Box::pin(queue.submit(Command::Commit(transaction)))
        })
        .collect();
    assert!(submissions.iter_mut().all(|submission| submission.now_or_never().is_none()));
    let mut taken = 0;
    for _ in 0..15 {
        taken += queue.take().expect("it is open").requests.len();
    }
    assert_eq!(taken, 15, "64 MiB of these fit, one to a batch");
    assert!(submissions.iter_mut().skip(15).all(|submission| submission.now_or_never().is_none()));
    queue.close();
    while let Some(batch) = queue.take() {
        taken += batch.requests.len();
    }
    assert_eq!(taken, 20, "the others were let in when there was room");
}

#[tokio::test]
async fn recovery_is_bounded_by_two_snapshots_of_log() {
    let disk = Simulated::default();
    let options = EmbeddedOptions { segment_bytes: 32 << 10, snapshot_after_bytes: 64 << 10, ..small() };
    let surroundings = Surroundings::on(Arc::new(disk.clone()));
    let open = || Embedded::open_on(&surroundings, std::path::Path::new("/store"), Clock::new().env(), &options);
    let store = open().expect("it opens");
    let mut largest = 0;
    for round in 0..3000_u32 {
        put(&store, &format!("k/{}", round % 50), round.to_le_bytes().repeat(250)).await;
        let statistics = store.statistics().await.expect("statistics");
        let due = statistics.bytes.max(options.snapshot_after_bytes);
        let files = disk.lengths();
        let log = files.iter().filter(|(path, _)| path.to_string_lossy().contains(LOG));
        let log: u64 = log.map(|(_, length)| *length as u64).sum();
        // An eighth of a segment is its header. Besides, there are the segments in which the older snapshot and the
        // newest frame are, and the last frame before each snapshot.
        assert!(log <= 2 * due * 8 / 7 + 4 * options.segment_bytes, "{log} bytes of log in round {round}");
        largest = largest.max(log);
    }
    assert!(largest > options.snapshot_after_bytes, "the log was never longer than {largest}");
    drop(store);
    let store = open().expect("it opens");
    let replayed = store.statistics().await.expect("statistics").disk.expect("it has a disk").replayed;
    assert!(replayed <= largest / 1000, "{replayed} records of 1000 bytes were replayed");
}

#[tokio::test]
async fn a_store_that_takes_no_writes_can_be_backed_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let tried = AtomicUsize::new(0);
    let flush = Arc::new(move |file: &dyn DiskFile| match tried.fetch_add(1, SeqCst) {
        0 => file.flush(),
        _ => Err(io::Error::other("the disk is on fire")),
    });
    let store = open_flushing(folder.path(), flush).expect("it opens");
    put(&store, "a", "1").await;
    let before = fingerprint(&store).await;
    store.commit(Transaction::new().put("a", "2")).await.expect_err("the flush fails");
    let (file, restored) = (folder.path().join("backup"), folder.path().join("restored"));
    assert_eq!(store.backup(&file).expect("another disk may work"), before.0);
    Embedded::restore(&file, &restored, &Clock::new().env()).expect("it is whole");
    assert_eq!(fingerprint(&open(&restored, small()).expect("it opens")).await.1, before.1);
}
