//! Whether a pod may stay on a tainted node, as a pure function.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::api::core::v1::{Pod, Taint, Toleration},
    env::Timestamp,
    toleration::tolerates,
};

/// The effect that drives pods away.
pub const NO_EXECUTE: &str = "NoExecute";

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Stays,
    /// It goes after this long, unless the taints go first.
    GoesAfter(Duration),
    /// It goes.
    Goes,
}

/// Since when each taint of a node is known; a taint is its key, value and effect.
pub type Since = BTreeMap<(String, String, String), Timestamp>;

/// Brings `since` up to date with a node's taints: what is gone is forgotten, what is new begins when its writer says,
/// or else now.
pub fn note(since: &mut Since, taints: &[Taint], now: Timestamp) {
    since.retain(|known, _| taints.iter().any(|taint| *known == key(taint)));
    for taint in taints {
        let added = taint.time_added.as_ref().map_or(now, |time| time.0);
        since.entry(key(taint)).or_insert(added);
    }
}

/// Judges a pod that is on a node with these `NoExecute` taints.
///
/// Time counts from when the taint and the pod were first together. The shortest limit decides.
pub fn verdict(pod: &Pod, taints: &[Taint], since: &Since, now: Timestamp) -> Verdict {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let arrived = arrived(pod);
    let mut left: Option<Duration> = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Verdict::Goes;
        };
        let Some(limit) = limit(toleration) else { continue };
        let start = since.get(&key(taint)).copied().into_iter().chain(arrived).max().unwrap_or(now);
        let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
        let rest = limit.saturating_sub(passed);
        left = Some(left.map_or(rest, |least| least.min(rest)));
    }
    match left {
        None => Verdict::Stays,
        Some(Duration::ZERO) => Verdict::Goes,
        Some(left) => Verdict::GoesAfter(left),
    }
}

fn key(taint: &Taint) -> (String, String, String) {
    (taint.key.clone(), taint.value.clone().unwrap_or_default(), taint.effect.clone())
}

fn limit(toleration: &Toleration) -> Option<Duration> {
    toleration.toleration_seconds.map(|seconds| Duration::from_secs(seconds.max(0) as u64))
}

/// When the pod came to its node, as far as it says.
fn arrived(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "True");
    let time = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
    time.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn taint(key: &str, added: Option<i64>) -> Taint {
        let added = added.map(|second| at(second).to_string());
        from_value(json!({"key": key, "effect": "NoExecute", "timeAdded": added})).unwrap()
    }

    fn pod(tolerations: Value, scheduled: i64) -> Pod {
        from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "tolerations": tolerations},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True",
                "lastTransitionTime": at(scheduled).to_string()}]}}))
        .unwrap()
    }

    fn judged(pod: &Pod, taints: &[Taint], now: i64) -> Verdict {
        let mut since = Since::default();
        note(&mut since, taints, at(now));
        verdict(pod, taints, &since, at(now))
    }

    #[test]
    fn tolerations_decide_how_long_a_pod_stays() {
        use Verdict::{Goes, GoesAfter, Stays};
        let limited = |seconds: i64| json!({"key": "a", "operator": "Exists", "tolerationSeconds": seconds});
        let cases = [
            (json!([]), Goes),
            (json!([{"operator": "Exists"}]), Stays),
            (json!([{"key": "b", "operator": "Exists"}]), Goes),
            (json!([limited(30)]), GoesAfter(Duration::from_secs(20))),
            (json!([limited(10)]), Goes),
            (json!([limited(-5)]), Goes),
            (json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]), Goes),
        ];
        for (tolerations, expected) in cases {
            let verdict = judged(&pod(tolerations.clone(), 0), &[taint("a", Some(90))], 100);
            assert_eq!(verdict, expected, "{tolerations}");
        }
    }

    #[test]
    fn the_shortest_limit_counts_and_every_taint_must_be_tolerated() {
        let both = pod(
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 60},
                {"key": "b", "operator": "Exists", "tolerationSeconds": 20}]),
            0,
        );
        let taints = [taint("a", Some(100)), taint("b", Some(95))];
        assert_eq!(judged(&both, &taints, 100), Verdict::GoesAfter(Duration::from_secs(15)));
        assert_eq!(judged(&both, &[taint("c", None)], 100), Verdict::Goes);
        assert_eq!(judged(&both, &[], 100), Verdict::Stays);
    }

    #[test]
    fn time_counts_from_when_pod_and_taint_met() {
        let late = pod(json!([{"operator": "Exists", "tolerationSeconds": 60}]), 500);
        assert_eq!(judged(&late, &[taint("a", Some(0))], 510), Verdict::GoesAfter(Duration::from_secs(50)));
        let early = pod(json!([{"operator": "Exists", "tolerationSeconds": 60}]), 0);
        let (taints, mut since) = ([taint("a", None)], Since::default());
        note(&mut since, &taints, at(1000));
        note(&mut since, &taints, at(1040));
        assert_eq!(verdict(&early, &taints, &since, at(1040)), Verdict::GoesAfter(Duration::from_secs(20)));
        note(&mut since, &[], at(1050));
        assert!(since.is_empty(), "a taint that comes back begins anew");
    }
}
