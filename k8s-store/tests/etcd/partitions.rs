//! A cluster of three whose members are cut off from each other, and from their clients, while clients work on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use k8s_store::{
    Etcd, EtcdOptions, Guard, Store, StoreError, Transaction,
    check::{self, Workload},
};

use super::{
    live::grows,
    member::Member,
    network::{NAMES, Network, address, on_a_network_of_its_own},
    time,
};

/// How many revisions are made across a cut, and before the next.
const MEANWHILE: u64 = 80;
const AFTERWARDS: u64 = 30;
const TIMEOUT: Duration = Duration::from_secs(1);
/// A commit is tried again only where it is refused at once; a read is tried six times in all. The rest are pauses, and
/// a machine that is busy.
const LONGEST_COMMIT: Duration = Duration::from_millis(1000 + 1500 + 1000);
const LONGEST_READ: Duration = Duration::from_millis(6 * 1000 + 1500 + 1000);

#[test]
fn a_majority_goes_on_and_the_rest_catches_up() {
    on_a_network_of_its_own("etcd::partitions::a_majority_goes_on_and_the_rest_catches_up", |network| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("threads can be started").block_on(work_through_cuts(network));
    });
}

async fn work_through_cuts(network: &Network) {
    let mut members = [0, 1, 2].map(|member| Member::inside(NAMES[member], address(member)));
    Member::start_all(&mut members);
    let (env, options) = (time::real(), options(&members));
    let connect = || Etcd::connect(options.clone(), env.clone());
    let store = Arc::new(connect().await.expect("etcd answers"));
    let (observer, prober) = (connect().await.expect("etcd answers"), connect().await.expect("etcd answers"));
    let over = AtomicBool::new(false);
    let cuts = async {
        cut(network, &members, &observer).await;
        over.store(true, SeqCst);
    };
    let workload = Workload { steps: 1000, ..Workload::default() };
    let recording = check::record_live(&env, store, 3, &workload, cuts);
    let (history, longest) = tokio::join!(recording, probe(&prober, &over));
    let checked = check::verify(&history.unwrap_or_else(|stuck| panic!("{stuck}")));
    let checked = checked.unwrap_or_else(|contradiction| panic!("{contradiction}"));
    println!("{checked:?}; the longest commit and read took {longest:?}");
    assert!(checked.operations >= 1000 && checked.changes >= 5 * (MEANWHILE + AFTERWARDS), "{checked:?}");
}

fn options(members: &[Member]) -> EtcdOptions {
    let endpoints = members.iter().map(Member::endpoint);
    let keep_alive = Duration::from_millis(500);
    EtcdOptions { timeout: TIMEOUT, keep_alive, compaction: None, ..EtcdOptions::new(endpoints) }
}

/// Each cut lasts until clients have written across it; so each shows that a majority goes on.
async fn cut(network: &Network, members: &[Member], observer: &Etcd) {
    grows(observer, AFTERWARDS).await;
    let leader = leader(members).await;
    for separated in [leader, (leader + 1) % 3] {
        network.separate(separated);
        grows(observer, MEANWHILE).await;
        network.join();
        grows(observer, AFTERWARDS).await;
    }
    // One of them is the one whom a watch listens to, whichever that is.
    for unplugged in 0..members.len() {
        network.unplug(unplugged);
        grows(observer, MEANWHILE).await;
        network.plug(unplugged);
        grows(observer, AFTERWARDS).await;
    }
}

/// The member that leads.
async fn leader(members: &[Member]) -> usize {
    loop {
        for (index, member) in members.iter().enumerate() {
            let mut client = etcd_client::Client::connect([member.endpoint()], None).await.expect("an address");
            let status = client.status().await.expect("it answers");
            if status.header().is_some_and(|header| header.member_id() == status.leader()) {
                return index;
            }
        }
    }
}

/// Commits what changes nothing, and reads, again and again; returns the longest that either took.
async fn probe(store: &Etcd, over: &AtomicBool) -> [Duration; 2] {
    let mut longest = [Duration::ZERO; 2];
    while !over.load(SeqCst) {
        let (refused, committing) = timed(store.commit(Transaction::new().guard(Guard::Exists("no".into())))).await;
        let expected = matches!(refused, Err(StoreError::Conflict { .. } | StoreError::Unavailable(_)));
        assert!(expected, "{refused:?}");
        let (head, reading) = timed(store.head()).await;
        assert!(matches!(head, Ok(_) | Err(StoreError::Unavailable(_))), "{head:?}");
        longest = [longest[0].max(committing), longest[1].max(reading)];
        assert!(longest[0] < LONGEST_COMMIT && longest[1] < LONGEST_READ, "{longest:?}");
    }
    longest
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}
