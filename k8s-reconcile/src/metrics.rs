//! What a controller counts about itself, under upstream's metric names.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one controller. Reading them costs nothing to the controller.
#[derive(Debug, Default)]
pub struct ControllerMetrics {
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
}

impl ControllerMetrics {
    pub(crate) fn succeeded(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panicked.fetch_add(1, Ordering::Relaxed);
    }

    /// Reconciliations that ended well, failed, and panicked.
    pub fn totals(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.succeeded), read(&self.failed), read(&self.panicked))
    }

    /// The Prometheus text, with `controller_runtime_reconcile_total` as controller-runtime names it.
    pub fn render(&self, controller: &str) -> String {
        let (succeeded, failed, panicked) = self.totals();
        let name = "controller_runtime_reconcile_total";
        [("success", succeeded), ("error", failed), ("panic", panicked)]
            .map(|(result, count)| format!("{name}{{controller=\"{controller}\",result=\"{result}\"}} {count}\n"))
            .concat()
    }
}
