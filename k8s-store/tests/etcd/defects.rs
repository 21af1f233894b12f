//! The checker finds a defect of the etcd that is installed, through a store that trusts the server where ours does not.
//! On an etcd in which it is mended, the same test asks that nothing is found.

use std::{process::Command, sync::Arc};

use k8s_store::{
    Etcd, EtcdOptions, Store,
    check::{self, Checked, Contradiction, Workload},
};

use super::{member::Member, time, trusting::Trusting};

/// What clients see of a real etcd.
async fn judged(trusts: Trust) -> Result<Checked, Contradiction> {
    let (env, member) = (time::real(), Member::alone());
    let options = EtcdOptions { compaction: None, ..EtcdOptions::new([member.endpoint()]) };
    let etcd = Etcd::connect(options, env.clone()).await.expect("etcd answers");
    let store: Arc<dyn Store> = match trusts {
        Trust::Nothing => Arc::new(etcd),
        Trust::Notices => Arc::new(Trusting::new(etcd, member.endpoint(), env.clone())),
    };
    let workload = Workload { steps: 2500, ..Workload::default() };
    check::verify(&check::record_live(&env, store, 15220, &workload, async {}).await?)
}

/// What a store believes of what the server says.
enum Trust {
    Nothing,
    Notices,
}

/// etcd #15220, mended in 3.4.25, 3.5.8 and 3.6: asked for the progress of a watch, a server answers with its newest
/// revision, also while older events are on their way. Who resumes from there loses them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_notices_overtake_events() {
    let version = installed();
    let mended = match version {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        later => later >= (3, 6, 0),
    };
    match judged(Trust::Notices).await {
        Ok(checked) => assert!(mended, "{version:?} has the defect, and the checker does not notice: {checked:?}"),
        Err(found) => {
            println!("found in etcd {version:?}: {found}");
            assert!(!mended, "{version:?} should be without it: {found}");
            assert_eq!(found.promise, "bookmarkable", "{found}");
        }
    }
}

/// The same clients over the backend that counts: nothing is found on any version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_is_right_on_every_version() {
    let checked = judged(Trust::Nothing).await.unwrap_or_else(|found| panic!("etcd {:?}: {found}", installed()));
    assert!(checked.watches > 100 && checked.watch_events > 1000, "{checked:?}");
}

/// The version of the program that the tests run.
fn installed() -> (u32, u32, u32) {
    let said = Command::new("etcd").arg("--version").output().expect("no program etcd: run ./test.sh setup");
    let said = String::from_utf8(said.stdout).expect("text");
    let version = said.lines().find_map(|line| line.strip_prefix("etcd Version: ")).expect("it says its version");
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    (next(), next(), next())
}
