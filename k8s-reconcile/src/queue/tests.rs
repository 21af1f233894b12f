//! The queue under a clock that the test moves.

use std::sync::Arc;

use k8s_core::env::{BoxFuture, Environment, Task, Timestamp};

use super::*;

/// A clock that stands still; sleeping never ends, so tests call `next` only when something is there.
struct Still(Mutex<Duration>);

impl Environment for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(futures::future::pending())
    }
    fn random(&self) -> u64 {
        0
    }
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> Task {
        unreachable!("the queue starts no tasks")
    }
}

fn queue() -> (Arc<Still>, WorkQueue<&'static str>) {
    let clock = Arc::new(Still(Mutex::new(Duration::ZERO)));
    (clock.clone(), WorkQueue::new(clock, BackOff::default()))
}

fn take(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
    futures::FutureExt::now_or_never(queue.next()).flatten()
}

#[test]
fn a_key_is_queued_once_and_worked_on_once() {
    let (_, queue) = queue();
    queue.add("a", Lane::Fast);
    queue.add("a", Lane::Fast);
    assert_eq!(take(&queue), Some("a"));
    queue.add("a", Lane::Fast);
    assert_eq!(take(&queue), None, "not while it is in work");
    queue.done(&"a");
    assert_eq!(take(&queue), Some("a"));
}

#[test]
fn changes_overtake_background_work_but_do_not_starve_it() {
    let (_, queue) = queue();
    queue.add("background", Lane::Slow);
    let changes = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    changes.into_iter().for_each(|key| queue.add(key, Lane::Fast));
    let order: Vec<_> = std::iter::from_fn(|| take(&queue)).collect();
    assert_eq!(order, ["1", "2", "3", "4", "5", "6", "7", "8", "background", "9"]);
}

#[test]
fn a_background_key_that_changes_moves_to_the_fast_lane() {
    let (_, queue) = queue();
    queue.add("x", Lane::Slow);
    queue.add("y", Lane::Slow);
    queue.add("y", Lane::Fast);
    assert_eq!((take(&queue), take(&queue), take(&queue)), (Some("y"), Some("x"), None));
}

#[test]
fn the_earliest_delay_stands() {
    let (clock, queue) = queue();
    queue.add_after("a", Duration::from_secs(9));
    queue.add_after("a", Duration::from_secs(3));
    queue.add_after("a", Duration::from_secs(6));
    assert_eq!(take(&queue), None);
    *clock.0.lock() = Duration::from_secs(3);
    assert_eq!(take(&queue), Some("a"));
    queue.done(&"a");
    *clock.0.lock() = Duration::from_secs(10);
    assert_eq!(take(&queue), None, "the later delays were the same request");
}

#[test]
fn failures_wait_longer_each_time_until_forgotten() {
    let (clock, queue) = queue();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let before = *clock.0.lock();
        queue.retry("a");
        while take(&queue).is_none() {
            *clock.0.lock() += Duration::from_millis(1);
        }
        queue.done(&"a");
        waits.push((*clock.0.lock() - before).as_millis());
    }
    assert_eq!(waits, [5, 10, 20, 40]);
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
    assert_eq!(BackOff::default().wait(40), Duration::from_secs(1000));
}

#[test]
fn closing_wakes_everyone() {
    let (_, queue) = queue();
    queue.add("a", Lane::Fast);
    queue.close();
    assert_eq!(take(&queue), None);
}
