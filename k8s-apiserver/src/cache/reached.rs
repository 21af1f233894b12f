//! How far the cache is, and who waits for it to get further.
//!
//! Waiters are woken in the order of the revisions that they wait for, then of their coming: a simulation with a seed
//! depends on it. (Tokio's own channels spread waiters by random numbers that no environment hands out.)

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// A revision that rises.
#[derive(Default)]
pub struct Reached {
    revision: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By the revision that is waited for, then by number.
    wakers: BTreeMap<(u64, u64), Waker>,
    last: u64,
}

impl Reached {
    /// The revision.
    pub fn get(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Moves on and wakes whoever waits for no more than that.
    pub fn set(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
        let mut waiting = self.waiting.lock();
        let later = waiting.wakers.split_off(&(revision.saturating_add(1), 0));
        let due = std::mem::replace(&mut waiting.wakers, later);
        drop(waiting);
        due.into_values().for_each(Waker::wake);
    }

    /// Resolves once the revision is `wanted` or later. Cancel-safe.
    pub fn wait_for(&self, wanted: u64) -> Wait<'_> {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        Wait { reached: self, key: (wanted, waiting.last) }
    }
}

/// The future of [`Reached::wait_for`].
pub struct Wait<'a> {
    reached: &'a Reached,
    key: (u64, u64),
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.reached.waiting.lock();
        // Under the lock that `set` takes after it has moved on: no revision passes unseen.
        if self.reached.get() >= self.key.0 {
            return Poll::Ready(());
        }
        waiting.wakers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.reached.waiting.lock().wakers.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use futures::FutureExt;

    use super::*;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn waiters_are_woken_in_order_and_only_when_it_is_their_turn() {
        let (reached, woken) = (Reached::default(), Arc::new(Mutex::new(Vec::new())));
        let wanted = [5, 3, 9, 3, 4];
        let mut waits: Vec<Wait<'_>> = wanted.iter().map(|revision| reached.wait_for(*revision)).collect();
        for (number, wait) in waits.iter_mut().enumerate() {
            let waker = Waker::from(Arc::new(Note(number as u64, woken.clone())));
            assert!(wait.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(waits.remove(4));
        reached.set(5);
        assert_eq!(*woken.lock(), [1, 3, 0]);
        assert!(reached.wait_for(5).now_or_never().is_some());
        drop(waits);
        assert!(reached.waiting.lock().wakers.is_empty(), "who leaves is forgotten");
    }
}
