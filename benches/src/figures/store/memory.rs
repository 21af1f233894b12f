//! How much memory a store of many entries takes: in a process of its own, which holds nothing else.

use std::{process::Command, time::Duration};

use bytes::Bytes;
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
    target::{VALUE_BYTES, name},
};

/// What makes this program the one that is measured; the number of entries follows.
pub const HOLD: &str = "--hold";
/// What an entry may take besides its bytes, and how often its bytes.
const OVERHEAD_BYTES: f64 = 200.0;
const TIMES: f64 = 1.3;
const MIB: f64 = 1024.0 * 1024.0;

/// How long a snapshot that is being written may take to end. While it is, it holds older values.
const SETTLING: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 3;

/// Measures processes that hold `entries` of 1 KiB: when they were written, and when each was written again.
pub fn measure(entries: usize, report: &mut Report) {
    let (written, rewritten) = (0..ROUNDS).map(|_| holder(entries)).unzip();
    report.add("memory per live byte, beside 200 B an entry", "B", Aim::AtMost(TIMES), written);
    report.add("the same, every entry written twice", "B", Aim::AtMost(TIMES), rewritten);
}

/// Memory per live byte in one such process, after each of its passes.
fn holder(entries: usize) -> (f64, f64) {
    let program = std::env::current_exe().expect("the path of this program");
    let held = Command::new(program).args([HOLD, &entries.to_string()]).output().expect("the process starts");
    assert!(held.status.success(), "the process ends well: {}", String::from_utf8_lossy(&held.stderr));
    let text = String::from_utf8(held.stdout).expect("text");
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [live, written, rewritten] = numbers[..] else { panic!("three numbers: {text}") };
    let per_byte = |memory: f64| (memory - OVERHEAD_BYTES * entries as f64) / live;
    (per_byte(written), per_byte(rewritten))
}

/// The process that holds: prints the bytes of keys and values, and what it took in bytes after each pass.
pub async fn hold(entries: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(folder.path(), System::current(), EmbeddedOptions::default()).expect("a store");
    let empty = Process::own().memory();
    let mut taken = Vec::new();
    for pass in 0..2 {
        let puts = (0..entries).map(|number| {
            let transaction = Transaction::new().put(name(number), Bytes::from(vec![b'a' + pass; VALUE_BYTES]));
            async { store.commit(transaction).await.expect("a put") }
        });
        stream::iter(puts).buffer_unordered(256).for_each(|_| async {}).await;
        tokio::time::sleep(SETTLING).await;
        taken.push((Process::own().memory() - empty) * MIB);
    }
    let live = store.statistics().await.expect("statistics").bytes;
    println!("{live} {} {}", taken[0], taken[1]);
}
