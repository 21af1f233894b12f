//! Tokio's paused clock as an environment: time jumps to the next timer when nothing else is to be done.
#![allow(clippy::disallowed_methods)] // This is the tests' runtime shell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_core::env::{BoxFuture, Env, Environment, Task, Timestamp};
use k8s_wire::env::task;
use tokio::time::Instant;

/// The environment of a test with `start_paused = true`. Its wall clock begins in 2026.
pub fn paused() -> Env {
    seeded(1)
}

/// The same, with random numbers that follow from `seed`.
pub fn seeded(seed: u64) -> Env {
    Arc::new(Paused { start: Instant::now(), random: AtomicU64::new(seed) })
}

struct Paused {
    start: Instant,
    random: AtomicU64,
}

impl Environment for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + self.start.elapsed().as_secs() as i64).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> u64 {
        let seed = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Task {
        task(tokio::spawn(future))
    }
}
