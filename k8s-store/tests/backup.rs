//! Backups of a running store, and stores that are restored from them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_store::{
    Digest, Embedded, EmbeddedOptions, Guard, Op, Page, REVISIONS_SKIPPED, Revision, Store, StoreError, Transaction,
    WatchItem, contract::Clock,
};

fn open(folder: &Path) -> Arc<Embedded> {
    Embedded::open(folder, Clock::new().env(), EmbeddedOptions::default()).expect("it opens")
}

async fn put(store: &Embedded, key: &str, value: &str) -> Revision {
    store.commit(Transaction::new().put(key, value.to_owned())).await.expect("a plain put succeeds").revision
}

#[tokio::test]
async fn a_backup_is_of_one_revision_while_commits_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("store"));
    let mut revisions = Vec::new();
    for round in 0..20 {
        let writes = (0..50).map(|n| {
            let both = Transaction::new().put(format!("one/{n}"), round.to_string());
            store.commit(both.put(format!("two/{n}"), round.to_string()))
        });
        let writes = futures::future::join_all(writes);
        let (file, target) = (folder.path().join(format!("{round}")), folder.path().join(format!("of-{round}")));
        let backup = std::thread::scope(|scope| {
            let backup = scope.spawn(|| store.backup(&file));
            // Enough of a poll to hand the writes over while the backup is taken.
            let writes = futures::FutureExt::now_or_never(writes);
            (backup.join().expect("it does not panic").expect("it is written"), writes)
        });
        let revision = backup.0;
        let expected = store.list("", Page { at: Some(revision), ..Page::all() }).await.expect("it is kept").entries;
        Embedded::restore(&file, &target, &Clock::new().env()).expect("it is whole");
        let restored = open(&target);
        assert_eq!(restored.digest().await.expect("a digest"), Digest::of(&expected), "at revision {revision}");
        revisions.push(revision);
    }
    assert!(revisions.windows(2).all(|pair| pair[0] <= pair[1]), "{revisions:?}");
    assert!(revisions[19] > revisions[0], "commits went on");
}

#[tokio::test]
async fn a_restored_store_is_not_taken_for_the_lost_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (lost, restored, file) = (folder.path().join("lost"), folder.path().join("restored"), folder.path().join("b"));
    let store = open(&lost);
    let lease = store.grant(Duration::from_secs(60)).await.expect("grants");
    let leased = Op::Put { key: "leased".into(), value: "v".into(), lease: Some(lease), attachment: None };
    store.commit(Transaction::new().op(leased)).await.expect("commits");
    let kept = put(&store, "a", "backed up").await;
    let backup = store.backup(&file).expect("it is written");
    let gone = put(&store, "a", "lost").await;
    let lost_lease = store.grant(Duration::from_secs(60)).await.expect("grants");
    drop(store);

    let head = Embedded::restore(&file, &restored, &Clock::new().env()).expect("it is whole");
    assert_eq!(head, Revision(backup.0 + REVISIONS_SKIPPED));
    let store = open(&restored);
    assert_eq!(store.head().await.expect("a head"), head);
    for seen in [Revision::ZERO, kept, backup, gone] {
        assert!(matches!(store.watch("", seen).await, Err(StoreError::Compacted { oldest }) if oldest == head));
        let at = Page { at: Some(seen), ..Page::all() };
        assert!(matches!(store.list("", at).await, Err(StoreError::Compacted { oldest }) if oldest == head));
    }
    let stale = Transaction::new().guard(Guard::At("a".into(), gone)).put("a", "by a stale cache");
    assert!(matches!(store.commit(stale).await, Err(StoreError::Conflict { .. })));
    let fresh = Transaction::new().guard(Guard::At("a".into(), kept)).put("a", "after a new list");
    assert_eq!(store.commit(fresh).await.expect("it is as it was backed up").revision, head.next());
    assert_eq!(store.keep_alive(lease).await.expect("it was backed up"), Duration::from_secs(60));
    assert!(matches!(store.keep_alive(lost_lease).await, Err(StoreError::LeaseNotFound { .. })));
    assert!(store.grant(Duration::from_secs(1)).await.expect("grants") > lost_lease, "its number is not given again");
    drop(store);

    let store = open(&restored);
    let mut watch = store.watch("", head).await.expect("history begins at the restored head");
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Change(change))) if change.revision == head.next()));
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second, file) = (folder.path().join("first"), folder.path().join("second"), folder.path().join("b"));
    let store = open(&first);
    put(&store, "a", "1").await;
    store.backup(&file).expect("it is written");
    assert!(matches!(store.backup(&file), Err(StoreError::Disk { .. })), "a backup is not replaced");
    assert!(matches!(Embedded::restore(&file, &first, &Clock::new().env()), Err(StoreError::Disk { .. })));
    fs::create_dir(&second).expect("an empty folder");
    Embedded::restore(&file, &second, &Clock::new().env()).expect("an empty folder will do");
    assert_eq!(store.get(&"a".into()).await.expect("a get succeeds").expect("it is there").value, "1");
    store.close();
    assert!(matches!(store.backup(&folder.path().join("late")), Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_damaged_backup_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, target) = (folder.path().join("b"), folder.path().join("restored"));
    let store = open(&folder.path().join("store"));
    put(&store, "a", &"long ".repeat(100)).await;
    store.backup(&file).expect("it is written");
    let whole = fs::read(&file).expect("it can be read");
    for offset in (0..64).chain(4096..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 4;
        fs::write(&file, bytes).expect("it can be written");
        match Embedded::restore(&file, &target, &Clock::new().env()) {
            Err(StoreError::Corrupt { file: said, .. }) => assert_eq!(said, file),
            // Padding between frames carries nothing.
            Ok(_) => fs::remove_dir_all(&target).expect("it is there"),
            Err(error) => panic!("a flip at {offset} gave {error}"),
        }
    }
    fs::write(&file, &whole[..whole.len() - 32]).expect("it can be written");
    assert!(matches!(Embedded::restore(&file, &target, &Clock::new().env()), Err(StoreError::Corrupt { .. })));
    assert!(!target.exists(), "a folder is complete or untouched");
}
