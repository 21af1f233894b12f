//! Asks the server what nobody thought of, for as long as you like.
//!
//! ```text
//! cargo run --release -p k8s-apiserver --example deep_requests -- [--minutes N] [--seed S] [--rounds R]
//! ```
//!
//! A round is ten thousand requests to a server of its own; `--rounds 100` are a million. The first answer of 500, or the
//! first that does not come, ends the run and names its seed: `--seed` with it and `--rounds 1` shows it again.
#![allow(clippy::disallowed_methods, reason = "a program that runs in real time")]

#[path = "../tests/requests/mod.rs"]
mod requests;

use std::{env, error::Error, process::ExitCode, time::Instant};

use k8s_store::check::long::{Orders, Proof};

const PROOFS: [Proof; 1] = [Proof {
    name: "requests",
    unit: "requests",
    round: |seed| requests::round(seed, 10_000).map(|report| report.codes.values().sum()),
}];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let orders = Orders::read(&PROOFS, env::args().skip(1))?;
    let begun = Instant::now();
    let sound = orders.carry_out(|| begun.elapsed(), &mut std::io::stdout())?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
