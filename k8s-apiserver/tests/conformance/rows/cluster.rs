//! Namespaces, Events, limits, priorities, and what pods may ask for.

use serde_json::{Value, json};

use super::needs_service_account;
use crate::api::{Api, name};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn namespace(api: &Api, name: &str) -> Value {
    api.create("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .await
}

pub async fn namespace_patch(api: &Api) {
    namespace(api, "n").await;
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    api.patch("/api/v1/namespaces/n", "strategic", &patch).await.expect(200);
    assert_eq!(api.read("/api/v1/namespaces/n").await["metadata"]["labels"]["testLabel"], "testValue");
}

pub async fn namespace_update(api: &Api) {
    let mut made = namespace(api, "n").await;
    made["metadata"]["labels"]["n"] = "updated".into();
    let updated = api.put("/api/v1/namespaces/n", &made).await.expect(200);
    assert_eq!(updated["metadata"]["labels"]["n"], "updated");
    assert_eq!(api.read("/api/v1/namespaces/n").await["metadata"]["labels"]["n"], "updated");
}

pub async fn namespace_status(api: &Api) {
    namespace(api, "n").await;
    let status = api.read("/api/v1/namespaces/n/status").await;
    assert_eq!(status["status"]["phase"], "Active");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "set", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch =
        json!({"metadata": {"annotations": {"patched": "true"}}, "status": {"conditions": [condition("StatusPatch")]}});
    let patched = api.patch("/api/v1/namespaces/n/status", "merge", &patch).await.expect(200);
    assert_eq!(patched["status"]["conditions"], json!([condition("StatusPatch")]));
    let mut update = patched;
    update["status"]["conditions"] = json!([condition("StatusPatch"), condition("StatusUpdate")]);
    let updated = api.put("/api/v1/namespaces/n/status", &update).await.expect(200);
    assert_eq!(updated["status"]["conditions"][1], condition("StatusUpdate"));
    let got = api.read("/api/v1/namespaces/n").await;
    assert_eq!(
        (&got["status"]["phase"], &got["status"]["conditions"][0]),
        (&json!("Active"), &condition("StatusPatch"))
    );
}

pub async fn namespace_finalizer(api: &Api) {
    const FAKE: &str = "e2e.example.com/fakeFinalizer";
    let mut made = namespace(api, "n").await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    made["spec"]["finalizers"] = json!(["kubernetes", FAKE]);
    let mut with = api.put("/api/v1/namespaces/n/finalize", &made).await.expect(200);
    assert_eq!(api.read("/api/v1/namespaces/n").await["spec"]["finalizers"], json!(["kubernetes", FAKE]));
    with["spec"]["finalizers"] = json!(["kubernetes"]);
    api.put("/api/v1/namespaces/n/finalize", &with).await.expect(200);
    assert_eq!(api.read("/api/v1/namespaces/n").await["spec"]["finalizers"], json!(["kubernetes"]));
}

const CORE_EVENTS: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn core_event(name: &str) -> Value {
    let involved = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    let metadata = json!({"name": name, "labels": {"testevent-constant": "true"}});
    json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "message": "This is a test event",
        "reason": "Test", "type": "Normal", "count": 1, "involvedObject": involved})
}

fn event(name: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"testevent-set": "true"}});
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "note": "This is a test",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Test", "type": "Normal", "action": "Do",
        "reportingController": "test-controller", "reportingInstance": "test-node",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}})
}

pub async fn core_event_lifecycle(api: &Api) {
    api.create(CORE_EVENTS, &core_event("e")).await;
    let chosen = "/api/v1/events?labelSelector=testevent-constant%3Dtrue";
    assert_eq!(api.names(chosen).await, ["e"]);
    let patch = json!({"message": "This is a test event - patched"});
    api.patch(&format!("{CORE_EVENTS}/e"), "strategic", &patch).await.expect(200);
    let mut got = api.read(&format!("{CORE_EVENTS}/e")).await;
    assert_eq!(got["message"], "This is a test event - patched");
    got["series"] = json!({"count": 100, "lastObservedTime": "2026-01-01T00:00:00.000000Z"});
    api.put(&format!("{CORE_EVENTS}/e"), &got).await.expect(200);
    assert_eq!(api.read(&format!("{CORE_EVENTS}/e")).await["series"], got["series"]);
    api.delete(&format!("{CORE_EVENTS}/e")).await.expect(200);
    assert!(api.names(chosen).await.is_empty());
}

pub async fn core_event_collection(api: &Api) {
    for name in ["a", "b", "c"] {
        api.create(CORE_EVENTS, &core_event(name)).await;
    }
    let chosen = format!("{CORE_EVENTS}?labelSelector=testevent-constant%3Dtrue");
    assert_eq!(api.names(&chosen).await, ["a", "b", "c"]);
    api.delete(&chosen).await.expect(200);
    assert!(api.names(&chosen).await.is_empty());
}

/// The note of an event is not to be changed; what is patched and updated is its series.
pub async fn event_lifecycle(api: &Api) {
    api.create(EVENTS, &event("e")).await;
    assert_eq!(api.names("/apis/events.k8s.io/v1/events").await, ["e"]);
    assert_eq!(api.names(&format!("{EVENTS}?fieldSelector=reportingController%3Dtest-controller")).await, ["e"]);
    let patch = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    api.patch(&format!("{EVENTS}/e"), "strategic", &patch).await.expect(200);
    let mut got = api.read(&format!("{EVENTS}/e")).await;
    assert_eq!((&got["series"]["count"], &got["note"]), (&json!(2), &json!("This is a test")));
    got["series"]["count"] = 100.into();
    api.put(&format!("{EVENTS}/e"), &got).await.expect(200);
    assert_eq!(api.read(&format!("{EVENTS}/e")).await["series"]["count"], 100);
    api.delete(&format!("{EVENTS}/e")).await.expect(200);
    assert!(api.names("/apis/events.k8s.io/v1/events").await.is_empty());
}

pub async fn event_collection(api: &Api) {
    for name in ["a", "b", "c"] {
        api.create(EVENTS, &event(name)).await;
    }
    let chosen = format!("{EVENTS}?labelSelector=testevent-set%3Dtrue");
    assert_eq!(api.names(&chosen).await, ["a", "b", "c"]);
    api.delete(&chosen).await.expect(200);
    assert!(api.names(&chosen).await.is_empty());
}

fn limit_range(name: &str, default: &str) -> Value {
    let limit = json!({"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"},
        "default": {"cpu": default}, "defaultRequest": {"cpu": "100m"}});
    let metadata = json!({"name": name, "labels": {"limits": name}});
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [limit]}})
}

fn pod(name: &str, resources: Value) -> Value {
    let container = json!({"name": "c", "image": "x", "resources": resources});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}})
}

pub async fn limit_range_resources(api: &Api) {
    const LIMITS: &str = "/api/v1/namespaces/default/limitranges";
    needs_service_account(api, "default").await;
    let mut watch = api.watch(&format!("{LIMITS}?watch=1")).await;
    api.create(LIMITS, &limit_range("l", "500m")).await;
    watch.expect("ADDED", "l").await;
    let mut held = api.read(&format!("{LIMITS}/l")).await;
    assert_eq!(held["spec"]["limits"][0]["default"]["cpu"], "500m");
    let settled = async |name: &str, resources| {
        api.create(PODS, &pod(name, resources)).await["spec"]["containers"][0]["resources"].clone()
    };
    assert_eq!(settled("none", json!({})).await, json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    assert_eq!(settled("part", json!({"limits": {"cpu": "300m"}})).await["limits"], json!({"cpu": "300m"}));
    held["spec"]["limits"][0]["min"]["cpu"] = "25m".into();
    api.put(&format!("{LIMITS}/l"), &held).await.expect(200);
    watch.expect("MODIFIED", "l").await;
    assert_eq!(settled("small", json!({"requests": {"cpu": "30m"}})).await["requests"], json!({"cpu": "30m"}));
    let large = api.post(PODS, &pod("large", json!({"limits": {"cpu": "600m"}}))).await.failed(403, "Forbidden");
    assert!(
        large["message"].as_str().is_some_and(|text| text.contains("maximum cpu usage per Container is 500m")),
        "{large}"
    );
    api.delete(&format!("{LIMITS}/l")).await.expect(200);
    watch.expect("DELETED", "l").await;
    api.create(PODS, &pod("large", json!({"limits": {"cpu": "600m"}}))).await;
}

pub async fn limit_range_collection(api: &Api) {
    namespace(api, "other").await;
    api.create("/api/v1/namespaces/default/limitranges", &limit_range("l", "300m")).await;
    api.create("/api/v1/namespaces/other/limitranges", &limit_range("l", "300m")).await;
    let everywhere = "/api/v1/limitranges?labelSelector=limits%3Dl";
    assert_eq!(api.items(everywhere).await.len(), 2);
    let patch = json!({"metadata": {"labels": {"limits": "patched"}}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "400m"}}]}});
    let patched = api.patch("/api/v1/namespaces/default/limitranges/l", "merge", &patch).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["limits"], "patched");
    assert_eq!(patched["spec"]["limits"][0]["default"]["cpu"], "400m");
    api.delete("/api/v1/namespaces/default/limitranges?labelSelector=limits%3Dpatched").await.expect(200);
    let left = api.items("/api/v1/limitranges").await;
    assert_eq!(left.iter().map(|item| &item["metadata"]["namespace"]).collect::<Vec<_>>(), ["other"]);
}

pub async fn priority_classes(api: &Api) {
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": "old"});
        api.create(CLASSES, &class).await;
    }
    let listed = api.names(CLASSES).await;
    assert!(listed.contains(&"p1".to_owned()) && listed.contains(&"system-node-critical".to_owned()), "{listed:?}");
    let patched = api.patch(&format!("{CLASSES}/p1"), "merge", &json!({"description": "patched"})).await.expect(200);
    assert_eq!(patched["description"], "patched");
    let mut held = api.read(&format!("{CLASSES}/p2")).await;
    held["description"] = "updated".into();
    api.put(&format!("{CLASSES}/p2"), &held).await.expect(200);
    assert_eq!(api.read(&format!("{CLASSES}/p2")).await["description"], "updated");
    api.patch(&format!("{CLASSES}/p1"), "json", &json!([{"op": "replace", "path": "/value", "value": 20}]))
        .await
        .failed(422, "Invalid");
    let mut held = api.read(&format!("{CLASSES}/p2")).await;
    held["value"] = 10.into();
    let refused = api.put(&format!("{CLASSES}/p2"), &held).await.failed(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "value");
    let mut held = api.read(&format!("{CLASSES}/p2")).await;
    held["preemptionPolicy"] = "Never".into();
    api.put(&format!("{CLASSES}/p2"), &held).await.failed(422, "Invalid");
}

pub async fn sysctls(api: &Api) {
    needs_service_account(api, "default").await;
    let mut wrong = pod("p", json!({}));
    let sysctl = |name: &str| json!({"name": name, "value": "1"});
    let names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."];
    wrong["spec"]["securityContext"] = json!({"sysctls": names.map(sysctl)});
    let refused = api.post(PODS, &wrong).await.failed(422, "Invalid");
    let fields: Vec<_> =
        refused["details"]["causes"].as_array().expect("causes").iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.securityContext.sysctls[0].name", "spec.securityContext.sysctls[3].name"], "{refused}");
    api.get(&format!("{PODS}/p")).await.failed(404, "NotFound");
}

pub async fn typed_fields(api: &Api) {
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    let strict = |path: &str| format!("{path}?fieldValidation=Strict");
    let send = async |text: &str| api.send("POST", &strict(MAPS), Some(("application/json", text.into()))).await;
    let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"unknown":1,"data":{"k":"1"},"data":{"k":"2"}}"#;
    let refused = send(text).await.failed(400, "BadRequest");
    let message = refused["message"].as_str().expect("a message");
    assert!(
        message.contains(r#"unknown field "unknown""#) && message.contains(r#"duplicate field "data""#),
        "{message}"
    );
    api.get(&format!("{MAPS}/a")).await.failed(404, "NotFound");
}

pub async fn typed_metadata_fields(api: &Api) {
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let template = json!({"metadata": {"labels": {"a": "b"}, "unknownInner": 1}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let metadata = json!({"name": "d", "unknownOuter": 1});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    let body = ("application/json", object.to_string().into_bytes());
    let refused = api.send("POST", DEPLOYMENTS, Some(body)).await.failed(400, "BadRequest");
    let message = refused["message"].as_str().expect("a message");
    for path in ["metadata.unknownOuter", "spec.template.metadata.unknownInner"] {
        assert!(message.contains(&format!("unknown field \"{path}\"")), "{message}");
    }
}

pub async fn aggregated_discovery(api: &Api) {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (root, group, version, resource) in [("/api", "", "v1", "pods"), ("/apis", "apps", "v1", "deployments")] {
        let answer = api.send_accepting("GET", root, AGGREGATED, None).await;
        let media_type = answer.headers["content-type"].to_str().expect("a media type").to_owned();
        assert!(media_type.contains("as=APIGroupDiscoveryList") && media_type.contains("v=v2"), "{media_type}");
        assert!(answer.headers.contains_key("etag"));
        let list = answer.expect(200);
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
        );
        let groups = list["items"].as_array().expect("groups");
        let found = groups.iter().find(|found| name(found) == group).expect("the group");
        let versions = found["versions"].as_array().expect("versions");
        let found = versions.iter().find(|found| found["version"] == version).expect("the version");
        assert!(found["resources"].as_array().expect("resources").iter().any(|found| found["resource"] == resource));
    }
}

/// All that the documents of old list is in the aggregated one.
pub async fn aggregated_discovery_is_complete(api: &Api) {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let list = api.send_accepting("GET", "/apis", AGGREGATED, None).await.expect(200);
    let mut seen = 0;
    for group in list["items"].as_array().expect("groups") {
        for version in group["versions"].as_array().expect("versions") {
            let path = format!("/apis/{}/{}", name(group), version["version"].as_str().expect("a version"));
            let old = api.read(&path).await;
            let old = old["resources"].as_array().expect("resources").iter().filter_map(|found| found["name"].as_str());
            let mut old: Vec<_> = old.filter(|name| !name.contains('/')).map(str::to_owned).collect();
            let new = version["resources"].as_array().expect("resources").iter();
            let mut new: Vec<_> = new.filter_map(|found| found["resource"].as_str()).map(str::to_owned).collect();
            old.sort();
            new.sort();
            assert_eq!(old, new, "{path}");
            seen += new.len();
        }
    }
    assert!(seen > 10);
}

pub async fn runtime_class_unknown(api: &Api) {
    needs_service_account(api, "default").await;
    let mut pod = pod("p", json!({}));
    pod["spec"]["runtimeClassName"] = "nonexistent".into();
    api.post(PODS, &pod).await.failed(403, "Forbidden");
    assert!(api.names(PODS).await.is_empty());
}

pub async fn runtime_class_deleted(api: &Api) {
    const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
    needs_service_account(api, "default").await;
    let class =
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "r"}, "handler": "h"});
    api.create(CLASSES, &class).await;
    let mut pod = pod("p", json!({}));
    pod["spec"]["runtimeClassName"] = "r".into();
    api.create(PODS, &pod).await;
    api.delete(&format!("{CLASSES}/r")).await.expect(200);
    api.get(&format!("{CLASSES}/r")).await.failed(404, "NotFound");
    pod["metadata"]["name"] = "q".into();
    api.post(PODS, &pod).await.failed(403, "Forbidden");
}
