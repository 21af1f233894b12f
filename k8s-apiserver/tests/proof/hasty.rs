//! Real time, only faster: what takes minutes on this clock takes seconds.

use std::{sync::Arc, time::Duration};

use k8s_core::env::{BoxFuture, Env, Environment, Task, Timestamp};
use k8s_wire::env::System;

/// The environment of this runtime, on a clock that runs `factor` times as fast.
pub fn hasty(factor: u32) -> Env {
    Arc::new(Hasty { real: System::current(), factor })
}

struct Hasty {
    real: Env,
    factor: u32,
}

impl Environment for Hasty {
    fn now(&self) -> Timestamp {
        self.real.now()
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic() * self.factor
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.real.sleep(duration / self.factor)
    }

    fn random(&self) -> u64 {
        self.real.random()
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        self.real.spawn(name, future)
    }
}
