//! Kinds that are defined at run time.

use serde_json::{Value, json};

use crate::api::{Answer, Api, name};

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A definition of `Foo`s, `Bar`s and so on, with these versions: name and schema.
pub(super) fn definition(group: &str, kind: &str, versions: &[(&str, Value)]) -> Value {
    let singular = kind.to_lowercase();
    let names = json!({"plural": format!("{singular}s"), "singular": singular, "kind": kind, "listKind": format!("{kind}List")});
    let version = |(place, (name, schema)): (usize, &(&str, Value))| json!({"name": name, "served": true, "storage": place == 0, "schema": {"openAPIV3Schema": schema}});
    let versions: Vec<Value> = versions.iter().enumerate().map(version).collect();
    let spec = json!({"group": group, "scope": "Namespaced", "names": names, "versions": versions});
    let metadata = json!({"name": format!("{singular}s.{group}")});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn established(answer: &Answer) -> bool {
    let conditions = answer.value["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Established" && one["status"] == "True"))
}

/// Defines a kind and waits until its objects can be asked for.
pub(super) async fn define(api: &Api, definition: &Value) -> Value {
    api.create(DEFINITIONS, definition).await;
    let one = format!("{DEFINITIONS}/{}", name(definition));
    let ready = api.wait_until(&one, established).await.value;
    api.wait_until(&objects(definition, 0), |answer| answer.code == 200).await;
    ready
}

/// Where the objects of a definition's version are.
pub(super) fn objects(definition: &Value, version: usize) -> String {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (group, version) = (text(&spec["group"]), text(&spec["versions"][version]["name"]));
    format!("/apis/{group}/{version}/namespaces/default/{}", text(&spec["names"]["plural"]))
}

pub(super) fn object(definition: &Value, version: usize, name: &str, more: Value) -> Value {
    let spec = &definition["spec"];
    let api_version = format!(
        "{}/{}",
        spec["group"].as_str().expect("text"),
        spec["versions"][version]["name"].as_str().expect("text")
    );
    let mut object = json!({"apiVersion": api_version, "kind": spec["names"]["kind"], "metadata": {"name": name}});
    for (field, value) in more.as_object().expect("fields") {
        object[field] = value.clone();
    }
    object
}

pub async fn watch(api: &Api) {
    let kind = definition("watch.example.com", "Foo", &[("v1beta1", open())]);
    define(api, &kind).await;
    let path = objects(&kind, 0);
    let mut watch = api.watch(&format!("{path}?watch=1")).await;
    for name in ["a", "b"] {
        api.create(&path, &object(&kind, 0, name, json!({"content": {"n": 1}}))).await;
        watch.expect("ADDED", name).await;
    }
    api.patch(&format!("{path}/a"), "merge", &json!({"content": {"n": 2}})).await.expect(200);
    assert_eq!(watch.expect("MODIFIED", "a").await["content"]["n"], 2);
    for name in ["a", "b"] {
        api.delete(&format!("{path}/{name}")).await.expect(200);
        watch.expect("DELETED", name).await;
    }
}

pub async fn create_and_delete(api: &Api) {
    let kind = definition("simple.example.com", "Foo", &[("v1", open())]);
    let ready = define(api, &kind).await;
    assert_eq!(ready["status"]["acceptedNames"]["plural"], "foos");
    assert_eq!(ready["status"]["storedVersions"], json!(["v1"]));
    api.delete(&format!("{DEFINITIONS}/{}", name(&kind))).await.expect(200);
    api.wait_until(&format!("{DEFINITIONS}/{}", name(&kind)), |answer| answer.code == 404).await;
    api.wait_until(&objects(&kind, 0), |answer| answer.code == 404).await;
}

pub async fn list_and_collection(api: &Api) {
    for kind in ["Foo", "Bar", "Baz"] {
        let mut definition = definition("list.example.com", kind, &[("v1", open())]);
        definition["metadata"]["labels"] = json!({"e2e-list-test-uuid": "1"});
        define(api, &definition).await;
    }
    let other = definition("other.example.com", "Qux", &[("v1", open())]);
    define(api, &other).await;
    let chosen = format!("{DEFINITIONS}?labelSelector=e2e-list-test-uuid%3D1");
    let names = api.names(&chosen).await;
    assert_eq!(names, ["bars.list.example.com", "bazs.list.example.com", "foos.list.example.com"]);
    api.delete(&chosen).await.expect(200);
    api.wait_until(&chosen, |answer| answer.value["items"].as_array().is_some_and(Vec::is_empty)).await;
    assert_eq!(name(&api.read(&format!("{DEFINITIONS}/quxs.other.example.com")).await), "quxs.other.example.com");
}

pub async fn status(api: &Api) {
    let kind = definition("status.example.com", "Foo", &[("v1", open())]);
    define(api, &kind).await;
    let path = format!("{DEFINITIONS}/{}/status", name(&kind));
    let mut got = api.read(&path).await;
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "set", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let has = |object: &Value, kind: &str| {
        object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == kind))
    };
    got["status"]["conditions"].as_array_mut().expect("conditions").push(condition("StatusUpdate"));
    let updated = api.put(&path, &got).await.expect(200);
    assert!(has(&updated, "StatusUpdate"), "{updated}");
    let mut conditions = updated["status"]["conditions"].as_array().expect("conditions").clone();
    conditions.push(condition("StatusPatched"));
    let patched = api.patch(&path, "merge", &json!({"status": {"conditions": conditions}})).await.expect(200);
    assert!(has(&patched, "StatusPatched") && has(&patched, "StatusUpdate"), "{patched}");
    assert_eq!(patched["spec"], updated["spec"]);
}

pub async fn defaulting(api: &Api) {
    let closed = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"a": {"type": "string", "default": "A"}, "b": {"type": "string"}}});
    let kind = definition("default.example.com", "Foo", &[("v1", closed)]);
    define(api, &kind).await;
    let path = objects(&kind, 0);
    let made = api.create(&path, &object(&kind, 0, "o", json!({}))).await;
    assert_eq!((&made["a"], made.get("b")), (&json!("A"), None));
    let add = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/b/default", "value": "B"},
        {"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/a/default"}]);
    api.patch(&format!("{DEFINITIONS}/{}", name(&kind)), "json", &add).await.expect(200);
    let got = api.wait_until(&format!("{path}/o"), |answer| answer.value["b"] == "B").await.value;
    assert_eq!(got["a"], "A", "what was stored stays");
    let listed = api.items(&path).await;
    assert_eq!((&listed[0]["a"], &listed[0]["b"]), (&json!("A"), &json!("B")));
    let second = api.create(&path, &object(&kind, 0, "p", json!({}))).await;
    assert_eq!((second.get("a"), &second["b"]), (None, &json!("B")));
}

pub async fn discovery(api: &Api) {
    let groups = api.read("/apis").await;
    let found = groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .find(|group| group["name"] == "apiextensions.k8s.io")
        .cloned();
    assert_eq!(found.expect("the group")["versions"][0]["groupVersion"], "apiextensions.k8s.io/v1");
    let group = api.read("/apis/apiextensions.k8s.io").await;
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let resources = api.read("/apis/apiextensions.k8s.io/v1").await;
    let resources = resources["resources"].as_array().expect("resources").clone();
    assert!(resources.iter().any(|resource| resource["name"] == "customresourcedefinitions"));
}

async fn aggregated(api: &Api, path: &str) -> Value {
    api.send_accepting("GET", path, AGGREGATED, None).await.expect(200)
}

fn lists(document: &Value, group: &str, version: &str, resource: &str) -> bool {
    let groups = document["items"].as_array().expect("groups").iter().filter(|found| name(found) == group);
    let versions = groups.flat_map(|found| found["versions"].as_array().expect("versions"));
    let mut resources = versions
        .filter(|found| found["version"] == version)
        .flat_map(|found| found["resources"].as_array().expect("resources"));
    resources.any(|found| found["resource"] == resource)
}

pub async fn aggregated_discovery(api: &Api) {
    let kind = definition("aggregated.example.com", "Foo", &[("v1", open()), ("v2", open())]);
    define(api, &kind).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let document = aggregated(api, "/apis").await;
        if ["v1", "v2"].iter().all(|version| lists(&document, "aggregated.example.com", version, "foos")) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{document}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    api.delete(&format!("{DEFINITIONS}/{}", name(&kind))).await.expect(200);
    api.wait_until("/apis/aggregated.example.com", |answer| answer.code == 404).await;
    assert!(!lists(&aggregated(api, "/apis").await, "aggregated.example.com", "v1", "foos"));
}

pub async fn aggregated_discovery_headers(api: &Api) {
    let kind = definition("headers.example.com", "Foo", &[("v1", open())]);
    let before = api.send_accepting("GET", "/apis", AGGREGATED, None).await;
    let tag = before.headers["etag"].clone();
    define(api, &kind).await;
    api.wait_until("/apis/headers.example.com/v1", |answer| answer.code == 200).await;
    let after = api.send_accepting("GET", "/apis", AGGREGATED, None).await;
    assert_ne!(after.headers["etag"], tag);
    assert!(after.headers["content-type"].to_str().expect("text").contains("as=APIGroupDiscoveryList"));
    assert!(lists(&after.value, "headers.example.com", "v1", "foos"));
    let plain = api.send_accepting("GET", "/apis", "application/json", None).await.expect(200);
    assert_eq!(plain["kind"], "APIGroupList");
}

/// The definition of a kind in the OpenAPI document of version 2.
async fn published(api: &Api, group: &str, version: &str, kind: &str) -> Option<Value> {
    let document = api.send_accepting("GET", "/openapi/v2", "application/json", None).await.expect(200);
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let definitions = document["definitions"].as_object().expect("definitions").values();
    let mut found = definitions
        .filter(|found| found["x-kubernetes-group-version-kind"].as_array().is_some_and(|all| all.contains(&wanted)));
    found.next().cloned()
}

async fn wait_published(api: &Api, group: &str, version: &str, kind: &str, there: bool) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let found = published(api, group, version, kind).await;
        if found.is_some() == there {
            return found.unwrap_or_default();
        }
        assert!(tokio::time::Instant::now() < deadline, "{group}/{version} {kind}: {found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The same in the document of version 3 of its group.
async fn published_3(api: &Api, group: &str, version: &str, kind: &str) -> Value {
    let index = api.read("/openapi/v3").await;
    let path =
        index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"].as_str().expect("a path").to_owned();
    let document = api.read(&path).await;
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let schemas = document["components"]["schemas"].as_object().expect("schemas").values();
    let mut found = schemas
        .filter(|found| found["x-kubernetes-group-version-kind"].as_array().is_some_and(|all| all.contains(&wanted)));
    found.next().unwrap_or_else(|| panic!("no {kind}")).clone()
}

fn validating() -> Value {
    let bars = json!({"type": "array", "description": "List of Bars and their specs.", "items": {"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string", "description": "Name of Bar."}, "age": {"type": "string", "description": "Age of Bar."},
            "bazs": {"type": "array", "items": {"type": "string"}, "description": "List of Bazs."}}}});
    json!({"type": "object", "description": "Foo CRD for Testing", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "properties": {"bars": bars}},
        "status": {"type": "object", "description": "Status of Foo", "properties": {"bars": {"type": "array", "items": {"type": "object",
            "properties": {"name": {"type": "string"}, "available": {"type": "boolean"}}}}}}}})
}

pub async fn publish_with_schema(api: &Api) {
    let kind = definition("schema.example.com", "Foo", &[("v1", validating())]);
    define(api, &kind).await;
    let found = wait_published(api, "schema.example.com", "v1", "Foo", true).await;
    assert_eq!(found["description"], "Foo CRD for Testing");
    let bar = &found["properties"]["spec"]["properties"]["bars"]["items"];
    assert_eq!((&bar["required"], &bar["properties"]["age"]["description"]), (&json!(["name"]), &json!("Age of Bar.")));
    for field in ["apiVersion", "kind", "metadata"] {
        assert!(found["properties"].get(field).is_some(), "{found}");
    }
    let newer = published_3(api, "schema.example.com", "v1", "Foo").await;
    assert_eq!(newer["properties"]["spec"]["properties"]["bars"]["items"]["required"], json!(["name"]));
    let path = objects(&kind, 0);
    let good = json!({"spec": {"bars": [{"name": "test-bar"}]}});
    api.create(&path, &object(&kind, 0, "good", good)).await;
    let strict = format!("{path}?fieldValidation=Strict");
    api.post(&strict, &object(&kind, 0, "bad", json!({"spec": {"bars": [{"age": "10"}]}})))
        .await
        .failed(422, "Invalid");
    api.post(&strict, &object(&kind, 0, "bad", json!({"unknown": true}))).await.failed(400, "BadRequest");
}

pub async fn publish_without_schema(api: &Api) {
    let kind = definition("open.example.com", "Foo", &[("v1", open())]);
    define(api, &kind).await;
    let found = wait_published(api, "open.example.com", "v1", "Foo", true).await;
    assert_eq!((&found["type"], found.get("properties")), (&json!("object"), None));
    let newer = published_3(api, "open.example.com", "v1", "Foo").await;
    assert_eq!(newer["x-kubernetes-preserve-unknown-fields"], true);
    let strict = format!("{}?fieldValidation=Strict", objects(&kind, 0));
    api.create(&strict, &object(&kind, 0, "o", json!({"a": {"b": "c"}}))).await;
}

pub async fn publish_preserving_at_root(api: &Api) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "kept",
        "properties": {"spec": {"type": "object"}}});
    let kind = definition("root.example.com", "Foo", &[("v1", schema)]);
    define(api, &kind).await;
    let found = wait_published(api, "root.example.com", "v1", "Foo", true).await;
    // As upstream: clients of version 2 take what is listed for all that there is, so that nothing is listed.
    assert_eq!((&found["type"], found.get("properties")), (&json!("object"), None));
    let whole = published_3(api, "root.example.com", "v1", "Foo").await;
    assert_eq!((&whole["x-kubernetes-preserve-unknown-fields"], &whole["description"]), (&json!(true), &json!("kept")));
    let strict = format!("{}?fieldValidation=Strict", objects(&kind, 0));
    let made = api.create(&strict, &object(&kind, 0, "o", json!({"a": {"b": "c"}}))).await;
    assert_eq!(made["a"], json!({"b": "c"}));
}

pub async fn publish_preserving_inside(api: &Api) {
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "kept inside",
        "x-kubernetes-embedded-resource": true});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let kind = definition("inside.example.com", "Foo", &[("v1", schema)]);
    define(api, &kind).await;
    let found = wait_published(api, "inside.example.com", "v1", "Foo", true).await;
    assert_eq!(found["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"], true, "{found}");
    let inside = json!({"apiVersion": "v1", "kind": "Anything", "metadata": {"name": "x"}, "b": [1, 2]});
    let strict = format!("{}?fieldValidation=Strict", objects(&kind, 0));
    let made = api.create(&strict, &object(&kind, 0, "o", json!({"spec": inside}))).await;
    assert_eq!(made["spec"], inside);
}

async fn publishes(api: &Api, definitions: &[Value]) {
    for definition in definitions {
        define(api, definition).await;
    }
    for definition in definitions {
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().expect("versions") {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let (group, version, kind) = (text(&spec["group"]), text(&version["name"]), text(&spec["names"]["kind"]));
            let found = wait_published(api, &group, &version, &kind, true).await;
            assert_eq!(found["description"], "Foo CRD for Testing");
            published_3(api, &group, &version, &kind).await;
        }
    }
}

pub async fn publish_groups(api: &Api) {
    let one = |group| definition(group, "Foo", &[("v1", validating())]);
    publishes(api, &[one("one.example.com"), one("two.example.com")]).await;
}

pub async fn publish_versions(api: &Api) {
    let both = [("v2", validating()), ("v3", validating())];
    publishes(api, &[definition("versions.example.com", "Foo", &both)]).await;
    let one = |kind, version| definition("apart.example.com", kind, &[(version, validating())]);
    publishes(api, &[one("Foo", "v4"), one("Bar", "v5")]).await;
}

pub async fn publish_kinds(api: &Api) {
    let one = |kind| definition("kinds.example.com", kind, &[("v6", validating())]);
    publishes(api, &[one("Foo"), one("Bar")]).await;
}

pub async fn publish_rename(api: &Api) {
    let kind = definition("rename.example.com", "Foo", &[("v2", validating()), ("v3", validating())]);
    publishes(api, std::slice::from_ref(&kind)).await;
    let rename = json!([{"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    api.patch(&format!("{DEFINITIONS}/{}", name(&kind)), "json", &rename).await.expect(200);
    wait_published(api, "rename.example.com", "v4", "Foo", true).await;
    wait_published(api, "rename.example.com", "v3", "Foo", false).await;
    wait_published(api, "rename.example.com", "v2", "Foo", true).await;
    api.get("/apis/rename.example.com/v3/namespaces/default/foos").await.failed(404, "NotFound");
}

pub async fn publish_stop_serving(api: &Api) {
    let kind = definition("stop.example.com", "Foo", &[("v5", validating()), ("v6alpha1", validating())]);
    publishes(api, std::slice::from_ref(&kind)).await;
    let stop = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    api.patch(&format!("{DEFINITIONS}/{}", name(&kind)), "json", &stop).await.expect(200);
    wait_published(api, "stop.example.com", "v6alpha1", "Foo", false).await;
    wait_published(api, "stop.example.com", "v5", "Foo", true).await;
}

/// Applies and creates with strict checks, as JSON text.
async fn applied(api: &Api, definition: &Value, text: &str) -> Answer {
    let path = format!("{}/o?fieldValidation=Strict&fieldManager=conformance", objects(definition, 0));
    api.send("PATCH", &path, Some(("application/apply-patch+yaml", text.into()))).await
}

async fn created(api: &Api, definition: &Value, text: &str) -> Answer {
    let path = format!("{}?fieldValidation=Strict", objects(definition, 0));
    api.send("POST", &path, Some(("application/json", text.into()))).await
}

fn text(definition: &Value, name: &str, more: Value) -> String {
    object(definition, 0, name, more).to_string()
}

pub async fn fields_without_schema(api: &Api) {
    let kind = definition("unknown.example.com", "Foo", &[("v1", open())]);
    define(api, &kind).await;
    let more = json!({"unknownField": "kept", "spec": {"cronSpec": "* * * * */5"}});
    assert_eq!(applied(api, &kind, &text(&kind, "o", more.clone())).await.expect(201)["unknownField"], "kept");
    assert_eq!(created(api, &kind, &text(&kind, "p", more)).await.expect(201)["unknownField"], "kept");
}

fn closed() -> Value {
    let spec = json!({"type": "object", "properties": {"cronSpec": {"type": "string"}, "image": {"type": "string"}}});
    json!({"type": "object", "properties": {"spec": spec}})
}

pub async fn fields_valid(api: &Api) {
    let kind = definition("valid.example.com", "Foo", &[("v1", closed())]);
    define(api, &kind).await;
    let more = json!({"spec": {"cronSpec": "* * * * */5", "image": "x"}});
    applied(api, &kind, &text(&kind, "o", more.clone())).await.expect(201);
    created(api, &kind, &text(&kind, "p", more)).await.expect(201);
}

pub async fn fields_invalid(api: &Api) {
    let kind = definition("invalid.example.com", "Foo", &[("v1", closed())]);
    define(api, &kind).await;
    let more = json!({"spec": {"cronSpec": "* * * * */5", "extraProperty": "x"}});
    let refused = created(api, &kind, &text(&kind, "p", more.clone())).await.failed(400, "BadRequest");
    assert!(
        refused["message"].as_str().is_some_and(|why| why.contains(r#"unknown field "spec.extraProperty""#)),
        "{refused}"
    );
    let refused = applied(api, &kind, &text(&kind, "o", more)).await;
    assert!(matches!(refused.code, 400 | 500), "{}", refused.value);
    assert!(refused.value["message"].as_str().is_some_and(|why| why.contains("extraProperty")), "{}", refused.value);
    assert!(api.names(&objects(&kind, 0)).await.is_empty());
}

pub async fn fields_duplicate(api: &Api) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"kind": {"type": "string"}}}}});
    let kind = definition("duplicate.example.com", "Foo", &[("v1", schema)]);
    define(api, &kind).await;
    let twice = r#"{"apiVersion":"duplicate.example.com/v1","kind":"Foo","metadata":{"name":"o"},"spec":{"kind":"a","kind":"b"},"spec2":1}"#;
    let refused = created(api, &kind, twice).await.failed(400, "BadRequest");
    assert!(refused["message"].as_str().is_some_and(|why| why.contains(r#"duplicate field "spec.kind""#)), "{refused}");
    assert!(api.names(&objects(&kind, 0)).await.is_empty());
}

pub async fn fields_metadata(api: &Api) {
    let template =
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let schema =
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"template": template}}}});
    let kind = definition("metadata.example.com", "Foo", &[("v1", schema)]);
    define(api, &kind).await;
    let inner =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "unknownSubMeta": "y"}});
    let mut wrong = object(&kind, 0, "o", json!({"spec": {"template": inner}}));
    wrong["metadata"]["unknownMeta"] = "z".into();
    let refused = created(api, &kind, &wrong.to_string()).await.failed(400, "BadRequest");
    let message = refused["message"].as_str().expect("a message");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        assert!(message.contains(&format!("unknown field \"{field}\"")), "{message}");
    }
    assert!(api.names(&objects(&kind, 0)).await.is_empty());
}
