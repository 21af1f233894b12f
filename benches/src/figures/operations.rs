//! CPU of the server per operation, through TLS, authentication, RBAC, admission and a durable store: of everything in
//! one, and of the API server alone beside etcd.

mod alone;
mod etcd;
mod load;

use std::path::Path;

use super::{
    pods,
    report::{
        Aim::{AtMost, Nothing},
        Report,
    },
};

pub use self::alone::measure as measure_alone;
use self::load::{Load, OPERATIONS};

/// How often each operation is measured.
const ROUNDS: usize = 3;
/// The aims of [`OPERATIONS`], in microseconds.
const AIMS: [super::report::Aim; OPERATIONS.len()] =
    [AtMost(60.0), AtMost(15.0), AtMost(2.0), AtMost(60.0), AtMost(60.0), AtMost(60.0), AtMost(25.0), Nothing];

/// Measures everything in one: each operation on pods that nobody schedules, renewals of leases, requests that do
/// nothing, and delivered watch events.
pub async fn measure(program: &Path, report: &mut Report) {
    let (server, client) = pods::server(program).await;
    let load = Load::new(server.http(), client);
    let mut samples: [Vec<f64>; OPERATIONS.len()] = Default::default();
    for round in 0..ROUNDS {
        load.round(&server, round, &mut samples).await;
    }
    for ((name, aim), samples) in OPERATIONS.into_iter().zip(AIMS).zip(samples) {
        report.add(format!("CPU per {name}"), "us", aim, samples);
    }
    let events = load.watch_events(&server, ROUNDS).await;
    report.add("CPU per delivered watch event", "us", AtMost(2.0), events);
}
