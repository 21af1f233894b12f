//! How soon a put is durable if puts come at a rate, whether or not earlier ones are done.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    super::report::{Aim, Report},
    micros, percentile,
    target::{Embedding, Target},
};

/// Every tick so many puts are due: 10,000 a second.
const TICK: Duration = Duration::from_micros(500);
const PUTS_PER_TICK: usize = 5;
const TICKS: u32 = 3000;
const ROUNDS: usize = 3;

/// Measures latencies from when a put was due until it was durable, and CPU.
pub async fn measure(target: &Embedding, report: &mut Report) {
    let (mut halves, mut tails, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let cpu = target.cpu();
        let mut latencies = round(target).await;
        costs.push(micros(target.cpu() - cpu) / latencies.len() as f64);
        halves.push(micros(percentile(&mut latencies, 0.5)) / 1e3);
        tails.push(micros(percentile(&mut latencies, 0.99)) / 1e3);
    }
    report.add("put at an offered 10,000/s, p50", "ms", Aim::Nothing, halves);
    report.add("put at an offered 10,000/s, p99", "ms", Aim::AtMost(1.0), tails);
    report.add("CPU per put at an offered 10,000/s", "us", Aim::Nothing, costs);
}

async fn round(target: &Embedding) -> Vec<Duration> {
    let (done, mut latencies) = mpsc::unbounded_channel();
    let (target, runtime, start) = (target.clone(), Handle::current(), Instant::now());
    let pacer = thread::spawn(move || {
        for tick in 0..TICKS {
            let due = start + TICK * tick;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            for put in 0..PUTS_PER_TICK {
                let (target, done, key) = (target.clone(), done.clone(), tick as usize * 7919 + put);
                runtime.spawn(async move {
                    target.put(key).await;
                    // The reader is there until the last one is done.
                    let _ = done.send(due.elapsed());
                });
            }
        }
    });
    let mut all = Vec::new();
    while let Some(latency) = latencies.recv().await {
        all.push(latency);
    }
    pacer.join().expect("the puts were made");
    assert_eq!(all.len(), TICKS as usize * PUTS_PER_TICK, "every put was made");
    all
}
