//! The contract's clock, moved on by the machine's.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use k8s_core::env::Env;
use k8s_store::contract::Clock;

const STEP: Duration = Duration::from_millis(5);

/// An environment whose time is real, for as long as anybody has it.
pub fn real() -> Env {
    let clock = Clock::new();
    let env = clock.env();
    let alive = Arc::downgrade(&env);
    thread::spawn(move || {
        let mut last = Instant::now();
        while alive.strong_count() > 0 {
            thread::sleep(STEP);
            clock.advance(last.elapsed());
            last = Instant::now();
        }
    });
    env
}
