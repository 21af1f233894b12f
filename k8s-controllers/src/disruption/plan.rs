//! The status of a budget, as a pure function of the budget and its pods.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::{
        api::{
            core::v1::Pod,
            policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
        },
        apimachinery::pkg::{
            apis::meta::v1::{Condition, Time},
            util::intstr::IntOrString,
        },
    },
    env::Timestamp,
};

use crate::{deployment::resolve, pod_state::is_ready};

/// How long an evicted pod may take to begin to go.
pub const DELETION_LIMIT: Duration = Duration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the status should say.
    pub status: PodDisruptionBudgetStatus,
    /// When to look again although nothing changes: an eviction is given back then.
    pub wake_after: Option<Duration>,
}

/// Whether the budget is a share of what the pods' controllers want, so that these must be asked.
pub fn counts_by_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// Plans for a budget that guards exactly `pods`. `scale` is how many pods their controllers want together; it counts
/// only where [`counts_by_scale`] says so.
pub fn plan(budget: &PodDisruptionBudget, pods: &[&Pod], scale: i32, now: Timestamp) -> Plan {
    let (disrupted, wake_after) = disrupted(budget, pods, now);
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let is_healthy =
        |pod: &&&Pod| pod.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(&name(pod)) && is_ready(pod);
    let healthy = pods.iter().filter(is_healthy).count() as i32;
    let (expected, desired) = bounds(budget, pods.len() as i32, scale);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let verdict = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, verdict, "", now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    Plan { status, wake_after }
}

/// The status of a budget that cannot be counted: nothing may be evicted.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let known = budget.status.clone().unwrap_or_default();
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, ("False", "SyncFailed"), why, now)),
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        ..known
    }
}

/// How many pods there should be, and how many of them must be healthy.
fn bounds(budget: &PodDisruptionBudget, present: i32, scale: i32) -> (i32, i32) {
    let Some(spec) = &budget.spec else { return (0, 0) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(missing), _) => (scale, (scale - resolve(missing, scale, f64::ceil)).max(0)),
        (None, Some(IntOrString::Int(number))) => (present, *number),
        (None, Some(share)) => (scale, resolve(share, scale, f64::ceil)),
        (None, None) => (0, 0),
    }
}

/// The evictions that were granted and not seen through yet, and when the first of them is given back.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let granted = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut wake: Option<Duration> = None;
    let mut kept = BTreeMap::new();
    for (name, time) in granted {
        let is_here =
            |pod: &&&Pod| pod.metadata.name.as_ref() == Some(&name) && pod.metadata.deletion_timestamp.is_none();
        let passed = Duration::try_from(now.duration_since(time.0)).unwrap_or_default();
        let left = DELETION_LIMIT.saturating_sub(passed);
        if pods.iter().any(|pod| is_here(&pod)) && !left.is_zero() {
            wake = Some(wake.map_or(left, |wake| wake.min(left)));
            kept.insert(name, time);
        }
    }
    (kept, wake)
}

fn conditions(
    budget: &PodDisruptionBudget,
    (status, reason): (&str, &str),
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let before = all.iter().position(|condition| condition.type_ == ALLOWED).map(|at| all.remove(at));
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time);
    all.push(Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: budget.metadata.generation,
    });
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn budget(spec: Value, disrupted: Value) -> PodDisruptionBudget {
        from_value(json!({"metadata": {"name": "b", "generation": 4}, "spec": spec,
            "status": {"disruptedPods": disrupted}}))
        .unwrap()
    }

    /// `r` ready, `u` not ready, `d` ready and being deleted; named `p0`, `p1` and so on.
    fn pods(marks: &str) -> Vec<Pod> {
        let pod = |(number, mark): (usize, char)| -> Pod {
            let ready = if mark == 'u' { "False" } else { "True" };
            let deleted = (mark == 'd').then_some("2026-01-01T00:00:00Z");
            from_value(json!({"metadata": {"name": format!("p{number}"), "deletionTimestamp": deleted},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        marks.chars().enumerate().map(pod).collect()
    }

    fn planned(budget: &PodDisruptionBudget, marks: &str, scale: i32) -> Plan {
        let pods = pods(marks);
        plan(budget, &pods.iter().collect::<Vec<_>>(), scale, now())
    }

    #[test]
    fn how_many_may_go() {
        // Spec, pods, scale; expected, desired, healthy, allowed.
        let cases = [
            (json!({"minAvailable": 2}), "rrr", 9, [3, 2, 3, 1]),
            (json!({"minAvailable": 2}), "rud", 9, [3, 2, 1, 0]),
            (json!({"minAvailable": "50%"}), "rrrr", 5, [5, 3, 4, 1]),
            (json!({"maxUnavailable": 1}), "rrr", 3, [3, 2, 3, 1]),
            (json!({"maxUnavailable": 1}), "rr", 3, [3, 2, 2, 0]),
            (json!({"maxUnavailable": "30%"}), "rrrr", 4, [4, 2, 4, 2]),
            (json!({"maxUnavailable": 5}), "rr", 2, [2, 0, 2, 2]),
            (json!({"minAvailable": 0}), "", 0, [0, 0, 0, 0]),
            (json!({}), "rrr", 3, [0, 0, 3, 0]),
        ];
        for (spec, marks, scale, expected) in cases {
            let status = planned(&budget(spec.clone(), json!({})), marks, scale).status;
            let counts =
                [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed];
            assert_eq!(counts.map(Option::unwrap), expected, "{spec} {marks}");
            assert_eq!(status.observed_generation, Some(4));
            let condition = &status.conditions.unwrap()[0];
            assert_eq!(condition.status == "True", expected[3] > 0, "{spec} {marks}");
        }
    }

    #[test]
    fn an_eviction_counts_until_its_pod_goes_or_its_time_is_up() {
        let evicted = json!({"p0": "2026-01-01T00:09:00Z", "p1": "2026-01-01T00:07:00Z", "p2": "2026-01-01T00:09:30Z",
            "gone": "2026-01-01T00:09:30Z"});
        let plan = planned(&budget(json!({"minAvailable": 1}), evicted), "rrd", 0);
        let kept: Vec<String> = plan.status.disrupted_pods.unwrap().into_keys().collect();
        assert_eq!(kept, ["p0"]);
        assert_eq!(plan.wake_after, Some(Duration::from_secs(60)));
        assert_eq!((plan.status.current_healthy, plan.status.disruptions_allowed), (Some(1), Some(0)));
    }

    #[test]
    fn a_budget_that_cannot_be_counted_allows_nothing() {
        let mut counted = budget(json!({"maxUnavailable": 1}), json!({}));
        counted.status = Some(planned(&counted, "rrr", 3).status);
        let status = failed(&counted, "no answer", now());
        assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(0), Some(3)));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", "no answer"));
    }

    #[test]
    fn only_shares_need_the_scale() {
        let by_scale = |spec: Value| counts_by_scale(&budget(spec, json!({})));
        assert!(by_scale(json!({"maxUnavailable": 1})) && by_scale(json!({"minAvailable": "1%"})));
        assert!(!by_scale(json!({"minAvailable": 1})) && !by_scale(json!({})));
    }
}
