//! How long admission takes, under upstream's names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    env::Env,
    metrics::{Histogram, Samples},
    request::Verb,
};
use parking_lot::Mutex;

/// Upstream's bounds, in seconds.
const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

/// The two things that plugins do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They change the object.
    Admit,
    /// They judge it.
    Validate,
}

/// How long each plugin took, and all of them.
pub struct Durations {
    env: Env,
    /// Invariant: plugins, operations and phases are few, so these are, too.
    kept: Mutex<BTreeMap<Series, Arc<Histogram>>>,
}

/// What is told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    /// The plugin; `None` is all of them.
    name: Option<&'static str>,
    operation: &'static str,
    rejected: bool,
    phase: Phase,
}

impl Durations {
    /// None yet.
    pub fn new(env: Env) -> Self {
        Self { env, kept: Mutex::default() }
    }

    /// When something begins, for [`Self::ended`].
    pub fn begins(&self) -> Duration {
        self.env.monotonic()
    }

    /// A plugin (`None`: all of them) has spoken.
    pub fn ended(&self, name: Option<&'static str>, phase: Phase, verb: Verb, rejected: bool, began: Duration) {
        let series = Series { name, operation: operation(verb), rejected, phase };
        let histogram = self.kept.lock().entry(series).or_insert_with(|| Arc::new(Histogram::new(BOUNDS))).clone();
        histogram.observe(self.env.monotonic().saturating_sub(began));
    }

    /// The samples in the Prometheus text format.
    pub fn samples(&self) -> String {
        let kept = self.kept.lock();
        let mut out = Samples::default();
        let name = "apiserver_admission_step_admission_duration_seconds";
        out.family(name, "histogram", "How long all plugins took to change or judge a write.");
        for (series, histogram) in kept.iter().filter(|(series, _)| series.name.is_none()) {
            out.histogram(name, &series.labels(), histogram);
        }
        let name = "apiserver_admission_controller_admission_duration_seconds";
        out.family(name, "histogram", "How long a plugin took to change or judge a write.");
        for (series, histogram) in kept.iter() {
            if let Some(plugin) = series.name {
                out.histogram(name, &[&[("name", plugin)][..], &series.labels()].concat(), histogram);
            }
        }
        out.into_text()
    }
}

impl Series {
    fn labels(&self) -> [(&'static str, &'static str); 3] {
        let phase = match self.phase {
            Phase::Admit => "admit",
            Phase::Validate => "validate",
        };
        [("operation", self.operation), ("rejected", if self.rejected { "true" } else { "false" }), ("type", phase)]
    }
}

fn operation(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CREATE",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
        Verb::Connect => "CONNECT",
        _ => "UPDATE",
    }
}
