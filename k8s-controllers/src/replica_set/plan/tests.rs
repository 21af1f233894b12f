//! Plans as data: a set, its pods, what is to be done.

use serde_json::{Value, from_value, json};

use super::*;

fn set(replicas: i32, extra: Value) -> ReplicaSet {
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    from_value(json!({"metadata": {"name": "web", "namespace": "n", "generation": 3}, "spec": spec})).unwrap()
}

/// `name`, then letters: `r` ready, `p` pending, `f` failed, `d` being deleted, `u` unassigned.
fn pod(name: &str, marks: &str, created: u32) -> Pod {
    let has = |mark: char| marks.contains(mark);
    let phase = if has('f') {
        "Failed"
    } else if has('p') {
        "Pending"
    } else {
        "Running"
    };
    let ready = if has('r') { "True" } else { "False" };
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:01:00Z"}]}});
    if has('d') {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:02:00Z");
    }
    if has('u') {
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
    }
    from_value(pod).unwrap()
}

fn planned(set: &ReplicaSet, pods: &[Pod]) -> Plan {
    plan(set, &pods.iter().collect::<Vec<_>>(), "2026-01-01T00:01:10Z".parse().unwrap())
}

#[test]
fn as_many_as_asked_for() {
    let cases: &[(i32, &[&str], usize, &[usize])] = &[
        (0, &[], 0, &[]),
        (3, &[], 3, &[]),
        (2, &["r", "r"], 0, &[]),
        (2, &["r", "f", "rd"], 1, &[]),
        (1, &["r", "r", "p"], 0, &[2, 1]),
        (1, &["r", "", "u"], 0, &[2, 1]),
        (0, &["r", "rd"], 0, &[0]),
        (-1, &["r"], 0, &[0]),
        (9999, &[], BURST, &[]),
    ];
    for (replicas, marks, create, delete) in cases {
        let pods: Vec<Pod> =
            marks.iter().enumerate().map(|(i, marks)| pod(&format!("p{i}"), marks, i as u32)).collect();
        let plan = planned(&set(*replicas, json!({})), &pods);
        assert_eq!((plan.create, plan.delete.as_slice()), (*create, *delete), "{replicas} {marks:?}");
    }
}

#[test]
fn the_status_counts_what_is_there() {
    let pods = [pod("a", "r", 1), pod("b", "", 2), pod("c", "f", 3), pod("d", "rd", 4)];
    let status = planned(&set(3, json!({})), &pods).status;
    let counts = (status.replicas, status.ready_replicas, status.available_replicas, status.terminating_replicas);
    assert_eq!(counts, (2, Some(1), Some(1), Some(1)));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn a_pod_becomes_available_only_after_its_time() {
    let pods = [pod("a", "r", 1)];
    let early = planned(&set(1, json!({"minReadySeconds": 30})), &pods);
    assert_eq!((early.status.available_replicas, early.wake_after), (Some(0), Some(Duration::from_secs(20))));
    let late = planned(&set(1, json!({"minReadySeconds": 10})), &pods);
    assert_eq!((late.status.available_replicas, late.wake_after), (Some(1), None));
}

#[test]
fn a_set_that_is_being_deleted_does_nothing() {
    let mut doomed = set(3, json!({}));
    doomed.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let plan = planned(&doomed, &[pod("a", "r", 1)]);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
}
