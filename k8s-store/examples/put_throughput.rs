//! What a durable put of 1 KiB costs: CPU time, throughput and latency, with 1, 16 and 128 writers.
//!
//! `cargo run --release --example put_throughput [folder]`; without a folder, one in the current directory is used and
//! removed.
#![allow(clippy::disallowed_methods, reason = "a program that measures real time")]

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use k8s_store::{Embedded, EmbeddedOptions, Store, Transaction, contract::Clock};

const KEYS: u64 = 10_000;
const MEASURED: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().nth(1);
    let own = if given.is_none() { Some(tempfile::tempdir_in(".")?) } else { None };
    let folder = given.as_deref().map(Path::new).or(own.as_ref().map(|own| own.path())).ok_or("no folder")?;
    let opening = Instant::now();
    let store = Embedded::open(folder, Clock::new().env(), EmbeddedOptions::default())?;
    println!("opened in {:.2} ms", opening.elapsed().as_secs_f64() * 1e3);
    let value = Bytes::from(vec![b'x'; 1024]);
    let load = (0..KEYS).map(|key| store.commit(put(key, &value)));
    futures::future::try_join_all(load).await?;
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "writers", "ops/s", "p50 us", "p99 us", "CPU us/op", "ops/flush"
    );
    for writers in [1, 16, 128] {
        measure(&store, writers, &value).await?;
    }
    let statistics = store.statistics().await?;
    println!("{statistics:#?}");
    Ok(())
}

fn put(key: u64, value: &Bytes) -> Transaction {
    Transaction::new().put(format!("/registry/pods/default/pod-{key:06}"), value.clone())
}

async fn measure(store: &Arc<Embedded>, writers: u64, value: &Bytes) -> Result<(), Box<dyn Error>> {
    let flushes = async || store.statistics().await.map(|all| all.disk.map_or(0, |disk| disk.flushes));
    let (flushes_before, cpu_before, begun) = (flushes().await?, cpu_time()?, Instant::now());
    let tasks = (0..writers).map(|writer| tokio::spawn(write(store.clone(), writer, value.clone(), begun)));
    let mut latencies = Vec::new();
    for task in futures::future::join_all(tasks).await {
        latencies.extend(task??);
    }
    let (elapsed, cpu) = (begun.elapsed(), cpu_time()? - cpu_before);
    let count = latencies.len();
    latencies.sort_unstable();
    let micros = |at: usize| latencies[at.min(count - 1)].as_secs_f64() * 1e6;
    println!(
        "{writers:>8} {:>10.0} {:>10.0} {:>10.0} {:>10.1} {:>12.1}",
        count as f64 / elapsed.as_secs_f64(),
        micros(count / 2),
        micros(count * 99 / 100),
        cpu.as_secs_f64() * 1e6 / count as f64,
        count as f64 / (flushes().await? - flushes_before).max(1) as f64,
    );
    Ok(())
}

async fn write(
    store: Arc<Embedded>,
    writer: u64,
    value: Bytes,
    begun: Instant,
) -> Result<Vec<Duration>, k8s_store::StoreError> {
    let mut latencies = Vec::new();
    let mut key = writer;
    while begun.elapsed() < MEASURED {
        key = (key * 31 + 7) % KEYS;
        let start = Instant::now();
        store.commit(put(key, &value)).await?;
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}

/// The CPU time of this process, user and system, in ticks of ten milliseconds.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").ok_or("an unusual /proc/self/stat")?.1;
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
