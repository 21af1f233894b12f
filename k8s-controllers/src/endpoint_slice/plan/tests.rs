//! Slices as data: a service, its pods, what is written.

use serde_json::{Value, from_value, json};

use super::*;

fn service(extra: Value) -> Service {
    let mut spec = json!({"selector": {"app": "web"}, "clusterIP": "10.0.0.1",
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).unwrap()
}

fn pod(number: usize, port: i32, ready: bool) -> Pod {
    let status = if ready { "True" } else { "False" };
    from_value(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number}")},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", number / 250, number % 250 + 1),
            "conditions": [{"type": "Ready", "status": status}]}}))
    .unwrap()
}

fn planned(service: &Service, pods: &[Pod], present: &[EndpointSlice]) -> Plan {
    let pods: Vec<&Pod> = pods.iter().collect();
    plan(service, &pods, |_| None, &present.iter().collect::<Vec<_>>())
}

/// Does what a plan says, as the server would.
fn apply(plan: Plan, present: &[EndpointSlice]) -> Vec<EndpointSlice> {
    let mut slices: Vec<EndpointSlice> = present.to_vec();
    for (index, slice) in plan.update {
        slices[index] = slice;
    }
    let kept = slices.into_iter().enumerate().filter(|(index, _)| !plan.delete.contains(index)).map(|(_, slice)| slice);
    let mut slices: Vec<EndpointSlice> = kept.collect();
    for mut slice in plan.create {
        slice.metadata.name = Some(format!("web-{}", slices.len()));
        slices.push(slice);
    }
    slices
}

fn addresses(slices: &[EndpointSlice]) -> BTreeSet<String> {
    slices.iter().flat_map(|slice| slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone())).collect()
}

#[test]
fn named_ports_are_resolved_and_readiness_is_told() {
    let slices = apply(planned(&service(json!({})), &[pod(0, 8080, true), pod(1, 8080, false)], &[]), &[]);
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
    let ready: Vec<_> =
        slices[0].endpoints.iter().flatten().map(|e| e.conditions.as_ref().unwrap().ready.unwrap()).collect();
    assert_eq!(ready, [true, false]);
}

#[test]
fn pods_that_resolve_a_port_differently_are_in_different_slices() {
    let slices = apply(planned(&service(json!({})), &[pod(0, 8080, true), pod(1, 9090, true)], &[]), &[]);
    let ports: BTreeSet<_> = slices.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port.unwrap()).collect();
    assert_eq!(ports, BTreeSet::from([8080, 9090]));
}

#[test]
fn what_is_right_is_not_written_again() {
    let pods: Vec<Pod> = (0..250).map(|n| pod(n, 80, true)).collect();
    let slices = apply(planned(&service(json!({})), &pods, &[]), &[]);
    assert_eq!(slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(planned(&service(json!({})), &pods, &slices), Plan::default());
    let without_one: Vec<Pod> = pods[1..].to_vec();
    let plan = planned(&service(json!({})), &without_one, &slices);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
}

#[test]
fn any_history_ends_in_exactly_the_present_pods() {
    let mut slices: Vec<EndpointSlice> = Vec::new();
    let mut seed = 7u64;
    for _ in 0..300 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let count = (seed >> 33) as usize % 260;
        let shift = (seed >> 50) as usize % 100;
        let pods: Vec<Pod> = (shift..shift + count).map(|n| pod(n, 80 + (n % 3 == 0) as i32, true)).collect();
        slices = apply(planned(&service(json!({})), &pods, &slices), &slices);
        let expected: BTreeSet<String> =
            pods.iter().map(|pod| pod.status.as_ref().unwrap().pod_ip.clone().unwrap()).collect();
        assert_eq!(addresses(&slices), expected);
        assert_eq!(
            slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).sum::<usize>(),
            expected.len(),
            "no address twice"
        );
        assert!(slices.iter().all(|slice| slice.endpoints.as_ref().unwrap().len() <= MAX_ENDPOINTS));
        assert!(!slices.is_empty());
    }
}

#[test]
fn a_pod_that_leaves_serves_until_it_is_unready() {
    let mut leaving = pod(0, 80, true);
    leaving.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let slices = apply(planned(&service(json!({})), std::slice::from_ref(&leaving), &[]), &[]);
    let conditions = slices[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
    assert_eq!((conditions.ready, conditions.serving, conditions.terminating), (Some(false), Some(true), Some(true)));
}

#[test]
fn services_without_a_selector_and_external_names_are_left_alone() {
    for extra in [json!({"selector": {}}), json!({"type": "ExternalName", "externalName": "example.com"})] {
        assert_eq!(planned(&service(extra), &[pod(0, 80, true)], &[]), Plan::default());
    }
}
