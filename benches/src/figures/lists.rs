//! A list of many pods: CPU of the server, and the memory that it takes beside what it holds anyway.

use std::{path::Path, time::Instant};

use super::{
    pods::{self, many, pod},
    report::{Aim, Report},
};

const PODS: usize = 20_000;
const ROUNDS: usize = 7;

/// Measures `GET /api/v1/pods` with 20,000 pods, as JSON, over one connection.
pub async fn measure(program: &Path, report: &mut Report) {
    let (server, client) = pods::server(program).await;
    many(&client, PODS, |number| pods::create(pod(&format!("pod-{number}")))).await;
    server.quiet().await;
    let (http, process) = (server.http(), server.process());
    http.read("/readyz").await;
    let memory = process.memory();
    let (mut costs, mut times, mut peaks, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        process.forget_peak();
        let (cpu, start) = (process.cpu(), Instant::now());
        lengths.push(http.read("/api/v1/pods").await as f64 / 1e6);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        costs.push((process.cpu() - cpu).as_secs_f64() * 1e3);
        peaks.push(process.peak_memory() - memory);
    }
    assert!(lengths.iter().all(|megabytes| megabytes * 1e6 > (PODS * 1000) as f64), "all pods were listed");
    report.add("CPU per LIST of 20,000 pods", "ms", Aim::AtMost(40.0), costs);
    report.add("LIST of 20,000 pods, until all was read", "ms", Aim::Nothing, times);
    report.add("length of that list", "MB", Aim::Nothing, lengths);
    report.add("most extra memory during it", "MiB", Aim::AtMost(4.0), peaks);
}
