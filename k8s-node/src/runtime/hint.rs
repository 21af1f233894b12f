//! "Look again": merged, edge-triggered notifications, without a queue that could overflow.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use futures::Stream;
use parking_lot::Mutex;

/// Something about this sandbox changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The sandbox to look at again.
    pub sandbox: String,
}

/// The sending side, held by a runtime.
///
/// Bound: each listener holds at most one pending entry per sandbox.
#[derive(Default)]
pub struct Hints {
    listeners: Mutex<Vec<Weak<Mutex<Pending>>>>,
}

/// The receiving side. Never ends while its runtime lives.
pub struct HintStream {
    pending: Arc<Mutex<Pending>>,
}

#[derive(Default)]
struct Pending {
    sandboxes: BTreeSet<String>,
    waker: Option<Waker>,
    closed: bool,
}

impl Hints {
    /// A stream of the hints sent from now on.
    pub fn listen(&self) -> HintStream {
        let pending = Arc::<Mutex<Pending>>::default();
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&pending));
        HintStream { pending }
    }

    /// Tells every listener. Call it after the change can be observed.
    pub fn send(&self, sandbox: &str) {
        self.each(|pending| {
            pending.sandboxes.insert(sandbox.to_owned());
        });
    }

    fn each(&self, change: impl Fn(&mut Pending)) {
        for listener in self.listeners.lock().iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut pending = listener.lock();
                change(&mut pending);
                pending.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.each(|pending| pending.closed = true);
    }
}

impl Stream for HintStream {
    type Item = Hint;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Hint>> {
        let mut pending = self.pending.lock();
        match pending.sandboxes.pop_first() {
            Some(sandbox) => Poll::Ready(Some(Hint { sandbox })),
            None if pending.closed => Poll::Ready(None),
            None => {
                pending.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};

    #[test]
    fn hints_merge_per_sandbox_and_reach_every_listener() {
        let hints = Hints::default();
        let (mut first, mut second) = (hints.listen(), hints.listen());
        hints.send("b");
        hints.send("a");
        hints.send("a");
        for stream in [&mut first, &mut second] {
            let mut next = || stream.next().now_or_never().map(|hint| hint.map(|hint| hint.sandbox));
            assert_eq!(next(), Some(Some("a".into())));
            assert_eq!(next(), Some(Some("b".into())));
            assert_eq!(next(), None);
        }
        drop(hints);
        assert_eq!(first.next().now_or_never(), Some(None));
    }
}
