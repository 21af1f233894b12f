//! An environment without a clock of its own: time moves on when nothing else does, randomness follows from a seed.

use std::{future::Future, sync::Arc, time::Duration};

use k8s_core::env::{BoxFuture, Env, Environment, Task, Timestamp};
use k8s_store::contract::Clock;
use k8s_wire::env::task;
use tokio::runtime::{Builder, Runtime};

/// How often others may run before nobody is thought to have anything to do. Everything is in memory, so whoever waits
/// for somebody waits only for a few turns.
const TURNS: u32 = 200;
/// How far time moves at once: past any timer that a request waits for in a few steps.
const STEP: Duration = Duration::from_secs(5);
/// How often it moves before an input counts as one that hangs: for an hour.
const MAX_STEPS: u32 = 720;

/// A runtime of one thread and its environment.
pub struct Quiet {
    runtime: Runtime,
    clock: Clock,
    /// What is constructed with it.
    pub env: Env,
}

impl Quiet {
    /// A runtime at its beginning.
    pub fn new() -> Self {
        // Timers of HTTP connections ask for real ones. Invariant: such a runtime needs nothing of the system but memory.
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime without sockets");
        let clock = Clock::new();
        let env = Arc::new(Shell { clock: clock.env(), tasks: runtime.handle().clone() });
        Self { runtime, clock, env }
    }

    /// Runs a future to its end, moving time on whenever everybody waits. Panics if an hour does not help.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            futures::pin_mut!(future);
            for _ in 0..MAX_STEPS {
                for _ in 0..TURNS {
                    if let std::task::Poll::Ready(value) = futures::poll!(&mut future) {
                        return value;
                    }
                    tokio::task::yield_now().await;
                }
                self.clock.advance(STEP);
            }
            panic!("it waits for something that never comes")
        })
    }
}

struct Shell {
    clock: Env,
    tasks: tokio::runtime::Handle,
}

impl Environment for Shell {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }

    fn random(&self) -> u64 {
        self.clock.random()
    }

    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Task {
        task(self.tasks.spawn(future))
    }
}
