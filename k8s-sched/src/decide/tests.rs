//! Decisions as data: nodes, a pod, the answer.

use k8s_core::api::api::core::v1::{Node, Pod};
use serde_json::{Value, from_value, json};

use super::*;

fn node(name: &str, labels: Value, spec: Value, cpu: &str) -> Node {
    from_value(json!({
        "metadata": {"name": name, "labels": labels}, "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "3"}},
    }))
    .unwrap()
}

fn pod(name: &str, spec: Value) -> PodInfo {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}}]);
    }
    let pod: Pod =
        from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec})).unwrap();
    PodInfo::new(&pod)
}

fn three() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(&node("a", json!({"zone": "1"}), json!({}), "1"));
    snapshot.set_node(&node("b", json!({"zone": "2"}), json!({"unschedulable": true}), "1"));
    let taints = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    snapshot.set_node(&node("c", json!({"zone": "2", "n": "5"}), taints, "4"));
    snapshot
}

fn outcome(snapshot: &Snapshot, pod: &PodInfo) -> String {
    match schedule_one(snapshot, pod, &Profile::default(), 0) {
        Decision::Node { name, .. } => name,
        Decision::Unschedulable { message, .. } => message,
    }
}

#[test]
fn each_filter_says_what_it_refused() {
    let tolerant = json!([{"key": "gpu", "operator": "Exists"}]);
    let in_zone = |zone: &str| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}})
    };
    let cases = [
        (json!({}), "a"),
        (json!({"nodeSelector": {"zone": "1"}}), "a"),
        (json!({"tolerations": tolerant, "nodeSelector": {"zone": "2"}}), "c"),
        (json!({"tolerations": [{"operator": "Exists"}], "affinity": in_zone("2"), "nodeSelector": {"n": "5"}}), "c"),
        (
            json!({"nodeSelector": {"zone": "3"}}),
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
             1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable.",
        ),
        (
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "9"}}}], "tolerations": tolerant}),
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "0/3 nodes are available: 3 node(s) not considered: topology spread with DoNotSchedule is not supported yet.",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(outcome(&three(), &pod("p", spec.clone())), expected, "{spec}");
    }
}

#[test]
fn placed_pods_count_until_they_leave() {
    let mut snapshot = three();
    let on = |name: &str| PodInfo { node_name: "a".into(), ..pod(name, json!({})) };
    snapshot.set_pod(&on("x"));
    snapshot.set_pod(&on("y"));
    assert!(outcome(&snapshot, &pod("p", json!({}))).contains("1 Insufficient cpu"));
    snapshot.set_pod(&PodInfo { is_finished: true, ..on("x") });
    assert_eq!(outcome(&snapshot, &pod("p", json!({}))), "a");
}

#[test]
fn host_ports_are_exclusive_per_node() {
    let mut snapshot = three();
    let claiming = |name: &str, ip: &str| {
        let ports = json!([{"containerPort": 80, "hostPort": 80, "hostIP": ip}]);
        pod(name, json!({"containers": [{"name": "c", "ports": ports}]}))
    };
    snapshot.set_pod(&PodInfo { node_name: "a".into(), ..claiming("x", "127.0.0.1") });
    assert_eq!(outcome(&snapshot, &claiming("p", "127.0.0.2")), "a");
    assert!(outcome(&snapshot, &claiming("p", "")).contains("free ports"));
}

#[test]
fn emptier_nodes_win_and_ties_follow_the_seed() {
    let mut snapshot = Snapshot::default();
    for name in ["a", "b", "c"] {
        snapshot.set_node(&node(name, json!({}), json!({}), "2"));
    }
    let chosen = |snapshot: &Snapshot, seed: u64| match schedule_one(
        snapshot,
        &pod("p", json!({})),
        &Profile::default(),
        seed,
    ) {
        Decision::Node { name, .. } => name,
        Decision::Unschedulable { message, .. } => message,
    };
    let spread: BTreeSet<String> = (0..3).map(|seed| chosen(&snapshot, seed)).collect();
    assert_eq!(spread.len(), 3);
    for busy in ["a", "c"] {
        snapshot.set_pod(&PodInfo { node_name: busy.into(), ..pod(busy, json!({})) });
    }
    assert!((0..9).all(|seed| chosen(&snapshot, seed) == "b"));
}

#[test]
fn no_nodes_is_said_plainly() {
    assert_eq!(outcome(&Snapshot::default(), &pod("p", json!({}))), "no nodes available to schedule pods");
}
