//! Runs the clients of a history in one thread, and lets a seed decide whose turn it is.
//!
//! Over a store that does not wait (such as [`Memory`](crate::Memory)) the same seed is the same run.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use k8s_core::env::BoxFuture;
use parking_lot::{Condvar, Mutex};

use super::random::Random;

/// The numbers of the tasks that waited for longer than anybody has patience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck(pub(crate) Vec<usize>);

#[derive(Default)]
struct Ready {
    numbers: Mutex<Vec<usize>>,
    changed: Condvar,
}

struct Turn {
    ready: Arc<Ready>,
    number: usize,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        let mut numbers = self.ready.numbers.lock();
        if !numbers.contains(&self.number) {
            numbers.push(self.number);
            self.ready.changed.notify_one();
        }
    }
}

/// Runs all tasks to their end, or until nothing has moved for `patience` of real time.
pub(crate) fn run(random: &mut Random, tasks: Vec<BoxFuture<'_, ()>>, patience: Duration) -> Result<(), Stuck> {
    let ready = Arc::new(Ready::default());
    let waker = |number| Waker::from(Arc::new(Turn { ready: ready.clone(), number }));
    let mut tasks: Vec<_> = tasks.into_iter().enumerate().map(|(number, task)| Some((task, waker(number)))).collect();
    *ready.numbers.lock() = (0..tasks.len()).collect();
    let mut left = tasks.len();
    while left > 0 {
        let Some(number) = next(&ready, random, patience) else {
            let waiting = tasks.iter().enumerate().filter(|(_, task)| task.is_some());
            return Err(Stuck(waiting.map(|(number, _)| number).collect()));
        };
        if let Some((task, waker)) = &mut tasks[number]
            && Pin::new(task).poll(&mut Context::from_waker(waker)).is_ready()
        {
            tasks[number] = None;
            left -= 1;
        }
    }
    Ok(())
}

fn next(ready: &Ready, random: &mut Random, patience: Duration) -> Option<usize> {
    let mut numbers = ready.numbers.lock();
    while numbers.is_empty() {
        if ready.changed.wait_for(&mut numbers, patience).timed_out() && numbers.is_empty() {
            return None;
        }
    }
    let index = random.below(numbers.len() as u64) as usize;
    Some(numbers.swap_remove(index))
}

/// Lets the others go first, `times` times.
pub(crate) async fn hesitate(mut times: u64) {
    std::future::poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs one future to its end, in this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
