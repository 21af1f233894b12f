//! What the service proxy counts about itself, under upstream's metric names.

use std::time::Duration;

use k8s_core::{
    env::Timestamp,
    metrics::{Histogram, Samples},
};
use parking_lot::Mutex;

/// Upstream's bounds: from 1 ms, doubling.
const BOUNDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// Counters of one proxy.
#[derive(Debug)]
pub struct ProxyMetrics {
    durations: Histogram,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    succeeded: Option<Timestamp>,
    failure: Option<String>,
    failures: u64,
}

impl Default for ProxyMetrics {
    fn default() -> Self {
        Self { durations: Histogram::new(BOUNDS), last: Mutex::default() }
    }
}

impl ProxyMetrics {
    pub(super) fn synced(&self, took: Duration, now: Timestamp) {
        self.durations.observe(took);
        let mut last = self.last.lock();
        (last.succeeded, last.failure) = (Some(now), None);
    }

    pub(super) fn failed(&self, took: Duration, why: String) {
        self.durations.observe(took);
        let mut last = self.last.lock();
        last.failure = Some(why);
        last.failures += 1;
    }

    /// Whether the rules are in force; why not.
    pub fn health(&self) -> Result<Timestamp, String> {
        let last = self.last.lock();
        match (&last.failure, last.succeeded) {
            (Some(why), _) => Err(why.clone()),
            (None, None) => Err("the first rules are not in force yet".into()),
            (None, Some(at)) => Ok(at),
        }
    }

    /// The Prometheus text.
    pub fn render(&self) -> String {
        let mut out = Samples::default();
        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        out.family(name, "histogram", "How long bringing the rules in force took.");
        out.histogram(name, &[], &self.durations);
        let last = self.last.lock();
        let (name, help) =
            ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When rules were last brought in force.");
        out.single(name, "gauge", help, last.succeeded.map_or(0, |at| at.as_second()));
        let (name, help) =
            ("kubeproxy_sync_proxy_rules_sync_failures_total", "How often rules were not brought in force.");
        out.single(name, "counter", help, last.failures);
        out.into_text()
    }
}
