//! Stores that released versions have written stay readable. `tests/format-1` was written by the first format, with
//! `cargo run -p k8s-store --example deep -- sample <folder>`; a new format gets a folder of its own beside it.

#[path = "format/sample.rs"]
mod sample;

use std::{fs, path::Path};

use futures::StreamExt;
use k8s_store::{Embedded, LeaseId, Page, Revision, Store, WatchItem, contract::Clock};

const DIGEST: &str = "4798f7de0b327ff604a70913f73e8eda83ce02b20da601faaf8bbda198ae81d8";
const HEAD: Revision = Revision(55);

fn copy_of_fixture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format-1");
    for file in fs::read_dir(fixture).expect("the fixture is there") {
        let path = file.expect("it can be read").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("it has a name"))).expect("it can be copied");
    }
    folder
}

async fn expect_sample(store: &dyn Store) {
    assert_eq!(store.head().await.expect("a head"), HEAD);
    assert_eq!(store.digest().await.expect("a digest").to_string(), DIGEST);
    assert_eq!(store.keep_alive(LeaseId(1)).await.expect("it lives").as_secs(), 77);
    store.keep_alive(LeaseId(2)).await.expect_err("it was revoked");
}

#[tokio::test]
async fn the_first_format_is_read() {
    let folder = copy_of_fixture();
    let store = Embedded::open(folder.path(), Clock::new().env(), sample::options()).expect("it opens");
    expect_sample(&*store).await;
    let statistics = store.statistics().await.expect("statistics");
    assert!(statistics.disk.expect("it has a disk").replayed > 0, "its log is read");
    assert!(statistics.oldest >= Revision(33), "it was compacted");
    let mut watch = store.watch("", statistics.oldest).await.expect("its history is kept");
    for revision in statistics.oldest.0 + 1..=HEAD.0 {
        match watch.next().await {
            Some(Ok(WatchItem::Change(change))) => assert_eq!(change.revision, Revision(revision)),
            other => panic!("revision {revision} should come next, not {other:?}"),
        }
    }
    assert_eq!(store.grant(std::time::Duration::from_secs(1)).await.expect("grants"), LeaseId(3));
    assert_eq!(store.list("/last", Page::all()).await.expect("a list succeeds").entries.len(), 1);
}

#[tokio::test]
async fn the_sample_has_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    sample::write(folder.path()).await.expect("it is written");
    let store = Embedded::open(folder.path(), Clock::new().env(), sample::options()).expect("it opens");
    expect_sample(&*store).await;
}
