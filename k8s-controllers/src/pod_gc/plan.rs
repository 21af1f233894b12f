//! Which pods go, as pure functions.

use std::time::Duration;

use k8s_core::{
    api::api::core::v1::{Node, Taint},
    env::Timestamp,
};

use crate::node_lifecycle::plan::condition_status;

/// How many finished pods may stay: upstream's `--terminated-pod-gc-threshold`.
pub const FINISHED_LIMIT: usize = 12_500;
/// How long a node must be missing before its pods are taken for orphans.
pub const QUARANTINE: Duration = Duration::from_secs(40);
/// The taint by which an operator says that a machine is off for good.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A finished pod, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Whether its node evicted it: such pods go first.
    pub evicted: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// Which of the finished pods are too many, by index: evicted ones first, then the oldest.
pub fn surplus(finished: &[Finished], limit: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..finished.len()).collect();
    order.sort_by_key(|index| (!finished[*index].evicted, finished[*index].created, *index));
    order.truncate(finished.len().saturating_sub(limit));
    order
}

/// Whether pods on their way out of this node will never be seen off by it.
pub fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let marks = |taint: &Taint| taint.key == OUT_OF_SERVICE;
    condition_status(node, "Ready") != "True" && taints.iter().any(marks)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn evicted_pods_go_first_and_then_the_oldest() {
        let pod = |evicted, second| Finished { evicted, created: Timestamp::from_second(second).ok() };
        let finished = [pod(false, 30), pod(false, 10), pod(true, 50), pod(false, 20), pod(true, 40)];
        assert_eq!(surplus(&finished, 1), [4, 2, 1, 3]);
        assert_eq!(surplus(&finished, 4), [4]);
        assert!(surplus(&finished, 5).is_empty());
        assert!(surplus(&[], 0).is_empty());
    }

    #[test]
    fn a_node_is_out_of_service_when_marked_and_down() {
        let node = |ready: &str, key: &str| -> Node {
            from_value(json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        assert!(is_out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("True", OUT_OF_SERVICE)), "a node that is up sees its pods off itself");
        assert!(!is_out_of_service(&node("Unknown", "other")));
    }
}
