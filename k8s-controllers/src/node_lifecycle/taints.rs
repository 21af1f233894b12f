//! Which taints a node's conditions ask for. Taints of others are never touched.

use k8s_core::{
    api::{
        api::core::v1::{Node, Taint},
        apimachinery::pkg::apis::meta::v1::Time,
    },
    env::Timestamp,
};

use super::plan::{Eviction, condition_status};

/// The node says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node says nothing any more.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
/// The effect that also drives pods away that are there already.
pub const NO_EXECUTE: &str = "NoExecute";
/// A condition, its status, and the taint that keeps new pods away while it has that.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The taints that the node should have, those of others included; `None` if it has them.
pub fn wanted(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut missing = no_schedule(node);
    missing.extend(no_execute(node, eviction));
    let mut taints = Vec::new();
    for taint in &present {
        let wanted = missing.iter().position(|(key, effect)| *key == taint.key && *effect == taint.effect);
        match wanted {
            Some(at) => drop(missing.remove(at)),
            None if is_ours(taint) => continue,
            None => {}
        }
        taints.push(taint.clone());
    }
    taints.extend(missing.into_iter().map(|(key, effect)| Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        value: None,
        time_added: Some(Time(now)),
    }));
    (taints != present).then_some(taints)
}

/// Whether the node's pods should go and are not handed over yet.
pub fn awaits_eviction(node: &Node) -> bool {
    let has = |taint: &Taint| taint.effect == NO_EXECUTE && is_ours(taint);
    evicting_key(node).is_some() && !node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(has)
}

fn no_schedule(node: &Node) -> Vec<(&'static str, &'static str)> {
    let holds = |(kind, status, _): &&(&str, &str, &str)| condition_status(node, kind) == *status;
    let mut keys: Vec<&'static str> = BY_CONDITION.iter().filter(holds).map(|(.., key)| *key).collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        keys.push(UNSCHEDULABLE);
    }
    keys.into_iter().map(|key| (key, NO_SCHEDULE)).collect()
}

fn no_execute(node: &Node, eviction: Eviction) -> Option<(&'static str, &'static str)> {
    let key = evicting_key(node).filter(|_| eviction == Eviction::Granted)?;
    Some((key, NO_EXECUTE))
}

fn evicting_key(node: &Node) -> Option<&'static str> {
    match condition_status(node, "Ready") {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(.., key)| *key == taint.key);
    match taint.effect.as_str() {
        NO_SCHEDULE => by_condition || taint.key == UNSCHEDULABLE,
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    /// Taints as `key:effect`, keys without their prefix; others' have none.
    fn node(conditions: &[(&str, &str)], unschedulable: bool, taints: &[&str]) -> Node {
        let conditions: Vec<Value> = conditions.iter().map(|(k, s)| json!({"type": k, "status": s})).collect();
        let taint = |text: &&str| {
            let (key, effect) = text.split_once(':').unwrap();
            let key = if key == "own" { key.to_owned() } else { format!("node.kubernetes.io/{key}") };
            json!({"key": key, "effect": effect})
        };
        let taints: Vec<Value> = taints.iter().map(taint).collect();
        from_value(json!({"spec": {"unschedulable": unschedulable, "taints": taints},
            "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn shown(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        let text = |taint: Taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect);
        taints.map(|taints| taints.into_iter().map(text).collect())
    }

    #[test]
    fn taints_follow_the_conditions() {
        use Eviction::{Granted, Suspended, Withheld};
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a [&'a str], Eviction, Option<&'a [&'a str]>);
        let cases: &[Case<'_>] = &[
            (&[("Ready", "True")], false, &[], Granted, None),
            (
                &[("Ready", "True")],
                false,
                &["not-ready:NoSchedule", "own:NoExecute"],
                Granted,
                Some(&["own:NoExecute"]),
            ),
            (&[("Ready", "False")], false, &[], Withheld, Some(&["not-ready:NoSchedule"])),
            (
                &[("Ready", "False")],
                false,
                &["not-ready:NoSchedule"],
                Granted,
                Some(&["not-ready:NoSchedule", "not-ready:NoExecute"]),
            ),
            (
                &[("Ready", "Unknown")],
                false,
                &["not-ready:NoSchedule", "not-ready:NoExecute"],
                Granted,
                Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]),
            ),
            (
                &[("Ready", "Unknown")],
                false,
                &["unreachable:NoSchedule", "unreachable:NoExecute"],
                Suspended,
                Some(&["unreachable:NoSchedule"]),
            ),
            (
                &[("Ready", "True"), ("MemoryPressure", "True"), ("PIDPressure", "Unknown")],
                true,
                &[],
                Granted,
                Some(&["memory-pressure:NoSchedule", "unschedulable:NoSchedule"]),
            ),
            (&[("Ready", "True")], false, &["unschedulable:NoSchedule"], Granted, Some(&[])),
        ];
        for (conditions, unschedulable, present, eviction, expected) in cases {
            let node = node(conditions, *unschedulable, present);
            let wanted = wanted(&node, *eviction, "2026-01-01T00:00:00Z".parse().unwrap());
            let expected = expected.map(|taints| taints.iter().map(|taint| (*taint).to_owned()).collect());
            assert_eq!(shown(wanted), expected, "{conditions:?} {present:?} {eviction:?}");
        }
    }

    #[test]
    fn a_node_waits_for_its_turn_until_it_carries_the_taint() {
        assert!(awaits_eviction(&node(&[("Ready", "Unknown")], false, &["unreachable:NoSchedule", "own:NoExecute"])));
        assert!(!awaits_eviction(&node(&[("Ready", "False")], false, &["unreachable:NoExecute"])));
        assert!(!awaits_eviction(&node(&[("Ready", "True")], false, &[])));
    }
}
