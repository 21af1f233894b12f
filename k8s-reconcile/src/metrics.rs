//! What controllers and their queues count about themselves, under upstream's metric names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_core::metrics::{Histogram, Samples};

/// The bounds of client-go's work queues, in seconds.
const QUEUE_BOUNDS: &[f64] = &[1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// Counters of one controller. Reading them costs nothing to the controller.
#[derive(Debug, Default)]
pub struct ControllerMetrics {
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    queue: Arc<QueueMetrics>,
}

/// What one work queue counts.
#[derive(Debug)]
pub struct QueueMetrics {
    depth: AtomicU64,
    adds: AtomicU64,
    retries: AtomicU64,
    waits: Histogram,
    works: Histogram,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        let none = || AtomicU64::new(0);
        let [waits, works] = [(); 2].map(|()| Histogram::new(QUEUE_BOUNDS));
        Self { depth: none(), adds: none(), retries: none(), waits, works }
    }
}

impl QueueMetrics {
    pub(crate) fn deep(&self, keys: usize) {
        self.depth.store(keys as u64, Relaxed);
    }

    pub(crate) fn added(&self) {
        self.adds.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn waited(&self, wait: Duration) {
        self.waits.observe(wait);
    }

    pub(crate) fn worked(&self, work: Duration) {
        self.works.observe(work);
    }
}

impl ControllerMetrics {
    /// Counters at zero, beside those of a queue.
    pub fn new(queue: Arc<QueueMetrics>) -> Self {
        Self { queue, ..Self::default() }
    }

    pub(crate) fn succeeded(&self) {
        self.succeeded.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panicked.fetch_add(1, Relaxed);
    }

    /// Reconciliations that ended well, failed, and panicked.
    pub fn totals(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        (read(&self.succeeded), read(&self.failed), read(&self.panicked))
    }
}

/// The Prometheus text of several controllers, by name: `workqueue_*` as client-go names them, and
/// `controller_runtime_reconcile_total` as controller-runtime does.
pub fn render(controllers: &[(&str, &ControllerMetrics)]) -> String {
    let mut out = Samples::default();
    let name = "controller_runtime_reconcile_total";
    out.family(name, "counter", "Reconciliations by controller and how they ended.");
    for (controller, metrics) in controllers {
        let (succeeded, failed, panicked) = metrics.totals();
        for (result, count) in [("success", succeeded), ("error", failed), ("panic", panicked)] {
            out.sample(name, &[("controller", controller), ("result", result)], count);
        }
    }
    type Read = fn(&QueueMetrics) -> &AtomicU64;
    let figures: [(&str, &str, &str, Read); 3] = [
        ("workqueue_depth", "gauge", "Keys that wait for a worker.", |queue| &queue.depth),
        ("workqueue_adds_total", "counter", "Keys that were added.", |queue| &queue.adds),
        ("workqueue_retries_total", "counter", "Keys that were added again after a failure.", |queue| &queue.retries),
    ];
    for (name, form, help, read) in figures {
        out.family(name, form, help);
        for (controller, metrics) in controllers {
            out.sample(name, &[("name", controller)], read(&metrics.queue).load(Relaxed));
        }
    }
    type Times = fn(&QueueMetrics) -> &Histogram;
    let histograms: [(&str, &str, Times); 2] = [
        ("workqueue_queue_duration_seconds", "How long keys wait for a worker.", |queue| &queue.waits),
        ("workqueue_work_duration_seconds", "How long the work on a key takes.", |queue| &queue.works),
    ];
    for (name, help, read) in histograms {
        out.family(name, "histogram", help);
        for (controller, metrics) in controllers {
            out.histogram(name, &[("name", controller)], read(&metrics.queue));
        }
    }
    out.into_text()
}
