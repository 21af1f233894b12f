//! What an etcd refuses, what is said of it then, and how a store lies in it.

use std::{process::Command, time::Duration};

use k8s_store::{Etcd, EtcdOptions, Guard, Op, Page, Revision, Store, StoreError, Transaction};

use super::{member::Member, time};

async fn connect(options: EtcdOptions) -> Etcd {
    Etcd::connect(options, time::real()).await.expect("etcd answers")
}

#[tokio::test]
async fn nobody_answers() {
    let options = EtcdOptions { timeout: Duration::from_secs(1), ..EtcdOptions::new(["http://127.0.0.1:1"]) };
    let error = Etcd::connect(options, time::real()).await.err().expect("nobody listens there");
    let said = error.to_string();
    assert!(matches!(error, StoreError::Unavailable(_)), "{said}");
    assert!(said.contains("none of http://127.0.0.1:1 answers") && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn limits_of_the_server() {
    let member = Member::alone();
    let store = connect(EtcdOptions::new([member.endpoint()])).await;
    let large = store.commit(Transaction::new().put("a", vec![0; 3 << 20])).await;
    assert!(matches!(large, Err(StoreError::TooLarge { bytes, .. }) if bytes > 3 << 20), "{large:?}");
    let many = (0..200).fold(Transaction::new(), |many, n| many.put(format!("k{n}"), "v"));
    let many = store.commit(many).await;
    assert!(matches!(many, Err(StoreError::Invalid { .. })), "{many:?}");
    assert!(store.list("", Page::all()).await.expect("lists").entries.is_empty());
}

#[tokio::test]
async fn a_full_database_is_read_only() {
    let mut member = Member::new("small", &["--quota-backend-bytes", "1000000"]);
    let cluster = member.in_cluster();
    member.start(&cluster);
    member.wait_until_it_listens();
    let store = connect(EtcdOptions::new([member.endpoint()])).await;
    let mut refused = None;
    // The server looks at the size of its file now and then only.
    for n in 0..500 {
        if let Err(error) = store.commit(Transaction::new().put(format!("k{n}"), vec![1; 200_000])).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(StoreError::ReadOnly { .. })), "{refused:?}");
    let statistics = store.statistics().await.expect("it can be read");
    assert!(statistics.read_only.is_some_and(|reason| reason.contains("NOSPACE")));
    store.get(&"k0".into()).await.expect("it can be read").expect("it was put");
}

/// Two stores with other prefixes and a stranger in one etcd: none sees the others', and none loses its own.
#[tokio::test]
async fn an_etcd_can_be_shared() {
    let member = Member::alone();
    let with_prefix = |prefix: &str| EtcdOptions { prefix: prefix.into(), ..EtcdOptions::new([member.endpoint()]) };
    let (one, other) = (connect(with_prefix("/one")).await, connect(with_prefix("/other")).await);
    let plain = connect(with_prefix("")).await;
    let start = one.head().await.expect("a head");
    let mut watch = one.watch("/registry/", start).await.expect("it can be watched");
    let mut last = Revision::ZERO;
    for n in 0..10 {
        other.commit(Transaction::new().put("/registry/a", n.to_string())).await.expect("commits");
        last = one.commit(Transaction::new().put("/registry/a", n.to_string())).await.expect("commits").revision;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let item = futures::StreamExt::next(&mut watch).await.expect("goes on").expect("without an error");
        let k8s_store::WatchItem::Change(change) = item else { continue };
        assert_eq!(change.events[0].key.as_str(), "/registry/a");
        seen.push(change.revision);
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(one.list("", Page::all()).await.expect("lists").entries.len(), 1);
    let keys: Vec<_> = plain.list("/o", Page::all()).await.expect("lists").entries;
    let keys: Vec<_> = keys.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["/one/registry/a", "/other/registry/a"]);
    let listed = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &member.endpoint(), "get", "/one/", "--prefix", "--keys-only"])
        .output()
        .expect("no program etcdctl: run ./test.sh setup");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "/one/registry/a");
}

/// What is kept over a restart of the server, guards and leases included.
#[tokio::test]
async fn a_restart_changes_nothing() {
    let mut member = Member::alone();
    let cluster = member.in_cluster();
    let store = connect(EtcdOptions::new([member.endpoint()])).await;
    let lease = store.grant(Duration::from_secs(60)).await.expect("grants");
    let op = Op::Put { key: "a".into(), value: "v".into(), lease: Some(lease), attachment: None };
    let at = store.commit(Transaction::new().op(op)).await.expect("commits").revision;
    let digest = store.digest().await.expect("a digest");
    member.kill();
    member.start(&cluster);
    member.wait_until_it_listens();
    assert_eq!(store.digest().await.expect("a digest"), digest);
    assert_eq!(store.keep_alive(lease).await.expect("it lives"), Duration::from_secs(60));
    let guarded = Transaction::new().guard(Guard::At("a".into(), at)).delete("a");
    assert_eq!(store.commit(guarded).await.expect("the guard holds").revision, at.next());
}

/// Two servers over one etcd compact, and history does not grow for ever.
#[tokio::test]
async fn history_is_compacted_in_turns() {
    let member = Member::alone();
    let options = EtcdOptions { compaction: Some(Duration::from_millis(100)), ..EtcdOptions::new([member.endpoint()]) };
    let (one, other) = (connect(options.clone()).await, connect(options).await);
    let first = one.commit(Transaction::new().put("a", "v")).await.expect("commits").revision;
    while other.statistics().await.expect("statistics").oldest <= first {
        tokio::task::yield_now().await;
    }
    let error = one.watch("a", Revision(1)).await.err().expect("it is compacted");
    assert!(matches!(error, StoreError::Compacted { oldest } if oldest > first), "{error}");
    one.get(&"a".into()).await.expect("it can be read").expect("compaction takes history, not state");
}
