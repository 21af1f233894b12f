//! Probes: when each is due, and what its results add up to.
//!
//! [`Prober`] is pure; carrying a probe out is [`run`]'s business. Upstream's counterpart is the kubelet's prober
//! manager, without its random first delay: probes begin `initialDelaySeconds` after the start.

#[cfg(feature = "service")]
pub mod run;

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_core::{
    api::api::core::v1::{Container, Probe},
    env::Timestamp,
};

use crate::plan::ProbeResults;

/// Defaults of the API, for probes that were not defaulted.
const PERIOD_SECONDS: i32 = 10;
const TIMEOUT_SECONDS: i32 = 1;
const FAILURES: i32 = 3;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the program has started: until then the others wait.
    Startup,
    /// Whether it should go on.
    Liveness,
    /// Whether it takes traffic.
    Readiness,
}

impl ProbeKind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The probe of this kind, if the container has one.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// A running container that may have probes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The instance.
    pub id: &'a str,
    /// Its specification.
    pub container: &'a Container,
    /// When it started.
    pub started_at: Timestamp,
    /// Whether it has passed its startup probe already (as known before the agent's own start).
    pub is_started: bool,
}

/// A probe to carry out now.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The instance.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// The probe.
    pub probe: Probe,
}

impl Due {
    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        seconds(self.probe.timeout_seconds.unwrap_or(TIMEOUT_SECONDS).max(1))
    }
}

/// The schedule and the results of all probes of one pod.
#[derive(Debug, Clone, Default)]
pub struct Prober {
    states: BTreeMap<(String, ProbeKind), State>,
}

#[derive(Debug, Clone)]
struct State {
    name: String,
    probe: Probe,
    next: Timestamp,
    in_flight: bool,
    successes: i32,
    failures: i32,
    verdict: Option<bool>,
}

impl Prober {
    /// Forgets containers that no longer run and takes up new ones.
    pub fn follow(&mut self, targets: &[Target<'_>]) {
        self.states.retain(|(id, _), _| targets.iter().any(|target| target.id == id));
        for target in targets {
            for kind in ProbeKind::ALL {
                let Some(probe) = kind.of(target.container) else { continue };
                if kind == ProbeKind::Startup && target.is_started {
                    continue;
                }
                let first = seconds(probe.initial_delay_seconds.unwrap_or(0));
                self.states.entry((target.id.to_owned(), kind)).or_insert_with(|| State {
                    name: target.container.name.clone(),
                    probe: probe.clone(),
                    next: target.started_at.checked_add(first).unwrap_or(target.started_at),
                    in_flight: false,
                    successes: 0,
                    failures: 0,
                    verdict: None,
                });
            }
        }
    }

    /// Takes the probes that are due; each stays out until its result is recorded.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Due> {
        let waiting: Vec<(String, ProbeKind)> = self.states.keys().filter(|key| self.may_run(key)).cloned().collect();
        let mut due = vec![];
        for key in waiting {
            let Some(state) = self.states.get_mut(&key).filter(|state| state.next <= now) else { continue };
            state.in_flight = true;
            let (id, kind) = key;
            due.push(Due { id, name: state.name.clone(), kind, probe: state.probe.clone() });
        }
        due
    }

    /// When the next probe is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.states.iter().filter(|(key, _)| self.may_run(key)).map(|(_, state)| state.next).min()
    }

    /// A probe runs if it is not out already, still has something to decide, and the program has started.
    fn may_run(&self, key: &(String, ProbeKind)) -> bool {
        let Some(state) = self.states.get(key).filter(|state| !state.in_flight) else { return false };
        match key.1 {
            ProbeKind::Startup => state.verdict.is_none(),
            ProbeKind::Liveness => state.verdict != Some(false) && self.has_started(&key.0),
            ProbeKind::Readiness => self.has_started(&key.0),
        }
    }

    fn has_started(&self, id: &str) -> bool {
        let startup = self.states.get(&(id.to_owned(), ProbeKind::Startup));
        startup.is_none_or(|state| state.verdict == Some(true))
    }

    /// Takes the result of a probe. Answers whether the verdict about the container changed.
    pub fn record(&mut self, id: &str, kind: ProbeKind, succeeded: bool, now: Timestamp) -> bool {
        let Some(state) = self.states.get_mut(&(id.to_owned(), kind)) else { return false };
        state.in_flight = false;
        let period = seconds(state.probe.period_seconds.unwrap_or(PERIOD_SECONDS).max(1));
        // Slots are counted from the one that ran, so that a slow probe does not shift those after it.
        while state.next <= now {
            state.next = state.next.checked_add(period).unwrap_or(Timestamp::MAX);
        }
        let before = state.verdict;
        if succeeded {
            (state.successes, state.failures) = (state.successes.saturating_add(1), 0);
            if state.successes >= state.probe.success_threshold.unwrap_or(1) {
                state.verdict = Some(true);
            }
        } else {
            (state.successes, state.failures) = (0, state.failures.saturating_add(1));
            if state.failures >= state.probe.failure_threshold.unwrap_or(FAILURES) {
                state.verdict = Some(false);
            }
        }
        before != state.verdict
    }

    /// What the probes say, by container id.
    pub fn results(&self) -> BTreeMap<String, ProbeResults> {
        let mut all: BTreeMap<String, ProbeResults> = BTreeMap::new();
        for ((id, kind), state) in &self.states {
            let results = all.entry(id.clone()).or_default();
            match kind {
                ProbeKind::Startup => results.startup = state.verdict,
                ProbeKind::Liveness => results.liveness = state.verdict,
                ProbeKind::Readiness => results.readiness = state.verdict,
            }
        }
        all
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    /// Plays probes for so many seconds; `succeeds` answers each. Says when each ran and when verdicts changed.
    fn play(container: serde_json::Value, limit: i64, succeeds: impl Fn(ProbeKind, i64) -> bool) -> String {
        let mut named = json!({"name": "c"});
        named.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let container: Container = serde_json::from_value(named).unwrap();
        let mut prober = Prober::default();
        let target = Target { id: "x", container: &container, started_at: at(0), is_started: false };
        prober.follow(&[target]);
        let mut log = String::new();
        for second in 0..=limit {
            while prober.next_wake().is_some_and(|wake| wake <= at(second)) {
                for due in prober.take_due(at(second)) {
                    let success = succeeds(due.kind, second);
                    let changed = prober.record(&due.id, due.kind, success, at(second));
                    log.push_str(&format!("{second} {} {}", due.kind, if success { "+" } else { "-" }));
                    log.push_str(if changed { " changed\n" } else { "\n" });
                }
            }
        }
        log
    }

    #[test]
    fn thresholds_and_periods_count() {
        let probe = json!({"readinessProbe": {"initialDelaySeconds": 2, "periodSeconds": 3, "successThreshold": 2,
            "failureThreshold": 2}});
        insta::assert_snapshot!(play(probe, 15, |_, second| second < 10), @r#"
    2 Readiness +
    5 Readiness + changed
    8 Readiness +
    11 Readiness -
    14 Readiness - changed
    "#);
    }

    #[test]
    fn the_others_wait_for_startup() {
        let probes = json!({"startupProbe": {"periodSeconds": 1, "failureThreshold": 10},
            "livenessProbe": {"periodSeconds": 5, "failureThreshold": 1}, "readinessProbe": {"periodSeconds": 4}});
        let log = play(probes, 12, |kind, second| {
            kind != ProbeKind::Startup && second < 8 || kind == ProbeKind::Startup && second >= 3
        });
        insta::assert_snapshot!(log, @r#"
    0 Startup -
    1 Startup -
    2 Startup -
    3 Startup + changed
    3 Liveness + changed
    3 Readiness + changed
    4 Readiness +
    5 Liveness +
    8 Readiness -
    10 Liveness - changed
    12 Readiness -
    "#);
    }

    #[test]
    fn a_startup_that_never_comes_ends_probing() {
        let probes = json!({"startupProbe": {"periodSeconds": 1, "failureThreshold": 3}, "livenessProbe": {}});
        insta::assert_snapshot!(play(probes, 60, |_, _| false), @r#"
    0 Startup -
    1 Startup -
    2 Startup - changed
    "#);
    }

    #[test]
    fn a_container_that_ended_is_forgotten() {
        let container: Container = serde_json::from_value(json!({"name": "c", "livenessProbe": {}})).unwrap();
        let mut prober = Prober::default();
        prober.follow(&[Target { id: "x", container: &container, started_at: at(0), is_started: false }]);
        assert_eq!(prober.next_wake(), Some(at(0)));
        prober.follow(&[]);
        assert_eq!((prober.next_wake(), prober.results().len()), (None, 0));
        assert!(!prober.record("x", ProbeKind::Liveness, true, at(1)), "a late result changes nothing");
    }
}
