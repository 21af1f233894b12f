//! What controllers ask of a pod: is it active, ready, available; which of two would be missed less.
//!
//! Follows upstream's `podutil` and the ranking of `ActivePodsWithRanks`.

use std::{cmp::Ordering, time::Duration};

use k8s_core::{
    api::api::core::v1::{Pod, PodCondition},
    env::Timestamp,
};

/// Neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Succeeded or Failed.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The phase, empty if the node has not said one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// The Ready condition.
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// How long until a pod has been ready for `min_ready`; `None` if it is not ready, zero if it is available.
pub fn until_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    let condition = ready_condition(pod).filter(|condition| condition.status == "True")?;
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let since = condition.last_transition_time.as_ref()?.0;
    let ready_for = Duration::from_secs(now.duration_since(since).as_secs().max(0) as u64);
    Some(min_ready.saturating_sub(ready_for))
}

/// Orders pods by how little they would be missed: unassigned, pending, unready, doubled up on a node, younger first.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize)) -> Ordering {
    let assigned = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some();
    let phase_rank = |pod: &Pod| match phase(pod) {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| -> i64 {
        let annotations = pod.metadata.annotations.as_ref();
        let text = annotations.and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    assigned(a.0)
        .cmp(&assigned(b.0))
        .then_with(|| phase_rank(a.0).cmp(&phase_rank(b.0)))
        .then_with(|| is_ready(a.0).cmp(&is_ready(b.0)))
        .then_with(|| cost(a.0).cmp(&cost(b.0)))
        .then_with(|| b.1.cmp(&a.1))
        .then_with(|| created(b.0).cmp(&created(a.0)))
        .then_with(|| a.0.metadata.name.cmp(&b.0.metadata.name))
}
