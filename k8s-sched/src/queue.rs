//! Pods that wait for a node: ready ones in order, failed ones until their back-off ends or something changes.
//!
//! Follows upstream's scheduling queue (active, back-off, unschedulable, gated). A pure value: time is passed in.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_core::object::ObjectKey;

use crate::{
    framework::{ClusterChange, QueueSort},
    pod::PodInfo,
};

/// The back-off after the first failed attempt.
pub const INITIAL_BACK_OFF: Duration = Duration::from_secs(1);
/// The longest back-off.
pub const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// A pod that nothing woke is tried again after this long, as upstream does, in case a wake-up was missed.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// A pod taken from the queue for an attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How many attempts were made before this one.
    pub attempts: u32,
    /// Where in the history of changes the attempt began.
    began: u64,
    joined: u64,
    /// Whether the attempt before this one failed for a reason that only time can mend.
    failed: bool,
}

/// The queue.
pub struct PodQueue {
    sort: Arc<dyn QueueSort>,
    active: BTreeSet<Ranked>,
    /// Every pod that is here, whichever part it is in.
    places: BTreeMap<ObjectKey, Place>,
    back_off: BTreeMap<(Duration, u64), Attempt>,
    waiting: BTreeMap<ObjectKey, Waiting>,
    gated: BTreeMap<ObjectKey, Arc<PodInfo>>,
    sequence: u64,
    /// When each kind of change last happened, by `sequence`.
    changes: BTreeMap<ClusterChange, u64>,
}

enum Place {
    Active(Ranked),
    BackOff((Duration, u64)),
    Waiting,
    Gated,
}

struct Waiting {
    attempt: Attempt,
    wakes_on: Vec<ClusterChange>,
    since: Duration,
}

#[derive(Clone)]
struct Ranked {
    sort: Arc<dyn QueueSort>,
    attempt: Attempt,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.attempt, &other.attempt);
        self.sort.compare((&a.pod, a.joined), (&b.pod, b.joined)).then_with(|| a.pod.key.cmp(&b.pod.key))
    }
}
impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Ranked {}

impl PodQueue {
    /// An empty queue in this order.
    pub fn new(sort: Arc<dyn QueueSort>) -> Self {
        Self {
            sort,
            active: BTreeSet::new(),
            places: BTreeMap::new(),
            back_off: BTreeMap::new(),
            waiting: BTreeMap::new(),
            gated: BTreeMap::new(),
            sequence: 0,
            changes: BTreeMap::new(),
        }
    }

    /// Adds a pod that needs a node, or takes note that it changed.
    pub fn set(&mut self, pod: PodInfo) {
        let pod = Arc::new(pod);
        if self.known(&pod.key).is_some_and(|known| *known == *pod) {
            return;
        }
        let attempts = match self.take(&pod.key) {
            Some(old) if old.pod.uid == pod.uid => Some((old.attempts, old.joined)),
            _ => None,
        };
        if !pod.gates.is_empty() {
            self.places.insert(pod.key.clone(), Place::Gated);
            self.gated.insert(pod.key.clone(), pod);
            return;
        }
        self.sequence += 1;
        let (attempts, joined) = attempts.unwrap_or((0, self.sequence));
        self.activate(Attempt { pod, attempts, began: 0, joined, failed: false });
    }

    /// Forgets a pod.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.take(key);
    }

    /// The next pod to try; it is no longer in the queue.
    ///
    /// Back-offs let others go first. When there are none, a pod that something woke is tried at once, as upstream does;
    /// one whose attempt failed waits its time.
    pub fn pop(&mut self, now: Duration) -> Option<Attempt> {
        self.release(now);
        let first = self.active.pop_first().map(|ranked| ranked.attempt);
        let mut attempt = first.or_else(|| self.pop_backing_off())?;
        self.places.remove(&attempt.pod.key);
        attempt.began = self.sequence;
        Some(attempt)
    }

    fn pop_backing_off(&mut self) -> Option<Attempt> {
        let place = *self.back_off.iter().find(|(_, attempt)| !attempt.failed)?.0;
        self.back_off.remove(&place)
    }

    /// When [`PodQueue::pop`] may have something that it has not now, if only time passes.
    pub fn next_ready(&self) -> Option<Duration> {
        let back_off = self.back_off.keys().next().map(|(at, _)| *at);
        let overdue = self.waiting.values().map(|waiting| waiting.since + MAX_WAIT).min();
        back_off.into_iter().chain(overdue).min()
    }

    /// Puts a pod back that did not fit; it waits until one of `wakes_on` happens.
    pub fn unschedulable(&mut self, mut attempt: Attempt, wakes_on: Vec<ClusterChange>, now: Duration) {
        attempt.attempts += 1;
        attempt.failed = false;
        let missed = wakes_on.iter().any(|change| self.changes.get(change).is_some_and(|at| *at > attempt.began));
        if missed {
            return self.delay(attempt, now);
        }
        self.places.insert(attempt.pod.key.clone(), Place::Waiting);
        self.waiting.insert(attempt.pod.key.clone(), Waiting { attempt, wakes_on, since: now });
    }

    /// Puts a pod back that found no node at all. That was no attempt: it is tried as soon as there is one.
    pub fn no_nodes(&mut self, attempt: Attempt, now: Duration) {
        if self.changes.get(&ClusterChange::NodeAdded).is_some_and(|at| *at > attempt.began) {
            return self.activate(attempt);
        }
        self.places.insert(attempt.pod.key.clone(), Place::Waiting);
        let wakes_on = vec![ClusterChange::NodeAdded];
        self.waiting.insert(attempt.pod.key.clone(), Waiting { attempt, wakes_on, since: now });
    }

    /// Puts a pod back whose attempt failed for a reason that may pass by itself.
    pub fn retry(&mut self, mut attempt: Attempt, now: Duration) {
        attempt.attempts += 1;
        attempt.failed = true;
        self.delay(attempt, now);
    }

    /// Something changed: pods that it may help are tried again after their back-off.
    pub fn wake(&mut self, change: ClusterChange, now: Duration) {
        self.sequence += 1;
        self.changes.insert(change, self.sequence);
        let woken: Vec<ObjectKey> =
            self.waiting.iter().filter(|(_, w)| w.wakes_on.contains(&change)).map(|(key, _)| key.clone()).collect();
        for key in woken {
            if let Some(waiting) = self.waiting.remove(&key) {
                self.wait_out(waiting, now);
            }
        }
    }

    /// How many pods are ready, backing off, waiting and gated.
    pub fn lengths(&self) -> [usize; 4] {
        [self.active.len(), self.back_off.len(), self.waiting.len(), self.gated.len()]
    }

    /// The back-off counts from when the pod began to wait.
    fn wait_out(&mut self, waiting: Waiting, now: Duration) {
        let ready = waiting.since + back_off(waiting.attempt.attempts);
        if ready <= now { self.activate(waiting.attempt) } else { self.back_off_until(waiting.attempt, ready) }
    }

    fn delay(&mut self, attempt: Attempt, now: Duration) {
        let ready = now + back_off(attempt.attempts);
        self.back_off_until(attempt, ready);
    }

    fn back_off_until(&mut self, attempt: Attempt, ready: Duration) {
        self.sequence += 1;
        let place = (ready, self.sequence);
        self.places.insert(attempt.pod.key.clone(), Place::BackOff(place));
        self.back_off.insert(place, attempt);
    }

    fn activate(&mut self, attempt: Attempt) {
        let ranked = Ranked { sort: self.sort.clone(), attempt };
        self.places.insert(ranked.attempt.pod.key.clone(), Place::Active(ranked.clone()));
        self.active.insert(ranked);
    }

    fn release(&mut self, now: Duration) {
        while let Some(first) = self.back_off.first_entry()
            && first.key().0 <= now
        {
            let attempt = first.remove();
            self.activate(attempt);
        }
        let overdue: Vec<ObjectKey> =
            self.waiting.iter().filter(|(_, w)| w.since + MAX_WAIT <= now).map(|(key, _)| key.clone()).collect();
        for key in overdue {
            if let Some(waiting) = self.waiting.remove(&key) {
                self.activate(waiting.attempt);
            }
        }
    }

    fn known(&self, key: &ObjectKey) -> Option<&PodInfo> {
        match self.places.get(key)? {
            Place::Active(ranked) => Some(&ranked.attempt.pod),
            Place::BackOff(place) => self.back_off.get(place).map(|attempt| &*attempt.pod),
            Place::Waiting => self.waiting.get(key).map(|waiting| &*waiting.attempt.pod),
            Place::Gated => self.gated.get(key).map(|pod| &**pod),
        }
    }

    /// Takes a pod out of whichever part it is in; a gated one has made no attempts to speak of.
    fn take(&mut self, key: &ObjectKey) -> Option<Attempt> {
        match self.places.remove(key)? {
            Place::Active(ranked) => {
                self.active.remove(&ranked);
                Some(ranked.attempt)
            }
            Place::BackOff(place) => self.back_off.remove(&place),
            Place::Waiting => self.waiting.remove(key).map(|waiting| waiting.attempt),
            Place::Gated => {
                self.gated.remove(key);
                None
            }
        }
    }
}

fn back_off(attempts: u32) -> Duration {
    if attempts == 0 {
        return Duration::ZERO;
    }
    let factor = 2u32.saturating_pow((attempts - 1).min(10));
    (INITIAL_BACK_OFF * factor).min(MAX_BACK_OFF)
}

#[cfg(test)]
mod tests;
