//! The work queue: each key at most once, never in two workers at a time, delayed, backed off, in two lanes.
//!
//! Follows client-go's `workqueue` (dirty and processing sets) with a second lane for background work (initial
//! lists, periodic checks), so that a change a person just made never waits behind ten thousand of those. All time
//! comes from the environment.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::{Either, select};
use k8s_core::env::Env;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::QueueMetrics;

/// After this many keys of the fast lane, one of the slow lane is taken, so that neither starves.
pub const FAST_RUN: u32 = 8;

/// Which lane a key waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody changed something.
    Fast,
    /// Nobody waits for it.
    Slow,
}

/// How failures of one key are spaced: `base * 2^failures`, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The wait after the first failure.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for BackOff {
    /// 5 ms doubling to 1000 s, as client-go's rate limiter.
    fn default() -> Self {
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl BackOff {
    /// The wait after `failures` failures in a row.
    pub fn wait(&self, failures: u32) -> Duration {
        let factor = 2u32.saturating_pow(failures.min(30));
        self.base.checked_mul(factor).map_or(self.max, |wait| wait.min(self.max))
    }
}

/// A queue of keys. Share it by reference count.
pub struct WorkQueue<K> {
    env: Env,
    back_off: BackOff,
    state: Mutex<State<K>>,
    changed: Notify,
    metrics: Arc<QueueMetrics>,
}

struct State<K> {
    /// Keys that need work, since when; a key in work may be here too and is then queued again when done.
    dirty: BTreeMap<K, (Lane, Duration)>,
    /// Keys in work, since when.
    processing: BTreeMap<K, Duration>,
    fast: VecDeque<K>,
    slow: VecDeque<K>,
    fast_run: u32,
    /// Invariant: `waiting` and `due` hold the same keys; a key waits for its earliest time only.
    waiting: BTreeMap<K, (Duration, u64)>,
    due: BTreeMap<(Duration, u64), K>,
    sequence: u64,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// An empty queue.
    pub fn new(env: Env, back_off: BackOff) -> Self {
        let state = State {
            dirty: BTreeMap::new(),
            processing: BTreeMap::new(),
            fast: VecDeque::new(),
            slow: VecDeque::new(),
            fast_run: 0,
            waiting: BTreeMap::new(),
            due: BTreeMap::new(),
            sequence: 0,
            failures: BTreeMap::new(),
            closed: false,
        };
        Self { env, back_off, state: Mutex::new(state), changed: Notify::new(), metrics: Arc::default() }
    }

    /// Asks for work on a key now. Asking twice before a worker takes it is asking once.
    pub fn add(&self, key: K, lane: Lane) {
        let now = self.env.monotonic();
        let mut state = self.state.lock();
        let is_new = state.add(key, lane, now, &self.metrics);
        self.metrics.deep(state.depth());
        drop(state);
        if is_new {
            self.changed.notify_one();
        }
    }

    /// What the queue counts.
    pub fn metrics(&self) -> &Arc<QueueMetrics> {
        &self.metrics
    }

    /// Asks for work on a key after a while; an earlier request stands.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key, Lane::Fast);
        }
        let at = self.env.monotonic() + wait;
        if self.state.lock().add_at(key, at) {
            self.changed.notify_one();
        }
    }

    /// Asks for work again after a failure, later each time.
    pub fn retry(&self, key: K) {
        self.metrics.retried();
        let failures = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count += 1;
            *count - 1
        };
        let jitter = self.env.jitter(self.back_off.wait(failures), 0.1);
        self.add_after(key, jitter);
    }

    /// Ends a row of failures.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often a key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Waits for the next key; `None` once closed. Call [`WorkQueue::done`] with it afterwards. Cancel-safe.
    pub async fn next(&self) -> Option<K> {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let now = self.env.monotonic();
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                state.release_due(now, &self.metrics);
                let taken = state.take(now, &self.metrics);
                self.metrics.deep(state.depth());
                if let Some(key) = taken {
                    if state.has_more() {
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                state.due.first_key_value().map(|((at, _), _)| at.saturating_sub(now))
            };
            match wake {
                None => changed.await,
                Some(wait) => {
                    futures::pin_mut!(changed);
                    match select(changed, self.env.sleep(wait)).await {
                        Either::Left(_) | Either::Right(_) => {}
                    }
                }
            }
        }
    }

    /// Ends the work on a key. If it was added meanwhile, it is queued again.
    pub fn done(&self, key: &K) {
        let now = self.env.monotonic();
        let mut state = self.state.lock();
        let is_again = state.done(key, now, &self.metrics);
        self.metrics.deep(state.depth());
        drop(state);
        if is_again {
            self.changed.notify_one();
        }
    }

    /// How many keys wait for a worker now.
    pub fn len(&self) -> usize {
        self.state.lock().depth()
    }

    /// Whether nothing waits, nothing is in work, and nothing is due within `horizon`.
    pub fn is_idle(&self, horizon: Duration) -> bool {
        let state = self.state.lock();
        let soon = self.env.monotonic() + horizon;
        let due = state.due.first_key_value().is_some_and(|((at, _), _)| *at <= soon);
        state.fast.is_empty() && state.slow.is_empty() && state.processing.is_empty() && !due
    }

    /// Whether nothing waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes every worker with `None`.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

impl<K: Ord + Clone> State<K> {
    fn depth(&self) -> usize {
        self.fast.len() + self.slow.len()
    }

    fn add(&mut self, key: K, lane: Lane, now: Duration, metrics: &QueueMetrics) -> bool {
        match self.dirty.get_mut(&key) {
            Some((known, _)) if *known <= lane => return false,
            Some((known, _)) => {
                *known = lane;
                self.slow.retain(|waiting| *waiting != key);
            }
            None => {
                metrics.added();
                self.dirty.insert(key.clone(), (lane, now));
            }
        }
        if self.processing.contains_key(&key) {
            return false;
        }
        self.enqueue(key, lane);
        true
    }

    fn enqueue(&mut self, key: K, lane: Lane) {
        match lane {
            Lane::Fast => self.fast.push_back(key),
            Lane::Slow => self.slow.push_back(key),
        }
    }

    fn add_at(&mut self, key: K, at: Duration) -> bool {
        if let Some(known) = self.waiting.get(&key) {
            if known.0 <= at {
                return false;
            }
            let known = *known;
            self.due.remove(&known);
        }
        self.sequence += 1;
        self.waiting.insert(key.clone(), (at, self.sequence));
        self.due.insert((at, self.sequence), key);
        true
    }

    fn release_due(&mut self, now: Duration, metrics: &QueueMetrics) {
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            self.waiting.remove(&key);
            self.add(key, Lane::Fast, now, metrics);
        }
    }

    fn take(&mut self, now: Duration, metrics: &QueueMetrics) -> Option<K> {
        let prefer_slow = self.fast_run >= FAST_RUN && !self.slow.is_empty();
        let key = if prefer_slow || self.fast.is_empty() {
            self.fast_run = 0;
            self.slow.pop_front()?
        } else {
            self.fast_run += 1;
            self.fast.pop_front()?
        };
        if let Some((_, since)) = self.dirty.remove(&key) {
            metrics.waited(now.saturating_sub(since));
        }
        self.processing.insert(key.clone(), now);
        Some(key)
    }

    fn has_more(&self) -> bool {
        !self.fast.is_empty() || !self.slow.is_empty()
    }

    fn done(&mut self, key: &K, now: Duration, metrics: &QueueMetrics) -> bool {
        if let Some(since) = self.processing.remove(key) {
            metrics.worked(now.saturating_sub(since));
        }
        let Some((lane, _)) = self.dirty.get(key).copied() else { return false };
        self.enqueue(key.clone(), lane);
        true
    }
}

#[cfg(test)]
mod tests;
