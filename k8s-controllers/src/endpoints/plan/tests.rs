//! Endpoints as data: a service, its pods, what is written.

use serde_json::{Value, from_value, json};

use super::*;

fn service(extra: Value) -> Service {
    let mut spec = json!({"selector": {"app": "web"}, "clusterIP": "10.0.0.1",
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    from_value(json!({"metadata": {"name": "web", "namespace": "n", "labels": {"team": "a"}}, "spec": spec})).unwrap()
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

fn planned(service: &Service, pods: &[Pod], present: Option<&Endpoints>) -> Option<Endpoints> {
    plan(service, &pods.iter().collect::<Vec<_>>(), present)
}

/// `ready | unready : port` of each subset.
fn shown(endpoints: &Endpoints) -> Vec<String> {
    let ips = |list: &Option<Vec<EndpointAddress>>| {
        list.iter().flatten().map(|address| address.ip.as_str()).collect::<Vec<_>>().join(",")
    };
    let ports = |subset: &EndpointSubset| {
        subset.ports.iter().flatten().map(|port| port.port.to_string()).collect::<Vec<_>>().join(",")
    };
    let subset = |s: &EndpointSubset| format!("{} | {} : {}", ips(&s.addresses), ips(&s.not_ready_addresses), ports(s));
    endpoints.subsets.iter().flatten().map(subset).collect()
}

#[test]
fn pods_are_grouped_by_their_ports_and_told_by_readiness() {
    let pods = [pod(2, 8080, true), pod(0, 8080, true), pod(1, 8080, false), pod(3, 9090, true)];
    let endpoints = planned(&service(json!({})), &pods, None).unwrap();
    assert_eq!(shown(&endpoints), ["10.1.0.1,10.1.0.3 | 10.1.0.2 : 8080", "10.1.0.4 |  : 9090"]);
    let labels = endpoints.metadata.labels.clone().unwrap();
    assert_eq!(labels[MANAGED_BY], MANAGER);
    assert_eq!(labels["team"], "a");
    assert!(!labels.contains_key(HEADLESS));
    let address = &endpoints.subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap()[0];
    assert_eq!((address.node_name.as_deref(), address.hostname.as_deref()), (Some("n1"), None));
    assert_eq!(address.target_ref.as_ref().unwrap().uid.as_deref(), Some("u0"));
    assert_eq!(planned(&service(json!({})), &pods, Some(&endpoints)), None, "what is right is not written");
}

#[test]
fn who_is_in_and_who_is_out() {
    let ready = pod(0, 80, true);
    let mut leaving = pod(1, 80, true);
    leaving.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let mut ended = pod(2, 80, true);
    ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut portless = pod(3, 80, true);
    portless.spec.as_mut().unwrap().containers[0].ports = None;
    let mut homeless = pod(4, 80, true);
    homeless.status.as_mut().unwrap().pod_ip = None;
    let pods = [ready, leaving, ended, portless, homeless, pod(5, 80, false)];
    let of = |extra: Value| planned(&service(extra), &pods, None).map(|endpoints| shown(&endpoints));
    assert_eq!(of(json!({})).unwrap(), ["10.1.0.1 | 10.1.0.6 : 80"]);
    let eager = of(json!({"publishNotReadyAddresses": true})).unwrap();
    assert_eq!(eager, ["10.1.0.1,10.1.0.2,10.1.0.6 |  : 80"]);
    let headless = of(json!({"clusterIP": "None", "ports": []})).unwrap();
    assert_eq!(headless, ["10.1.0.1,10.1.0.4 | 10.1.0.6 : "]);
    assert_eq!(of(json!({"selector": {}})), None, "endpoints without a selector are somebody else's");
    assert_eq!(of(json!({"type": "ExternalName"})), None);
    assert_eq!(of(json!({"selector": {"app": "web"}, "ipFamilies": ["IPv6"]})).unwrap(), Vec::<String>::new());
}

#[test]
fn a_headless_service_says_so_and_names_its_pods() {
    let mut named = pod(0, 80, true);
    named.spec.as_mut().unwrap().hostname = Some("first".into());
    named.spec.as_mut().unwrap().subdomain = Some("web".into());
    let endpoints = planned(&service(json!({"clusterIP": "None"})), &[named], None).unwrap();
    assert_eq!(endpoints.metadata.labels.unwrap()[HEADLESS], "");
    assert_eq!(endpoints.subsets.unwrap()[0].addresses.as_ref().unwrap()[0].hostname.as_deref(), Some("first"));
}

#[test]
fn what_is_too_much_is_left_out_and_said() {
    let counts = |endpoints: &Endpoints| -> Vec<(usize, usize)> {
        let len = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
        endpoints.subsets.iter().flatten().map(|s| (len(&s.addresses), len(&s.not_ready_addresses))).collect()
    };
    let said =
        |endpoints: &Endpoints| endpoints.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY)).cloned();
    let plain = service(json!({}));
    let mut pods: Vec<Pod> = (0..1200).map(|number| pod(number, 80, number < 900)).collect();
    let most = planned(&plain, &pods, None).unwrap();
    assert_eq!((counts(&most), said(&most).as_deref()), (vec![(900, 100)], Some("truncated")));
    pods.iter_mut()
        .take(300)
        .for_each(|p| p.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 81);
    pods.iter_mut().for_each(|p| p.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "True".into());
    let ready = planned(&plain, &pods, None).unwrap();
    assert_eq!(counts(&ready), [(750, 0), (250, 0)]);
    assert_eq!(planned(&plain, &pods, Some(&ready)), None);
    let few = planned(&plain, &pods[..2], Some(&ready)).unwrap();
    assert_eq!(said(&few), None);
}
