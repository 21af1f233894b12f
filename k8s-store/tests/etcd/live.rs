//! What many clients see at once of a real etcd that is killed and stopped meanwhile, judged by the checker.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_store::{
    Etcd, EtcdOptions, Revision, Store, WatchItem,
    check::{self, Workload},
};

use super::{member::Member, time};

/// Faults of each kind.
const ROUNDS: usize = 3;
/// How many revisions lie between one fault and the next.
const BETWEEN: u64 = 150;

fn options(member: &Member, timeout: Duration) -> EtcdOptions {
    let keep_alive = Duration::from_secs(1);
    EtcdOptions { timeout, keep_alive, compaction: None, ..EtcdOptions::new([member.endpoint()]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_see_one_history_through_kills_and_pauses() {
    let (env, mut member) = (time::real(), Member::alone());
    let cluster = member.in_cluster();
    let connect = |timeout| Etcd::connect(options(&member, timeout), env.clone());
    let store = Arc::new(connect(Duration::from_millis(400)).await.expect("etcd answers"));
    let observer = connect(Duration::from_millis(100)).await.expect("etcd answers");
    let faults = async {
        for _ in 0..ROUNDS {
            grows(&observer, BETWEEN).await;
            member.kill();
            member.start(&cluster);
            member.wait_until_it_listens();
            grows(&observer, BETWEEN).await;
            member.pause();
            while observer.head().await.is_ok() {}
            member.resume();
        }
        grows(&observer, BETWEEN).await;
    };
    let workload = Workload { steps: 4000, ..Workload::default() };
    let history = check::record_live(&env, store, 1, &workload, faults).await.unwrap_or_else(|stuck| panic!("{stuck}"));
    let checked = check::verify(&history).unwrap_or_else(|contradiction| panic!("{contradiction}"));
    println!("{checked:?}");
    assert!(checked.operations >= 3000 && checked.changes >= 2 * ROUNDS as u64 * BETWEEN, "{checked:?}");
    assert!(checked.unknown >= ROUNDS as u64, "a member that stops in the middle leaves questions: {checked:?}");
    assert!(checked.watches >= 100 && checked.watch_events >= 1000, "{checked:?}");
}

/// Waits until the clients have made so many further changes.
pub async fn grows(store: &Etcd, changes: u64) {
    let mut head = answered(store).await;
    let goal = Revision(head.0 + changes);
    while head < goal {
        // Clients compact, too: what is watched may be gone.
        let Ok(mut watch) = store.watch("", head).await else {
            head = answered(store).await;
            continue;
        };
        while head < goal
            && let Some(Ok(WatchItem::Change(change))) = watch.next().await
        {
            head = change.revision;
        }
    }
}

async fn answered(store: &Etcd) -> Revision {
    loop {
        if let Ok(head) = store.head().await {
            return head;
        }
    }
}
