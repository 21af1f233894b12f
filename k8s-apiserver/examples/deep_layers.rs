//! Runs the proofs of the layers above the store for as long as you like.
//!
//! ```text
//! cargo run --release -p k8s-apiserver --example deep_layers -- [--minutes N] [--seed S] [--rounds R] [what...]
//! ```
//!
//! `what` is any of `cache`, `door`, `http`, `informers` and `tls`; without one, all of them take turns. A round is a
//! history of more writes than those of the tests. The first contradiction ends the run and names its seed: `--seed` with
//! it and `--rounds 1` shows it again (over sockets, `tls`, it shows the same requests in whatever order they come).
#![allow(clippy::disallowed_methods, reason = "a program that runs in real time")]

#[allow(dead_code, reason = "defects are for the tests")]
#[path = "../tests/proof/mod.rs"]
mod proof;

use std::{env, error::Error, process::ExitCode, time::Instant};

use k8s_store::check::long::{Orders, Proof, Round};

use self::proof::{
    history::{Plan, run},
    stack::Layer,
};

const PROOFS: [Proof; 5] = [
    Proof { name: "cache", unit: "events", round: |seed| watched(seed, Layer::Cache) },
    Proof { name: "door", unit: "events", round: |seed| watched(seed, Layer::Door) },
    Proof { name: "http", unit: "events", round: |seed| watched(seed, Layer::Http) },
    Proof { name: "informers", unit: "events", round: informed },
    Proof { name: "tls", unit: "events", round: |seed| watched(seed, Layer::Tls) },
];

fn proven(seed: u64, plan: &Plan) -> Round {
    run(seed, plan).map(|proven| proven.all_events()).map_err(|failure| failure.to_string())
}

fn watched(seed: u64, layer: Layer) -> Round {
    let plan = Plan { servers: 2, writers: 6, writes: 300, watchers: 64, components: 8, ..Plan::at(layer) };
    proven(seed, &plan)
}

fn informed(seed: u64) -> Round {
    let plan = Plan { servers: 2, writers: 6, writes: 300, watchers: 0, components: 64, ..Plan::at(Layer::Door) };
    proven(seed, &plan)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let orders = Orders::read(&PROOFS, env::args().skip(1))?;
    let begun = Instant::now();
    let sound = orders.carry_out(|| begun.elapsed(), &mut std::io::stdout())?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
