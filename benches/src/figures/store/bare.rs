//! The floor of a single durable put: a thread that writes 1 KiB over what a file already holds, and flushes it.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    super::{
        report::{Aim, Report},
        usage::thread_cpu,
    },
    micros, percentile,
    target::VALUE_BYTES,
};

const FILE_BYTES: usize = 4 << 20;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(500);

/// Measures writes and flushes of the disk under `folder`.
pub fn measure(folder: &Path, report: &mut Report) {
    let path = folder.join("bare");
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).expect("a file");
    file.write_all(&vec![0; FILE_BYTES]).and_then(|()| file.sync_all()).expect("a file of that size");
    let value = [b'x'; VALUE_BYTES];
    let (mut costs, mut halves, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (cpu, start) = (thread_cpu(), Instant::now());
        let mut latencies = Vec::new();
        while start.elapsed() < ROUND {
            let begun = Instant::now();
            let offset = (latencies.len() * VALUE_BYTES % FILE_BYTES) as u64;
            file.write_all_at(&value, offset).and_then(|()| file.sync_data()).expect("a durable write");
            latencies.push(begun.elapsed());
        }
        costs.push(micros(thread_cpu() - cpu) / latencies.len() as f64);
        halves.push(micros(percentile(&mut latencies, 0.5)) / 1e3);
        tails.push(micros(percentile(&mut latencies, 0.99)) / 1e3);
    }
    report.add("floor: CPU of write + fdatasync", "us", Aim::Nothing, costs);
    report.add("floor: write + fdatasync, p50", "ms", Aim::Nothing, halves);
    report.add("floor: write + fdatasync, p99", "ms", Aim::Nothing, tails);
}
