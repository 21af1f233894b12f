//! A value that changes, and tasks that wait until it is as they want it.
//!
//! Waiters are woken in the order in which they began to wait: a simulation with a seed depends on it. (Channels that spread
//! their waiters by random numbers of their own would make every run another one.)

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// A value and who waits for it.
#[derive(Debug, Default)]
pub struct Signal<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug, Default)]
struct State<T> {
    value: T,
    waiting: BTreeMap<u64, Waker>,
    last: u64,
}

impl<T> Signal<T> {
    /// A signal that shows `value`.
    pub fn new(value: T) -> Self {
        Self { state: Mutex::new(State { value, waiting: BTreeMap::new(), last: 0 }) }
    }

    /// The value now.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.state.lock().value.clone()
    }

    /// Changes the value and wakes everyone who waits.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        let due = {
            let mut state = self.state.lock();
            change(&mut state.value);
            std::mem::take(&mut state.waiting)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Resolves once `is_right` says so of the value. It is asked now and after every change, never in between, and must
    /// not touch this signal itself. Cancel-safe.
    pub fn wait_for<F: FnMut(&T) -> bool + Unpin>(&self, is_right: F) -> WaitFor<'_, T, F> {
        WaitFor { signal: self, is_right, place: None }
    }
}

/// The future of [`Signal::wait_for`].
pub struct WaitFor<'a, T, F> {
    signal: &'a Signal<T>,
    is_right: F,
    place: Option<u64>,
}

impl<T, F: FnMut(&T) -> bool + Unpin> Future for WaitFor<'_, T, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.signal.state.lock();
        if (self.is_right)(&state.value) {
            return Poll::Ready(());
        }
        // Who waits on keeps their place in the order.
        let place = self.place.unwrap_or_else(|| {
            state.last += 1;
            state.last
        });
        state.waiting.insert(place, cx.waker().clone());
        drop(state);
        self.place = Some(place);
        Poll::Pending
    }
}

impl<T, F> Drop for WaitFor<'_, T, F> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.signal.state.lock().waiting.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use futures::FutureExt;

    use super::*;

    struct Note(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn waiters_are_woken_in_the_order_in_which_they_came() {
        let (signal, woken) = (Signal::new(0), Arc::new(Mutex::new(Vec::new())));
        let mut waits: Vec<_> = (0..4).map(|_| signal.wait_for(|value| *value == 2)).collect();
        let poll_all = |waits: &mut Vec<WaitFor<'_, i32, _>>| {
            waits.iter_mut().enumerate().rev().for_each(|(number, wait)| {
                let waker = Waker::from(Arc::new(Note(number as u32, woken.clone())));
                assert!(wait.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
            });
        };
        poll_all(&mut waits);
        signal.modify(|value| *value = 1);
        assert_eq!(std::mem::take(&mut *woken.lock()), [3, 2, 1, 0]);
        poll_all(&mut waits);
        drop(waits.remove(2));
        signal.modify(|value| *value = 2);
        assert_eq!(*woken.lock(), [3, 1, 0]);
        assert!(waits.iter_mut().all(|wait| wait.now_or_never().is_some()));
        drop(waits);
        assert!(signal.state.lock().waiting.is_empty(), "who leaves is forgotten");
    }
}
