//! Durable puts by a number of concurrent writers, each of which waits for its put before the next.

use std::time::{Duration, Instant};

use super::{
    super::report::{
        Aim::{AtLeast, AtMost, Nothing},
        Report,
    },
    bare, micros,
    target::{Beside, Embedding, Target, fill},
};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(700);
/// How many times better than etcd the store should be, everywhere.
const TIMES: f64 = 10.0;

/// What one round came to.
struct Round {
    puts: usize,
    /// Microseconds of CPU per put.
    cpu: f64,
    /// Puts per second.
    rate: f64,
}

/// All rounds at one number of writers.
#[derive(Default)]
struct Rounds {
    ours: Vec<Round>,
    etcd: Vec<Round>,
    /// Puts that shared a flush.
    shared: Vec<f64>,
}

/// Measures 1 to 1024 writers, and what one write costs on the bare disk.
pub async fn measure(ours: &Embedding, etcd: Option<&Beside>, report: &mut Report) {
    if let Some(etcd) = etcd {
        fill(etcd).await;
    }
    bare::measure(ours.folder(), report);
    for (writers, cpu_aim, rate_aim) in [
        (1, Nothing, Nothing),
        (16, AtMost(15.0), Nothing),
        (128, Nothing, Nothing),
        (1024, AtMost(4.0), AtLeast(500_000.0)),
    ] {
        let mut rounds = Rounds::default();
        for _ in 0..ROUNDS {
            let flushes = ours.flushes().await;
            let round_of_ours = round(ours, writers).await;
            rounds.shared.push(round_of_ours.puts as f64 / (ours.flushes().await - flushes) as f64);
            rounds.ours.push(round_of_ours);
            if let Some(etcd) = etcd {
                rounds.etcd.push(round(etcd, writers).await);
            }
        }
        let name = |what: &str| format!("{what}, writers: {writers}");
        report.add(name("CPU per put"), "us", cpu_aim, rounds.ours.iter().map(|round| round.cpu).collect());
        report.add(name("puts"), "1/s", rate_aim, rounds.ours.iter().map(|round| round.rate).collect());
        report.add(name("puts that share a flush"), "", Nothing, std::mem::take(&mut rounds.shared));
        if etcd.is_some() {
            rounds.compare(name, report);
        }
    }
}

impl Rounds {
    fn compare(&self, name: impl Fn(&str) -> String, report: &mut Report) {
        let (etcd, pairs) = (self.etcd.iter(), || self.ours.iter().zip(&self.etcd));
        report.add(name("etcd: CPU per put"), "us", Nothing, etcd.clone().map(|round| round.cpu).collect());
        report.add(name("etcd: puts"), "1/s", Nothing, etcd.map(|round| round.rate).collect());
        let cpu = pairs().map(|(ours, etcd)| etcd.cpu / ours.cpu).collect();
        report.add(name("etcd's CPU over ours"), "x", AtLeast(TIMES), cpu);
        let rate = pairs().map(|(ours, etcd)| ours.rate / etcd.rate).collect();
        report.add(name("our puts over etcd's"), "x", AtLeast(TIMES), rate);
    }
}

async fn round(target: &impl Target, writers: usize) -> Round {
    let (cpu, start) = (target.cpu(), Instant::now());
    let end = start + ROUND;
    let tasks: Vec<_> = (0..writers).map(|writer| tokio::spawn(write(target.clone(), writer, end))).collect();
    let mut puts = 0;
    for task in tasks {
        puts += task.await.expect("a writer");
    }
    let (cpu, elapsed) = (target.cpu() - cpu, start.elapsed());
    Round { puts, cpu: micros(cpu) / puts as f64, rate: puts as f64 / elapsed.as_secs_f64() }
}

/// One writer; how many puts it made.
async fn write(target: impl Target, writer: usize, end: Instant) -> usize {
    let mut puts = 0;
    while Instant::now() < end {
        // Some way through the keys that is not in their order.
        target.put(writer * 31 + puts * 7919).await;
        puts += 1;
    }
    puts
}
