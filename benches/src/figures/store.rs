//! The embedded store alone: what a durable put of 1 KiB costs, beside etcd and beside the bare disk; how soon it is
//! durable at an offered rate; how fast a log is replayed; and how much memory entries take.

mod bare;
pub mod memory;
mod offered;
mod replay;
mod target;
mod writers;

use std::time::Duration;

use self::target::{Beside, Embedding, fill};
use super::report::Report;

/// Puts by one and many writers, round by round in turns with etcd, puts at an offered rate, a short replay, memory.
pub async fn measure(report: &mut Report) {
    let ours = Embedding::start();
    let etcd = Beside::start().await;
    if etcd.is_none() {
        report.note("There is no program `etcd` (Debian: etcd-server), so the store was not compared with it.");
    }
    fill(&ours).await;
    writers::measure(&ours, etcd.as_ref(), report).await;
    drop(etcd);
    offered::measure(&ours, report).await;
    drop(ours);
    replay::measure(200_000, report).await;
    memory::measure(200_000, report);
}

/// The replay of a million records: long, so only by name.
pub async fn replay(report: &mut Report) {
    replay::measure(1_000_000, report).await;
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The latency that so much of all was below.
fn percentile(latencies: &mut [Duration], part: f64) -> Duration {
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * part) as usize]
}
