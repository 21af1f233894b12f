//! What the scheduler counts about itself, under upstream's metric names.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_core::metrics::{Histogram, Samples};
use parking_lot::Mutex;

/// Upstream's bounds: from 1 ms, doubling.
const BOUNDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// The parts of the queue, in the order of [`PodQueue::lengths`](crate::queue::PodQueue::lengths).
const QUEUES: [&str; 4] = ["active", "backoff", "unschedulable", "gated"];

/// How an attempt to give a pod a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptResult {
    /// A node was found.
    Scheduled,
    /// No node will do.
    Unschedulable,
    /// A node was found, and the pod could not be bound to it.
    Error,
}

impl AttemptResult {
    fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// Counters of one scheduler.
#[derive(Debug, Default)]
pub struct SchedulerMetrics {
    pending: [AtomicUsize; QUEUES.len()],
    /// By profile and result. Bounded by the number of profiles.
    attempts: Mutex<BTreeMap<(String, AttemptResult), Arc<Histogram>>>,
}

impl SchedulerMetrics {
    pub(crate) fn pending(&self, lengths: [usize; QUEUES.len()]) {
        self.pending.iter().zip(lengths).for_each(|(gauge, length)| gauge.store(length, Relaxed));
    }

    pub(crate) fn attempted(&self, profile: &str, result: AttemptResult, took: Duration) {
        let mut attempts = self.attempts.lock();
        let new = || Arc::new(Histogram::new(BOUNDS));
        attempts.entry((profile.to_owned(), result)).or_insert_with(new).observe(took);
    }

    /// The Prometheus text.
    pub fn render(&self) -> String {
        let mut out = Samples::default();
        let name = "scheduler_pending_pods";
        out.family(name, "gauge", "Pods that wait for a node, by the part of the queue that they are in.");
        for (queue, length) in QUEUES.iter().zip(&self.pending) {
            out.sample(name, &[("queue", queue)], length.load(Relaxed));
        }
        let attempts = self.attempts.lock();
        let labels = |(profile, result): &(String, AttemptResult)| (profile.clone(), result.label());
        let name = "scheduler_schedule_attempts_total";
        out.family(name, "counter", "Attempts to give a pod a node, by how they ended.");
        for (key, times) in attempts.iter() {
            let (profile, result) = labels(key);
            out.sample(name, &[("profile", &profile), ("result", result)], times.count());
        }
        let name = "scheduler_scheduling_attempt_duration_seconds";
        out.family(name, "histogram", "How long the decision took.");
        for (key, times) in attempts.iter() {
            let (profile, result) = labels(key);
            out.histogram(name, &[("profile", &profile), ("result", result)], times);
        }
        out.into_text()
    }
}
