//! Runs the store's proofs for as long as you like.
//!
//! ```text
//! cargo run --release -p k8s-store --example deep -- [--minutes N] [--seed S] [--rounds R] [what...]
//! cargo run --release -p k8s-store --example deep -- sample <folder>
//! ```
//!
//! `what` is any of `histories`, `unknown`, `embedded`, `outages`, `power`, `faults`, `full`, `flips` and `kills`;
//! without one, all of them take turns. A round is a good hundredth of what the tests do, and there are 1,000 of each
//! unless `--rounds` says otherwise, or until the time is up (an hour, unless `--minutes` says otherwise). The first
//! contradiction ends the run and names its seed: `--seed` with it and `--rounds 1` shows it again.
#![allow(clippy::disallowed_methods, reason = "a program that runs in real time")]

#[allow(dead_code, reason = "the test's own number of children is not used here")]
#[path = "../tests/sigkill.rs"]
mod kills;
#[path = "../tests/format/sample.rs"]
mod sample;

use std::{env, error::Error, path::Path, process::ExitCode, sync::Arc, time::Instant};

use k8s_store::{
    Faulty, Memory,
    check::{
        self, Workload, disasters,
        long::{Orders, Proof, Round},
    },
    contract::Clock,
};

const PROOFS: [Proof; 9] = [
    Proof { name: "histories", unit: "operations", round: histories },
    Proof { name: "unknown", unit: "operations", round: unknown },
    Proof { name: "embedded", unit: "operations", round: |seed| powered(seed, 0) },
    Proof { name: "outages", unit: "operations", round: |seed| powered(seed, 150) },
    Proof { name: "power", unit: "losses of power", round: |seed| survived(disasters::power_cuts(seed, 500)) },
    Proof { name: "faults", unit: "faults", round: |seed| survived(disasters::disk_faults(seed, 12)) },
    Proof { name: "full", unit: "full disks", round: |seed| survived(disasters::full_disks(seed, 5)) },
    Proof { name: "flips", unit: "flipped bits", round: |seed| survived(disasters::bit_flips(seed, 100)) },
    Proof { name: "kills", unit: "kills", round: killed },
];

fn memory() -> Arc<Memory> {
    Arc::new(Memory::new(Clock::new().env()))
}

fn checked(seeds: impl Iterator<Item = Result<check::Checked, Box<check::Failure>>>) -> Round {
    let mut operations = 0;
    for checked in seeds {
        operations += checked.map_err(|failure| failure.to_string())?.operations;
    }
    Ok(operations)
}

/// Each round has seeds of its own, so that no history is checked twice.
fn seeds(seed: u64) -> std::ops::Range<u64> {
    seed * 5..seed * 5 + 5
}

fn histories(seed: u64) -> Round {
    checked(seeds(seed).map(|seed| check::run(memory(), seed, &Workload::default())))
}

fn unknown(seed: u64) -> Round {
    let run = |seed| check::run(Arc::new(Faulty::unreliable(memory(), seed, 12)), seed, &Workload::default());
    checked(seeds(seed).map(run))
}

fn powered(seed: u64, one_in: u64) -> Round {
    checked(seeds(seed).map(|seed| check::history_with_power_cuts(seed, one_in, &Workload::default())))
}

fn survived(outcome: Result<disasters::Survived, String>) -> Round {
    outcome.map(|survived| survived.disasters)
}

fn killed(_: u64) -> Round {
    const KILLS: u64 = 300;
    std::panic::catch_unwind(|| kills::parent(KILLS)).map(|()| KILLS).map_err(|_| "see above".into())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let Some(folder) = env::var_os(kills::FOLDER) {
        kills::child(Path::new(&folder));
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [sample, folder] = &arguments[..]
        && sample == "sample"
    {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(sample::write(Path::new(folder)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let orders = Orders::read(&PROOFS, arguments.into_iter())?;
    let begun = Instant::now();
    let sound = orders.carry_out(|| begun.elapsed(), &mut std::io::stdout())?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
