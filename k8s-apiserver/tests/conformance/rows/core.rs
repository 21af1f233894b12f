//! The core's small kinds, and how the server presents itself.

use serde_json::{Value, json};

use crate::api::{Api, name, version as resource_version};

const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";

pub async fn version(api: &Api) {
    let version = api.read("/version").await;
    for part in ["major", "minor"] {
        let text = version[part].as_str().unwrap_or_default();
        assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "{version}");
    }
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
}

pub async fn discovery_resources(api: &Api) {
    let groups = api.read("/apis").await;
    let groups = groups["groups"].as_array().expect("groups").clone();
    assert!(groups.len() > 5);
    for group in groups {
        let name = group["name"].as_str().expect("a name");
        for version in group["versions"].as_array().expect("versions") {
            let expected = format!("{name}/{}", version["version"].as_str().expect("a version"));
            assert_eq!(version["groupVersion"], json!(expected));
            let list = api.read(&format!("/apis/{expected}")).await;
            assert_eq!((&list["kind"], &list["groupVersion"]), (&json!("APIResourceList"), &json!(expected)));
            let resources = list["resources"].as_array().expect("resources");
            assert!(resources.iter().any(|resource| {
                resource["name"].as_str().is_some_and(|name| !name.is_empty())
                    && resource["kind"].as_str().is_some_and(|kind| !kind.is_empty())
                    && resource["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty())
            }));
        }
    }
}

pub async fn discovery_preferred_versions(api: &Api) {
    let groups = api.read("/apis").await;
    let groups = groups["groups"].as_array().expect("groups").clone();
    assert!(!groups.is_empty());
    for group in groups {
        let preferred = &group["preferredVersion"];
        assert!(group["versions"].as_array().expect("versions").contains(preferred), "{group}");
        let alone = api.read(&format!("/apis/{}", group["name"].as_str().expect("a name"))).await;
        assert_eq!(&alone["preferredVersion"], preferred);
    }
}

pub async fn leases(api: &Api) {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let spec = json!({
        "holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0,
        "acquireTime": "2026-01-02T03:04:05.000006Z", "renewTime": "2026-01-02T03:04:10.000006Z",
    });
    let lease = |name: &str| {
        let metadata = json!({"name": name});
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
    };
    api.create(LEASES, &lease("a")).await;
    let mut got = api.read(&format!("{LEASES}/a")).await;
    assert_eq!(got["spec"], spec);
    got["spec"]["holderIdentity"] = "holder2".into();
    got["spec"]["leaseTransitions"] = 1.into();
    let updated = got["spec"].clone();
    api.put(&format!("{LEASES}/a"), &got).await.expect(200);
    assert_eq!(api.read(&format!("{LEASES}/a")).await["spec"], updated);
    let patch = json!({"spec": {"holderIdentity": "holder3", "leaseDurationSeconds": 60}});
    api.patch(&format!("{LEASES}/a"), "strategic", &patch).await.expect(200);
    let patched = api.read(&format!("{LEASES}/a")).await["spec"].clone();
    assert_eq!((&patched["holderIdentity"], &patched["leaseDurationSeconds"]), (&json!("holder3"), &json!(60)));
    assert_eq!(patched["leaseTransitions"], 1);
    let mut second = lease("b");
    second["metadata"]["labels"] = json!({"deletecollection": "true"});
    api.create(LEASES, &second).await;
    assert_eq!(api.names(LEASES).await, ["a", "b"]);
    api.delete(&format!("{LEASES}?labelSelector=deletecollection%3Dtrue")).await.expect(200);
    assert_eq!(api.names(LEASES).await, ["a"]);
    api.delete(&format!("{LEASES}/a")).await.expect(200);
    api.get(&format!("{LEASES}/a")).await.failed(404, "NotFound");
}

pub async fn node_lifecycle(api: &Api) {
    let metadata = json!({"name": "n", "labels": {"e2e": "node"}});
    let capacity = json!({"capacity": {"cpu": "4", "memory": "4Gi"}});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": capacity});
    api.create("/api/v1/nodes", &node).await;
    assert_eq!(name(&api.read("/api/v1/nodes/n").await), "n");
    let patch = json!({"metadata": {"labels": {"n": "patched"}}});
    let patched = api.patch("/api/v1/nodes/n", "strategic", &patch).await.expect(200);
    assert_eq!(patched["metadata"]["labels"], json!({"e2e": "node", "n": "patched"}));
    let mut found = api.items("/api/v1/nodes?labelSelector=n%3Dpatched").await;
    assert_eq!(found.len(), 1);
    let mut found = found.remove(0);
    (found["apiVersion"], found["kind"]) = ("v1".into(), "Node".into());
    found["metadata"]["labels"]["n"] = "updated".into();
    let updated = api.put("/api/v1/nodes/n", &found).await.expect(200);
    assert_eq!(updated["metadata"]["labels"]["n"], "updated");
    api.delete("/api/v1/nodes?labelSelector=n%3Dupdated").await.expect(200);
    assert!(api.names("/api/v1/nodes").await.is_empty());
}

pub async fn pod_qos(api: &Api) {
    super::needs_service_account(api, "default").await;
    let resources = json!({"cpu": "100m", "memory": "100Mi"});
    let container = json!({"name": "agnhost", "image": "x", "resources": {"limits": resources, "requests": resources}});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}});
    api.create("/api/v1/namespaces/default/pods", &pod).await;
    let got = api.read("/api/v1/namespaces/default/pods/p").await;
    assert_eq!(got["status"]["qosClass"], "Guaranteed");
}

fn template(name: &str, labels: Value) -> Value {
    let spec = json!({"containers": [{"name": "nginx", "image": "nginx"}]});
    let metadata = json!({"name": name, "labels": labels});
    json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": {"spec": spec}})
}

pub async fn pod_templates_lifecycle(api: &Api) {
    api.create(TEMPLATES, &template("t", json!({"podtemplate-static": "true"}))).await;
    assert_eq!(name(&api.read(&format!("{TEMPLATES}/t")).await), "t");
    let patch = json!({"metadata": {"labels": {"podtemplate": "patched"}}});
    api.patch(&format!("{TEMPLATES}/t"), "strategic", &patch).await.expect(200);
    assert_eq!(api.read(&format!("{TEMPLATES}/t")).await["metadata"]["labels"]["podtemplate"], "patched");
    let found = api.items("/api/v1/podtemplates?labelSelector=podtemplate-static%3Dtrue").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metadata"]["labels"]["podtemplate"], "patched");
    api.delete(&format!("{TEMPLATES}/t")).await.expect(200);
    assert!(api.names("/api/v1/podtemplates?labelSelector=podtemplate-static%3Dtrue").await.is_empty());
}

pub async fn pod_templates_replace(api: &Api) {
    let mut made = api.create(TEMPLATES, &template("t", json!({}))).await;
    made["metadata"]["annotations"] = json!({"updated": "true"});
    api.put(&format!("{TEMPLATES}/t"), &made).await.expect(200);
    let got = api.read(&format!("{TEMPLATES}/t")).await;
    assert_eq!(got["metadata"]["annotations"]["updated"], "true");
    assert_ne!(resource_version(&got), resource_version(&made));
}

pub async fn pod_templates_collection(api: &Api) {
    for name in ["a", "b", "c"] {
        api.create(TEMPLATES, &template(name, json!({"podtemplate-set": "true"}))).await;
    }
    api.create(TEMPLATES, &template("other", json!({}))).await;
    let set = format!("{TEMPLATES}?labelSelector=podtemplate-set%3Dtrue");
    assert_eq!(api.names(&set).await, ["a", "b", "c"]);
    api.delete(&set).await.expect(200);
    assert!(api.names(&set).await.is_empty());
    assert_eq!(api.names(TEMPLATES).await, ["other"]);
}

pub async fn endpoints_lifecycle(api: &Api) {
    const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
    let subsets =
        json!([{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]);
    let metadata = json!({"name": "e", "labels": {"test-endpoint-static": "true"}});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
    let chosen = format!("{ENDPOINTS}?labelSelector=test-endpoint-static%3Dtrue");
    let mut watch = api.watch(&format!("{chosen}&watch=true")).await;
    let mut made = api.create(ENDPOINTS, &endpoints).await;
    watch.expect("ADDED", "e").await;
    assert_eq!(api.names("/api/v1/endpoints?labelSelector=test-endpoint-static%3Dtrue").await, ["e"]);
    made["metadata"]["labels"]["test-service"] = "updated".into();
    api.put(&format!("{ENDPOINTS}/e"), &made).await.expect(200);
    watch.expect("MODIFIED", "e").await;
    assert_eq!(api.read(&format!("{ENDPOINTS}/e")).await["metadata"]["labels"]["test-service"], "updated");
    let port = json!({"name": "http-test", "port": 8080, "protocol": "TCP"});
    let patch = json!({"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [port]}]});
    api.patch(&format!("{ENDPOINTS}/e"), "strategic", &patch).await.expect(200);
    watch.expect("MODIFIED", "e").await;
    let got = api.read(&format!("{ENDPOINTS}/e")).await;
    assert_eq!(got["subsets"][0]["addresses"][0]["ip"], "10.0.0.25");
    assert_eq!(got["subsets"][0]["ports"][0], json!({"name": "http-test", "port": 8080, "protocol": "TCP"}));
    api.delete(&chosen).await.expect(200);
    watch.expect("DELETED", "e").await;
    api.get(&format!("{ENDPOINTS}/e")).await.failed(404, "NotFound");
}

pub async fn table_or_406(api: &Api) {
    const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = ("application/json", review.to_string().into_bytes());
    let refused = api.send_accepting("POST", path, TABLE, Some(body)).await;
    assert_eq!(refused.code, 406, "{}", refused.value);
    let table = api.send_accepting("GET", "/api/v1/namespaces/default/configmaps", TABLE, None).await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
}

const ALL: usize = 40;
const PAGE: usize = 17;

async fn many(api: &Api) {
    for place in 0..ALL {
        api.create(TEMPLATES, &template(&format!("template-{place:04}"), json!({}))).await;
    }
}

fn next(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap_or_default()
}

pub async fn chunks(api: &Api) {
    many(api).await;
    let (mut found, mut token, mut pinned) = (0, String::new(), String::new());
    loop {
        let list = api.read(&format!("{TEMPLATES}?limit={PAGE}&continue={token}")).await;
        let items = list["items"].as_array().expect("items");
        assert!(items.len() <= PAGE);
        for item in items {
            assert_eq!(name(item), format!("template-{found:04}"));
            found += 1;
        }
        if pinned.is_empty() {
            pinned = resource_version(&list).to_owned();
            // What comes later is not on the pages of before.
            api.create(TEMPLATES, &template("template-0020-late", json!({}))).await;
        }
        assert_eq!(resource_version(&list), pinned);
        token = next(&list).to_owned();
        match token.is_empty() {
            true => break,
            false => assert_eq!(list["metadata"]["remainingItemCount"], ALL - found),
        }
    }
    assert_eq!(found, ALL);
    let whole = api.read(TEMPLATES).await;
    assert_eq!((whole["items"].as_array().expect("items").len(), next(&whole)), (ALL + 1, ""));
    assert!(whole["metadata"].get("remainingItemCount").is_none());
}

pub async fn chunks_after_compaction(api: &Api) {
    many(api).await;
    let first = api.read(&format!("{TEMPLATES}?limit={PAGE}")).await;
    let token = next(&first);
    assert_eq!(first["metadata"]["remainingItemCount"], ALL - PAGE);
    let late = api.create(TEMPLATES, &template("late", json!({}))).await;
    api.server.cache().wait_for(resource_version(&late).parse().expect("a number")).await.expect("it comes");
    api.server.cache().compact(api.server.revision());
    let gone = api.get(&format!("{TEMPLATES}?limit={PAGE}&continue={token}")).await.failed(410, "Expired");
    let inconsistent = next(&gone);
    assert!(!inconsistent.is_empty() && inconsistent != token, "{gone}");
    let second = api.read(&format!("{TEMPLATES}?limit={PAGE}&continue={inconsistent}")).await;
    let items = second["items"].as_array().expect("items");
    assert_eq!(items.len(), PAGE);
    assert!(name(&items[0]) > name(first["items"].as_array().and_then(|items| items.last()).expect("an item")));
    assert!(second["metadata"]["remainingItemCount"].as_u64().is_some_and(|left| left > 0));
    assert_ne!(resource_version(&second), resource_version(&first));
    let rest = api.read(&format!("{TEMPLATES}?continue={}", next(&second))).await;
    assert_eq!(PAGE + PAGE + rest["items"].as_array().expect("items").len(), ALL, "all that sorts behind");
}
