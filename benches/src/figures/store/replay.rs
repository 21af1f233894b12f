//! How fast a store opens whose log holds everything that was ever written.

use std::{path::Path, sync::Arc, time::Instant};

use futures::{StreamExt, stream};
use k8s::{
    store::{Embedded, EmbeddedOptions, Store, Transaction},
    wire::env::System,
};

use super::{
    super::{
        report::{Aim, Report},
        usage::Process,
    },
    target::{name, value},
};

/// The records are of so many keys.
const KEYS: usize = 100_000;
const ROUNDS: usize = 3;

/// Replays a log of `records` puts of 1 KiB. The aim is a second for a million.
pub async fn measure(records: usize, report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    write(&open(folder.path()), records).await;
    let (mut times, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (cpu, start) = (Process::own().cpu(), Instant::now());
        let store = open(folder.path());
        times.push(start.elapsed().as_secs_f64());
        costs.push((Process::own().cpu() - cpu).as_secs_f64());
        let disk = store.statistics().await.expect("statistics").disk.expect("a store on a disk");
        assert_eq!(disk.replayed, records as u64, "everything was replayed");
    }
    let aim = Aim::AtMost(records as f64 / 1e6);
    report.add(format!("replay of {records} records of 1 KiB"), "s", aim, times);
    report.add(format!("CPU of a replay of {records} records"), "s", Aim::Nothing, costs);
}

/// The store, which never writes a snapshot.
fn open(folder: &Path) -> Arc<Embedded> {
    let options = EmbeddedOptions { snapshot_after_bytes: u64::MAX, ..EmbeddedOptions::default() };
    Embedded::open(folder, System::current(), options).expect("a store")
}

async fn write(store: &Embedded, records: usize) {
    let value = value();
    let puts = (0..records).map(|record| {
        let transaction = Transaction::new().put(name(record * 7919 % KEYS), value.clone());
        async { store.commit(transaction).await.expect("a put") }
    });
    stream::iter(puts).buffer_unordered(1024).for_each(|_| async {}).await;
}
