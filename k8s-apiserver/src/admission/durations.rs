//! How long admission takes, under upstream's names.

use std::{sync::OnceLock, time::Duration};

use k8s_core::{
    env::Env,
    metrics::{Histogram, Samples},
    request::Verb,
};

/// Upstream's bounds, in seconds.
const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// The operations, as they are labelled.
const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];
/// How many series one plugin may have: operations, phases, verdicts.
const PER_PLUGIN: usize = OPERATIONS.len() * 2 * 2;

/// The two things that plugins do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They change the object.
    Admit,
    /// They judge it.
    Validate,
}

/// How long each plugin took, and all of them.
pub struct Durations {
    env: Env,
    /// The plugins' names, in order.
    plugins: Box<[&'static str]>,
    /// The series of all plugins together, then those of each; made when there is something to count.
    kept: Box<[OnceLock<Histogram>]>,
}

/// What is told apart.
struct Series {
    /// The place of the plugin; `None` is all of them.
    plugin: Option<usize>,
    operation: &'static str,
    rejected: bool,
    phase: Phase,
}

impl Durations {
    /// None yet, for plugins of these names.
    pub fn new(env: Env, plugins: Box<[&'static str]>) -> Self {
        let kept = (0..=plugins.len()).flat_map(|_| (0..PER_PLUGIN).map(|_| OnceLock::new())).collect();
        Self { env, plugins, kept }
    }

    /// When something begins, for [`Self::ended`].
    pub fn begins(&self) -> Duration {
        self.env.monotonic()
    }

    /// The plugin at a place (`None`: all of them) has spoken.
    pub fn ended(&self, plugin: Option<usize>, phase: Phase, verb: Verb, rejected: bool, began: Duration) {
        let place = Series::place(plugin, verb, rejected, phase);
        let histogram = self.kept[place].get_or_init(|| Histogram::new(BOUNDS));
        histogram.observe(self.env.monotonic().saturating_sub(began));
    }

    /// The samples in the Prometheus text format.
    pub fn samples(&self) -> String {
        let kept = || self.kept.iter().enumerate().filter_map(|(place, kept)| Some((Series::at(place), kept.get()?)));
        let mut out = Samples::default();
        let name = "apiserver_admission_step_admission_duration_seconds";
        out.family(name, "histogram", "How long all plugins took to change or judge a write.");
        for (series, histogram) in kept().filter(|(series, _)| series.plugin.is_none()) {
            out.histogram(name, &series.labels(), histogram);
        }
        let name = "apiserver_admission_controller_admission_duration_seconds";
        out.family(name, "histogram", "How long a plugin took to change or judge a write.");
        for (series, histogram) in kept() {
            if let Some(plugin) = series.plugin {
                out.histogram(name, &[&[("name", self.plugins[plugin])][..], &series.labels()].concat(), histogram);
            }
        }
        out.into_text()
    }
}

impl Series {
    /// Where a series is kept.
    fn place(plugin: Option<usize>, verb: Verb, rejected: bool, phase: Phase) -> usize {
        let operation = match verb {
            Verb::Create => 0,
            Verb::Delete | Verb::DeleteCollection => 2,
            Verb::Connect => 3,
            _ => 1,
        };
        let of_plugin = plugin.map_or(0, |plugin| plugin + 1) * PER_PLUGIN;
        of_plugin + operation * 4 + usize::from(rejected) * 2 + usize::from(phase == Phase::Validate)
    }

    /// The series that is kept at a place.
    fn at(place: usize) -> Self {
        let within = place % PER_PLUGIN;
        Self {
            plugin: (place / PER_PLUGIN).checked_sub(1),
            operation: OPERATIONS[within / 4],
            rejected: within & 2 != 0,
            phase: if within & 1 == 0 { Phase::Admit } else { Phase::Validate },
        }
    }

    fn labels(&self) -> [(&'static str, &'static str); 3] {
        let phase = match self.phase {
            Phase::Admit => "admit",
            Phase::Validate => "validate",
        };
        [("operation", self.operation), ("rejected", if self.rejected { "true" } else { "false" }), ("type", phase)]
    }
}
