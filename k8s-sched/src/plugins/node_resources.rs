//! Resources: what does not fit is filtered; emptier and evenly used nodes score higher.

use crate::{
    framework::{ClusterChange, Filter, MAX_SCORE, Reject, Score},
    pod::PodInfo,
    resources::Resources,
    snapshot::{NodeView, Snapshot},
};

/// The filter: the sum of requests must fit what the node has.
pub struct Fit;

impl Filter for Fit {
    type State = ();

    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded, ClusterChange::NodeAllocatable, ClusterChange::PodRemoved, ClusterChange::PodItself]
    }

    fn prepare(&self, _: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        Ok(Some(()))
    }

    fn filter(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        match lacking(&pod.requests, node.requested(), node.allocatable()) {
            None => Ok(()),
            Some("pods") => Err(Reject::new("Too many pods")),
            Some(name) => Err(Reject::new(format!("Insufficient {name}"))),
        }
    }
}

/// The first resource that `wanted` on top of `used` exceeds.
pub fn lacking<'a>(wanted: &'a Resources, used: &Resources, have: &Resources) -> Option<&'a str> {
    let exceeds = |wanted: i64, used: i64, have: i64| wanted > 0 && wanted > have - used;
    if exceeds(1, used.pods, have.pods) {
        return Some("pods");
    }
    if exceeds(wanted.milli_cpu, used.milli_cpu, have.milli_cpu) {
        return Some("cpu");
    }
    if exceeds(wanted.memory, used.memory, have.memory) {
        return Some("memory");
    }
    if exceeds(wanted.ephemeral_storage, used.ephemeral_storage, have.ephemeral_storage) {
        return Some("ephemeral-storage");
    }
    let amount = |of: &Resources, name: &str| of.extended.get(name).copied().unwrap_or(0);
    let short = |(name, wanted): &(&'a String, &i64)| exceeds(**wanted, amount(used, name), amount(have, name));
    wanted.extended.iter().find(short).map(|(name, _)| name.as_str())
}

/// CPU and memory after the pod is there, as `(used, have)`, with upstream's defaults for pods that ask for nothing.
fn usage(pod: &PodInfo, node: NodeView<'_>) -> [(i64, i64); 2] {
    let ((used_cpu, used_memory), have) = (node.counted(), node.allocatable());
    let (cpu, memory) = pod.requests.counted();
    [(used_cpu + cpu, have.milli_cpu), (used_memory + memory, have.memory)]
}

/// The scorer that prefers emptier nodes.
pub struct LeastAllocated;

impl Score for LeastAllocated {
    type State = ();

    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn prepare(&self, _: &PodInfo, _: &Snapshot) -> Option<()> {
        Some(())
    }

    fn score(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> i64 {
        let free =
            |(used, have): (i64, i64)| if have <= 0 || used > have { 0 } else { (have - used) * MAX_SCORE / have };
        let parts = usage(pod, node).map(free);
        parts.iter().sum::<i64>() / parts.len() as i64
    }
}

/// The scorer that prefers nodes whose CPU and memory are used to the same degree.
pub struct BalancedAllocation;

impl Score for BalancedAllocation {
    type State = ();

    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare(&self, _: &PodInfo, _: &Snapshot) -> Option<()> {
        Some(())
    }

    fn score(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> i64 {
        let share = |(used, have): (i64, i64)| if have <= 0 { 1.0 } else { (used as f64 / have as f64).min(1.0) };
        let [cpu, memory] = usage(pod, node).map(share);
        // With two resources the standard deviation is half the difference.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }
}
