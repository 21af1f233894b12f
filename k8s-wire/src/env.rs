//! The real environment: the clocks of the machine, tasks on a tokio runtime, randomness seeded by the system.
//!
//! The only place in the workspace's libraries that may ask for the time or start a task.
#![allow(clippy::disallowed_methods)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_core::env::{BoxFuture, Env, Environment, Task, TaskHandle, Timestamp};
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::Instrument;

/// The environment of a real process.
pub struct System {
    runtime: Handle,
    start: Instant,
    random: AtomicU64,
}

impl System {
    /// The environment of the tokio runtime that this is called in.
    ///
    /// Panics outside of a runtime: without one there is nothing to run tasks on.
    pub fn current() -> Env {
        Self::on(Handle::current())
    }

    /// The environment of a given runtime.
    pub fn on(runtime: Handle) -> Env {
        Arc::new(Self { runtime, start: Instant::now(), random: AtomicU64::new(seed()) })
    }
}

impl Environment for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _guard = self.runtime.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    /// SplitMix64 over a counter: uniform, without a lock, never the same for two callers.
    fn random(&self) -> u64 {
        let state = self.random.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let span = tracing::debug_span!("task", name);
        task(self.runtime.spawn(future.instrument(span)))
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn seed() -> u64 {
    let mut bytes = [0; 8];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    // Without system randomness no TLS works either; the address of a fresh allocation keeps two processes apart.
    if source.fill(&mut bytes).is_err() {
        return &raw const *Box::new(0u8) as u64;
    }
    u64::from_le_bytes(bytes)
}

/// A task of tokio as an environment hands it out.
pub fn task(running: JoinHandle<()>) -> Task {
    Task::new(Running(running))
}

struct Running(JoinHandle<()>);

impl TaskHandle for Running {
    fn cancel(&self) {
        self.0.abort();
    }

    fn join(self: Box<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            match self.0.await {
                Ok(()) => Ok(()),
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => Err(panic_text(error.into_panic().as_ref())),
            }
        })
    }
}

/// The message of a panic, where it is a text.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_a_task_cancels_it_and_detaching_does_not() {
        let env = System::current();
        let (dropped, mut dropped_rx) = tokio::sync::oneshot::channel::<()>();
        let task = env.spawn(
            "dropped",
            Box::pin(async move {
                std::future::pending::<()>().await;
                drop(dropped);
            }),
        );
        tokio::task::yield_now().await;
        assert!(dropped_rx.try_recv().is_err());
        drop(task);
        assert!(dropped_rx.await.is_err(), "the task's half of the channel is gone");

        let (sent, received) = tokio::sync::oneshot::channel();
        let answer = async move { sent.send(7).unwrap_or_default() };
        env.spawn("detached", Box::pin(answer)).detach();
        assert_eq!(received.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_told_to_who_joins() {
        let env = System::current();
        let task = env.spawn("panics", Box::pin(async { panic!("on purpose") }));
        assert_eq!(task.join().await, Err("on purpose".to_owned()));
    }

    #[tokio::test]
    async fn time_advances_and_random_numbers_differ() {
        let env = System::current();
        let before = env.monotonic();
        env.sleep(Duration::from_millis(1)).await;
        assert!(env.monotonic() >= before + Duration::from_millis(1));
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| env.random()).collect();
        assert_eq!(drawn.len(), 1000);
        assert_ne!(env.uuid(), System::current().uuid());
    }
}
