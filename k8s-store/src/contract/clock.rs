//! A clock that moves only when it is told to.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures::future::{AbortHandle, Abortable};
use k8s_core::env::{BoxFuture, Env, Environment, Task, TaskHandle, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// An [`Environment`] for tests: time stands still until [`advance`](Self::advance), random numbers follow from a
/// fixed seed, and each task has a thread of its own, whatever runtime the test uses. Clones are the same clock.
#[derive(Clone, Default)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    time: Mutex<Time>,
    random: AtomicU64,
}

#[derive(Default)]
struct Time {
    now: Duration,
    sleepers: BTreeMap<u64, (Duration, Option<Waker>)>,
    last: u64,
}

impl Clock {
    /// A clock at its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// The clock as what stores are constructed with.
    pub fn env(&self) -> Env {
        Arc::new(self.clone())
    }

    /// Moves time on and wakes whoever slept for that long.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.shared.time.lock();
        time.now += duration;
        let now = time.now;
        let due = time.sleepers.values_mut().filter(|(deadline, _)| *deadline <= now);
        let wakers: Vec<_> = due.filter_map(|(_, waker)| waker.take()).collect();
        drop(time);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        let seconds = self.monotonic().as_secs().try_into().unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.shared.time.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.shared.time.lock();
        time.last += 1;
        let (id, deadline) = (time.last, time.now.saturating_add(duration));
        time.sleepers.insert(id, (deadline, None));
        Box::pin(Sleep { shared: self.shared.clone(), id })
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.shared.random.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let (abort, registration) = AbortHandle::new_pair();
        let (report, ended) = oneshot::channel();
        let work = move || {
            // A test environment that cannot start a runtime cannot test anything.
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the system gives a runtime");
            let run = || runtime.block_on(Abortable::new(future, registration));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let _ = report.send(outcome.map(drop).map_err(|_| format!("the task {name} panicked")));
        };
        // A test environment that cannot start a thread cannot test anything.
        thread::Builder::new().name(name.into()).spawn(work).expect("the system gives a thread");
        Task::new(Thread { abort, ended })
    }
}

struct Thread {
    abort: AbortHandle,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl TaskHandle for Thread {
    fn cancel(&self) {
        self.abort.abort();
    }

    fn join(self: Box<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move { self.ended.await.unwrap_or_else(|_| Err("the task's thread is gone".into())) })
    }
}

struct Sleep {
    shared: Arc<Shared>,
    id: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.shared.time.lock();
        let now = time.now;
        match time.sleepers.get_mut(&self.id) {
            Some((deadline, waker)) if *deadline > now => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.shared.time.lock().sleepers.remove(&self.id);
    }
}
