//! What to write about a node, as a pure function of the node and of how long it has been silent.

use std::time::Duration;

use k8s_core::{
    api::{
        api::core::v1::{Node, NodeCondition, Taint},
        apimachinery::pkg::apis::meta::v1::Time,
    },
    env::Timestamp,
};

use super::taints;

/// How long a node may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graces {
    /// One that was ready once: upstream's `--node-monitor-grace-period`.
    pub monitor: Duration,
    /// One that never said anything: upstream's `--node-startup-grace-period`.
    pub startup: Duration,
}

impl Default for Graces {
    /// Upstream's: 50 and 60 seconds.
    fn default() -> Self {
        Self { monitor: Duration::from_secs(50), startup: Duration::from_secs(60) }
    }
}

/// The conditions that a silent node can no longer vouch for.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Whether the pods of a node may be handed over to taint eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// They may, or were already.
    Granted,
    /// Not now: other nodes were handed over a moment ago, or too much of the zone is down.
    Withheld,
    /// No node is up: the fault is more likely between the nodes and us, so what was handed over is taken back.
    Suspended,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The conditions that the status should have. Taints follow when the node shows them.
    pub conditions: Option<Vec<NodeCondition>>,
    /// The taints that the node should have.
    pub taints: Option<Vec<Taint>>,
    /// When the node will have been silent for too long.
    pub wake_after: Option<Duration>,
}

/// Plans for a node that has been silent for `silent`.
pub fn plan(node: &Node, silent: Duration, graces: Graces, eviction: Eviction, now: Timestamp) -> Plan {
    let grace = if condition(node, "Ready").is_some() { graces.monitor } else { graces.startup };
    if silent < grace {
        return Plan {
            conditions: None,
            taints: taints::wanted(node, eviction, now),
            wake_after: Some(grace - silent),
        };
    }
    match unknown(node, now) {
        Some(conditions) => Plan { conditions: Some(conditions), taints: None, wake_after: None },
        None => Plan { conditions: None, taints: taints::wanted(node, eviction, now), wake_after: None },
    }
}

/// One of the node's conditions.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// `True`, `False` or `Unknown`; empty where the condition is missing.
pub fn condition_status<'a>(node: &'a Node, kind: &str) -> &'a str {
    condition(node, kind).map_or("", |condition| &condition.status)
}

/// The conditions with what nobody knows any more turned to `Unknown`; `None` if they say so already.
fn unknown(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let before = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions = before.clone();
    for kind in CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    (conditions != before).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn node(conditions: &[(&str, &str)]) -> Node {
        let conditions: Vec<_> =
            conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status, "reason": "Own"})).collect();
        let metadata = json!({"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"});
        from_value(json!({"metadata": metadata, "status": {"conditions": conditions}})).unwrap()
    }

    fn after(node: &Node, seconds: u64) -> Plan {
        plan(node, Duration::from_secs(seconds), Graces::default(), Eviction::Granted, now())
    }

    #[test]
    fn a_node_that_speaks_is_left_alone() {
        let plan = after(&node(&[("Ready", "True"), ("DiskPressure", "False")]), 10);
        assert_eq!(plan, Plan { conditions: None, taints: None, wake_after: Some(Duration::from_secs(40)) });
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_that_it_would_say() {
        let silent = node(&[("Ready", "True"), ("DiskPressure", "True"), ("Own", "True")]);
        let plan = after(&silent, 50);
        let told: Vec<(&str, &str, &str)> = plan
            .conditions
            .iter()
            .flatten()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_deref().unwrap_or("")))
            .collect();
        let expected = [
            ("Ready", "Unknown", "NodeStatusUnknown"),
            ("DiskPressure", "Unknown", "NodeStatusUnknown"),
            ("Own", "True", "Own"),
            ("MemoryPressure", "Unknown", "NodeStatusNeverUpdated"),
            ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
        ];
        assert_eq!(told, expected);
        assert_eq!((plan.taints, plan.wake_after), (None, None), "taints follow the status");
    }

    #[test]
    fn what_is_unknown_already_is_not_written_again() {
        let all = CONDITIONS.map(|kind| (kind, "Unknown"));
        let plan = after(&node(&all), 5000);
        assert_eq!(plan.conditions, None);
        let taints: Vec<(String, String)> =
            plan.taints.into_iter().flatten().map(|taint| (taint.key, taint.effect)).collect();
        let key = "node.kubernetes.io/unreachable".to_owned();
        assert_eq!(taints, [(key.clone(), "NoSchedule".to_owned()), (key, "NoExecute".to_owned())]);
    }

    #[test]
    fn a_node_that_never_spoke_gets_longer() {
        let mute = node(&[]);
        assert_eq!(after(&mute, 55).wake_after, Some(Duration::from_secs(5)));
        assert_eq!(after(&mute, 60).conditions.map(|all| all.len()), Some(4));
    }
}
