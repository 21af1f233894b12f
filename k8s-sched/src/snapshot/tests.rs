//! The columns stay together whatever comes and goes.

use k8s_core::api::api::core::v1::Node;
use serde_json::{from_value, json};

use super::*;

fn node(name: &str) -> Node {
    from_value(json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}}})).unwrap()
}

fn pod(name: &str, node: &str) -> PodInfo {
    let requests = Resources { milli_cpu: 100, pods: 1, ..Default::default() };
    PodInfo { key: ObjectKey::new("n", name), uid: name.into(), node_name: node.into(), requests, ..Default::default() }
}

fn used(snapshot: &Snapshot) -> BTreeMap<&str, i64> {
    snapshot.nodes().map(|node| (node.name(), node.requested().milli_cpu)).collect()
}

#[test]
fn a_node_that_goes_and_returns_finds_its_pods_again() {
    let mut snapshot = Snapshot::default();
    for name in ["a", "b", "c"] {
        snapshot.set_node(&node(name));
    }
    snapshot.set_pod(&pod("1", "a"));
    snapshot.set_pod(&pod("2", "c"));
    snapshot.remove_node("a");
    assert_eq!(used(&snapshot), BTreeMap::from([("b", 0), ("c", 100)]));
    snapshot.set_node(&node("a"));
    assert_eq!(used(&snapshot), BTreeMap::from([("a", 100), ("b", 0), ("c", 100)]));
    snapshot.remove_node("a");
    snapshot.remove_pod(&ObjectKey::new("n", "1"));
    snapshot.set_node(&node("a"));
    assert_eq!(used(&snapshot)["a"], 0);
}

#[test]
fn a_pod_may_come_before_its_node_and_move() {
    let mut snapshot = Snapshot::default();
    snapshot.set_pod(&pod("1", "a"));
    snapshot.set_node(&node("a"));
    snapshot.set_node(&node("b"));
    assert_eq!(used(&snapshot)["a"], 100);
    snapshot.set_pod(&pod("1", "b"));
    snapshot.set_pod(&pod("1", "b"));
    assert_eq!(used(&snapshot), BTreeMap::from([("a", 0), ("b", 100)]));
}
