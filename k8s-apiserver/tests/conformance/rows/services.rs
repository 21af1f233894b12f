//! Services, their endpoints, and the one that is the server itself.

use serde_json::{Value, json};

use super::operations::{Sample, every_verb_works, is_discovered};
use crate::api::Api;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, label: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"test-service-static": label}});
    let spec = json!({"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

pub async fn kubernetes_service(api: &Api) {
    let got = api.read(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(got["spec"]["ports"][0]["port"], 443);
    assert!(got["spec"]["clusterIP"].as_str().is_some_and(|address| address != "None" && !address.is_empty()));
}

pub async fn kubernetes_service_is_listed(api: &Api) {
    let all = api.items("/api/v1/services").await;
    let mut found = all.iter().map(|item| (&item["metadata"]["namespace"], &item["metadata"]["name"]));
    assert!(found.any(|found| found == (&json!("default"), &json!("kubernetes"))), "{all:?}");
}

pub async fn kubernetes_endpoints(api: &Api) {
    let sample = slice();
    is_discovered(api, &sample, &[]).await;
    let endpoints =
        api.wait_until("/api/v1/namespaces/default/endpoints/kubernetes", |answer| answer.code == 200).await;
    let subset = &endpoints.value["subsets"][0];
    assert_eq!(subset["addresses"], json!([{"ip": "192.0.2.1"}]));
    assert_eq!(subset["ports"][0]["port"], 6443);
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
    let slices =
        api.wait_until(path, |answer| answer.value["items"].as_array().is_some_and(|items| !items.is_empty())).await;
    let slice = &slices.value["items"][0];
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    assert_eq!((&slice["ports"][0]["port"], &slice["addressType"]), (&json!(6443), &json!("IPv4")));
}

fn slice() -> Sample {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let endpoints = json!([{"addresses": ["10.1.2.3"], "conditions": {"ready": true}}]);
    let object = json!({"kind": "EndpointSlice", "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
    Sample { api_version: "discovery.k8s.io/v1", plural: "endpointslices", namespaced: true, object }
}

pub async fn endpoint_slices(api: &Api) {
    let sample = slice();
    is_discovered(api, &sample, &[]).await;
    every_verb_works(api, &sample, ["a", "b", "c"]).await;
}

pub async fn status_lifecycle(api: &Api) {
    let mut watch = api.watch(&format!("{SERVICES}?watch=1&labelSelector=test-service-static%3Dtrue")).await;
    api.create(SERVICES, &service("s", "true")).await;
    watch.expect("ADDED", "s").await;
    let one = format!("{SERVICES}/s");
    let status = api.read(&format!("{one}/status")).await;
    assert_eq!(status["status"], json!({"loadBalancer": {}}));
    let ingress = json!([{"ip": "203.0.113.1"}]);
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"loadBalancer": {"ingress": ingress}}});
    let refused = api.patch(&format!("{one}/status"), "merge", &patch).await.failed(422, "Invalid");
    assert_eq!(
        refused["details"]["causes"][0]["field"], "status.loadBalancer.ingress",
        "only load balancers have them"
    );
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "set", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [condition("Patched")]}});
    let mut patched = api.patch(&format!("{one}/status"), "merge", &patch).await.expect(200);
    watch.expect("MODIFIED", "s").await;
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    assert_eq!(patched["status"]["conditions"], json!([condition("Patched")]));
    patched["status"]["conditions"] = json!([condition("Patched"), condition("StatusUpdate")]);
    let updated = api.put(&format!("{one}/status"), &patched).await.expect(200);
    watch.expect("MODIFIED", "s").await;
    assert_eq!(updated["status"]["conditions"][1], condition("StatusUpdate"));
    let patch = json!({"metadata": {"labels": {"test-service": "patched"}}});
    api.patch(&one, "strategic", &patch).await.expect(200);
    let event = watch.expect("MODIFIED", "s").await;
    assert_eq!(event["metadata"]["labels"]["test-service"], "patched");
    assert_eq!(event["status"]["conditions"].as_array().map(Vec::len), Some(2));
    api.delete(&one).await.expect(200);
    watch.expect("DELETED", "s").await;
}

pub async fn collection(api: &Api) {
    for (name, label) in [("a", "delete"), ("b", "delete"), ("c", "keep")] {
        api.create(SERVICES, &service(name, label)).await;
    }
    let ours = format!("{SERVICES}?labelSelector=test-service-static");
    assert_eq!(api.names(&ours).await, ["a", "b", "c"]);
    api.delete(&format!("{SERVICES}?labelSelector=test-service-static%3Ddelete")).await.expect(200);
    assert_eq!(api.names(&ours).await, ["c"]);
}
