//! Time, randomness and tasks, as a value that is handed in.
//!
//! Nothing in the workspace asks the operating system for the time, for randomness, or for a task of its own
//! accord: it asks the [`Environment`] it was constructed with. That is what lets a whole cluster run under a
//! paused clock with a seed. This file declares the seam; it must never implement a clock.
//!
//! Keys, tokens and nonces are the one exception: secrets always come from the operating system, never from here.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use jiff::Timestamp;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where time, randomness and tasks come from.
///
/// Implementations: `k8s_wire::env::System` (the real clock on a tokio runtime) and `k8s::Sim` (a paused clock and
/// a seed). Shared by reference count as [`Env`].
pub trait Environment: Send + Sync + 'static {
    /// The wall clock. May jump; use it only for what people and other machines read.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed point. Never falls; use it for intervals, back-off and deadlines.
    fn monotonic(&self) -> Duration;

    /// Resolves once `monotonic()` has advanced by `duration`. Dropping the future cancels it.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Sixty-four uniformly distributed bits. Not for secrets.
    fn random(&self) -> u64;

    /// Starts `future` as a task. `name` labels it in traces. Dropping the returned [`Task`] cancels it.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;
}

/// The shared handle that constructors take.
pub type Env = Arc<dyn Environment>;

/// A running task. Dropping it cancels the task; [`Task::detach`] lets it run on.
#[must_use = "dropping a Task cancels it; call detach() to let it run on"]
pub struct Task {
    handle: Option<Box<dyn TaskHandle>>,
}

/// What an [`Environment`] gives so that a [`Task`] can be cancelled and awaited.
pub trait TaskHandle: Send + Sync {
    /// Asks the task to stop at its next await point.
    fn cancel(&self);
    /// Resolves when the task has ended; `Err` carries the panic message if it panicked.
    fn join(self: Box<Self>) -> BoxFuture<'static, Result<(), String>>;
}

impl Task {
    /// Wraps an implementation's handle.
    pub fn new(handle: impl TaskHandle + 'static) -> Self {
        Self { handle: Some(Box::new(handle)) }
    }

    /// Lets the task run to its end on its own.
    pub fn detach(mut self) {
        self.handle.take();
    }

    /// Asks the task to stop and resolves when it has. Cancel-safe: dropping the future leaves the task cancelled.
    pub async fn stop(mut self) {
        if let Some(handle) = self.handle.take() {
            handle.cancel();
            // A panic of a task that we are stopping was already reported where it happened.
            let _ = handle.join().await;
        }
    }

    /// Resolves when the task has ended by itself; `Err` carries the message of its panic.
    ///
    /// Not cancel-safe: a dropped future lets the task run on, detached.
    pub async fn join(mut self) -> Result<(), String> {
        match self.handle.take() {
            Some(handle) => handle.join().await,
            None => Ok(()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
    }
}

/// Conveniences that every environment has.
impl dyn Environment {
    /// A float in `[0, 1)`, for jitter.
    pub fn random_unit(&self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `duration` stretched by up to `factor`, to spread work that would otherwise meet.
    pub fn jitter(&self, duration: Duration, factor: f64) -> Duration {
        duration.mul_f64(1.0 + factor * self.random_unit())
    }

    /// A random (version 4) UUID in its usual text form.
    pub fn uuid(&self) -> String {
        let high = (self.random() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.random() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// `length` letters of the alphabet that upstream uses for generated names (no vowels, no look-alikes).
    pub fn name_suffix(&self, length: usize) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).map(|_| LETTERS[(self.random() % LETTERS.len() as u64) as usize] as char).collect()
    }
}

/// Races `future` against `env.sleep(limit)`; `None` when the time was up first (the future is then dropped).
pub async fn timeout<T>(env: &dyn Environment, limit: Duration, future: impl Future<Output = T> + Send) -> Option<T> {
    use futures::future::{Either, select};
    let sleep = env.sleep(limit);
    futures::pin_mut!(future);
    match select(future, sleep).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}
