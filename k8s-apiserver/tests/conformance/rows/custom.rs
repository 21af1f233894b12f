//! Custom kinds: their definitions, what is published of them, and how their objects are validated.

use serde_json::{Value, json};

use crate::api::{Answer, Api, name};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WHEELS: &str = "/apis/example.com/v1/wheels";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn version(name: &str, schema: &Value) -> Value {
    json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}})
}

/// A cluster-scoped kind with these versions.
fn definition(group: &str, kind: &str, versions: &[Value]) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Cluster", "names": {"plural": plural, "kind": kind}, "versions": versions}
    })
}

fn wheels(schema: &Value) -> Value {
    definition("example.com", "Wheel", &[version("v1", schema)])
}

fn is_established(answer: &Answer) -> bool {
    let conditions = answer.value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// Creates a definition and waits until it is established.
async fn define(api: &Api, definition: &Value) -> Value {
    let made = api.create(DEFINITIONS, definition).await;
    api.wait_until(&format!("{DEFINITIONS}/{}", name(&made)), is_established).await.value
}

pub async fn create(api: &Api) {
    define(api, &wheels(&anything())).await;
    api.delete(&format!("{DEFINITIONS}/wheels.example.com")).await.expect(200);
    api.wait_until(&format!("{DEFINITIONS}/wheels.example.com"), |answer| answer.code == 404).await;
}

pub async fn list(api: &Api) {
    for number in 0..10 {
        let mut one = definition(&format!("g{number}.example.com"), "Wheel", &[version("v1", &anything())]);
        one["metadata"]["labels"] = json!({"e2e": "mine"});
        define(api, &one).await;
    }
    define(api, &wheels(&anything())).await;
    let mine = format!("{DEFINITIONS}?labelSelector=e2e%3Dmine");
    assert_eq!(api.items(&mine).await.len(), 10);
    api.delete(&mine).await.expect(200);
    let none_left = |answer: &Answer| answer.value["items"].as_array().is_some_and(Vec::is_empty);
    api.wait_until(&mine, none_left).await;
    assert_eq!(api.names(DEFINITIONS).await, ["wheels.example.com"]);
}

pub async fn status(api: &Api) {
    define(api, &wheels(&anything())).await;
    let path = format!("{DEFINITIONS}/wheels.example.com/status");
    let mut read = api.read(&path).await;
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    read["status"]["conditions"].as_array_mut().expect("conditions").push(condition);
    let updated = api.put(&path, &read).await.expect(200);
    assert!(updated["status"]["conditions"].to_string().contains("StatusUpdate"), "{updated}");
    let mut conditions = updated["status"]["conditions"].clone();
    conditions.as_array_mut().expect("conditions").retain(|condition| condition["type"] != "StatusUpdate");
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": conditions}});
    let patched = api.patch(&path, "merge", &patch).await.expect(200);
    assert!(!patched["status"]["conditions"].to_string().contains("StatusUpdate"), "{patched}");
}

pub async fn defaulting(api: &Api) {
    let schema = |a: Value, b: Value| json!({"type": "object", "properties": {"a": a, "b": b}});
    let (plain, by_default) = (json!({"type": "string"}), |text: &str| json!({"type": "string", "default": text}));
    let redefine = async |schema: Value| {
        let patch = json!({"spec": {"versions": [version("v1", &schema)]}});
        api.patch(&format!("{DEFINITIONS}/wheels.example.com"), "merge", &patch).await.expect(200);
    };
    let wheel = |name: &str| json!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": name}});
    define(api, &wheels(&schema(plain.clone(), plain.clone()))).await;
    assert_eq!(api.create(WHEELS, &wheel("one")).await.get("a"), None);
    redefine(schema(by_default("A"), plain.clone())).await;
    api.wait_until(&format!("{WHEELS}/one"), |answer| answer.value["a"] == "A").await;
    assert_eq!(api.create(WHEELS, &wheel("two")).await["a"], "A");
    redefine(schema(plain, by_default("B"))).await;
    let two = api.wait_until(&format!("{WHEELS}/two"), |answer| answer.value["b"] == "B").await;
    assert_eq!(two.value["a"], "A");
}

pub async fn discovery(api: &Api) {
    let groups = api.read("/apis").await;
    let group =
        groups["groups"].as_array().expect("groups").iter().find(|group| group["name"] == "apiextensions.k8s.io");
    assert_eq!(group.expect("the group")["preferredVersion"]["version"], "v1");
    let group = api.read("/apis/apiextensions.k8s.io").await;
    assert!(group["versions"].as_array().expect("versions").iter().any(|version| version["version"] == "v1"));
    let resources = api.read("/apis/apiextensions.k8s.io/v1").await;
    let mut resources = resources["resources"].as_array().expect("resources").iter();
    assert!(resources.any(|resource| resource["name"] == "customresourcedefinitions"));
}

pub async fn watch(api: &Api) {
    let mut watch = api.watch(&format!("{DEFINITIONS}?watch=1")).await;
    define(api, &wheels(&anything())).await;
    watch.expect("ADDED", "wheels.example.com").await;
    watch.expect("MODIFIED", "wheels.example.com").await;
    let mut objects = api.watch(&format!("{WHEELS}?watch=1")).await;
    let wheel = json!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}});
    api.create(WHEELS, &wheel).await;
    objects.expect("ADDED", "a").await;
    api.delete(&format!("{DEFINITIONS}/wheels.example.com")).await.expect(200);
    objects.expect("DELETED", "a").await;
    api.wait_until(&format!("{DEFINITIONS}/wheels.example.com"), |answer| answer.code == 404).await;
}

/// What a document of OpenAPI version 3 says of a definition, once it says anything.
async fn published(api: &Api, group_version: &str, definition: &str) -> Value {
    let path = format!("/openapi/v3/apis/{group_version}");
    let there = |answer: &Answer| answer.value["components"]["schemas"].get(definition).is_some();
    api.wait_until(&path, there).await.value["components"]["schemas"][definition].clone()
}

fn with_rules() -> Value {
    json!({"type": "object", "description": "Foo CRD for Testing", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "properties": {
            "bars": {"type": "array", "description": "List of Bars and their specs.", "items": {
                "type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "description": "Name of Bar."},
                    "age": {"type": "string", "description": "Age of Bar."}}}}}}}})
}

pub async fn published_schema(api: &Api) {
    define(api, &wheels(&with_rules())).await;
    let published = published(api, "example.com/v1", "com.example.v1.Wheel").await;
    assert_eq!(published["properties"]["spec"], with_rules()["properties"]["spec"]);
    assert_eq!(published["description"], "Foo CRD for Testing");
    let gvk = json!([{"group": "example.com", "version": "v1", "kind": "Wheel"}]);
    assert_eq!(published["x-kubernetes-group-version-kind"], gvk);
    let whole = api.read("/openapi/v2").await;
    let two = &whole["definitions"]["com.example.v1.Wheel"];
    assert_eq!(two["properties"]["spec"], with_rules()["properties"]["spec"]);
    let wheel = |bars: Value| json!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}, "spec": {"bars": bars}});
    let strict = format!("{WHEELS}?fieldValidation=Strict");
    api.post(&strict, &wheel(json!([{"name": "test-bar"}]))).await.expect(201);
    api.post(&strict, &wheel(json!([{"name": "x", "odd": "y"}]))).await.failed(400, "BadRequest");
    api.post(&strict, &wheel(json!([{"age": "10"}]))).await.failed(422, "Invalid");
}

pub async fn published_open_schemas(api: &Api) {
    let spec = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}}});
    let embedded = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "dummy": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    for (kind, schema) in [("Root", anything()), ("Inner", spec), ("Embedded", embedded)] {
        define(api, &definition("example.com", kind, &[version("v1", &schema)])).await;
        let name = format!("com.example.v1.{kind}");
        let published = published(api, "example.com/v1", &name).await;
        assert!(published["properties"]["kind"].is_object(), "{published}");
        let object = json!({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {
            "dummy": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "odd": 1}}});
        let path = format!("/apis/example.com/v1/{}s?fieldValidation=Strict", kind.to_lowercase());
        let made = api.post(&path, &object).await.expect(201);
        assert_eq!(made["spec"]["dummy"]["odd"], 1, "{made}");
    }
    let whole = api.read("/openapi/v2").await;
    assert_eq!(whole["definitions"]["com.example.v1.Root"].get("properties"), None);
    let inner = &whole["definitions"]["com.example.v1.Inner"]["properties"]["spec"];
    assert_eq!(*inner, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let dummy = &whole["definitions"]["com.example.v1.Embedded"]["properties"]["spec"]["properties"]["dummy"];
    assert_eq!(dummy["x-kubernetes-embedded-resource"], true);
}

pub async fn published_groups_kinds_and_versions(api: &Api) {
    let both = [version("v1", &anything()), version("v2", &anything())];
    for (group, kind) in [("a.example.com", "Foo"), ("b.example.com", "Foo"), ("b.example.com", "Bar")] {
        define(api, &definition(group, kind, &both)).await;
    }
    for (group, kind) in [("a", "Foo"), ("b", "Foo"), ("b", "Bar")] {
        for version in ["v1", "v2"] {
            let definition = format!("com.example.{group}.{version}.{kind}");
            published(api, &format!("{group}.example.com/{version}"), &definition).await;
        }
    }
}

pub async fn published_changes(api: &Api) {
    let two = [version("v1", &anything()), version("v2", &anything())];
    define(api, &definition("example.com", "Wheel", &two)).await;
    published(api, "example.com/v2", "com.example.v2.Wheel").await;
    let before = api.read("/openapi/v3").await["paths"]["apis/example.com/v1"].clone();
    let path = format!("{DEFINITIONS}/wheels.example.com");
    let renamed = json!([{"op": "test", "path": "/spec/versions/1/name", "value": "v2"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    api.patch(&path, "json", &renamed).await.expect(200);
    published(api, "example.com/v4", "com.example.v4.Wheel").await;
    api.get("/openapi/v3/apis/example.com/v2").await.failed(404, "NotFound");
    let retired = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    api.patch(&path, "json", &retired).await.expect(200);
    api.wait_until("/openapi/v3/apis/example.com/v4", |answer| answer.code == 404).await;
    let whole = api.read("/openapi/v2").await;
    assert!(whole["definitions"].get("com.example.v4.Wheel").is_none());
    assert!(whole["definitions"].get("com.example.v1.Wheel").is_some());
    let described =
        json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "Round."}]);
    api.patch(&path, "json", &described).await.expect(200);
    let moved = |answer: &Answer| answer.value["paths"]["apis/example.com/v1"] != before;
    api.wait_until("/openapi/v3", moved).await;
}

/// The kind of the rows about validation.
fn strict_schema(spec: &Value) -> Value {
    let ports = json!({"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": {
            "containerPort": {"type": "integer", "format": "int32"}, "hostIP": {"type": "string"},
            "hostPort": {"type": "integer", "format": "int32"}, "name": {"type": "string"}, "protocol": {"type": "string"}}}});
    let mut schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "foo": {"type": "string"}, "ports": ports,
        "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"}}}}});
    for (name, value) in spec.as_object().expect("an object") {
        match name.as_str() {
            "template" => schema["properties"]["spec"]["properties"]["template"] = value.clone(),
            _ => schema["properties"]["spec"][name] = value.clone(),
        }
    }
    schema
}

async fn apply(api: &Api, more_metadata: &str, spec: &str) -> Answer {
    let text = format!(
        "\napiVersion: example.com/v1\nkind: Wheel\nmetadata:\n  name: mytest\n{more_metadata}  finalizers:\n  - \
         example.com/test-finalizer\n{spec}  cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP"
    );
    let path = format!("{WHEELS}/mytest?fieldManager=field_validation_mgr&fieldValidation=Strict");
    api.send("PATCH", &path, Some(("application/apply-patch+yaml", text.into_bytes()))).await
}

pub async fn valid_object(api: &Api) {
    define(api, &wheels(&strict_schema(&json!({})))).await;
    apply(api, "", "spec:\n  foo: foo1\n").await.expect(201);
}

pub async fn unknown_fields_without_schema(api: &Api) {
    define(api, &wheels(&anything())).await;
    let made = apply(api, "", "spec:\n  unknown: uk1\n").await.expect(201);
    assert_eq!(made["spec"]["unknown"], "uk1");
}

pub async fn unknown_fields(api: &Api) {
    define(api, &wheels(&strict_schema(&json!({})))).await;
    let refused = apply(api, "", "unknownField: unknown\nspec:\n  foo: foo1\n").await;
    assert!(refused.code >= 400);
    assert!(refused.value.to_string().contains(".unknownField: field not declared in schema"), "{}", refused.value);
}

pub async fn unknown_metadata(api: &Api) {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}, "spec": {"type": "object"}}});
    let more = json!({"x-kubernetes-preserve-unknown-fields": true, "template": template});
    define(api, &wheels(&strict_schema(&more))).await;
    let spec = "spec:\n  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n        unknownSubMeta: unknown\n        \
                name: subobject\n        namespace: default\n  foo: foo1\n";
    let refused = apply(api, "  unknownMeta: unknown\n", spec).await;
    let text = refused.value.to_string();
    assert!(text.contains(".spec.template.metadata.unknownSubMeta: field not declared in schema"), "{text}");
    assert!(text.contains(".metadata.unknownMeta: field not declared in schema"), "{text}");
}

pub async fn duplicate_fields(api: &Api) {
    let more = json!({"x-kubernetes-preserve-unknown-fields": true});
    define(api, &wheels(&strict_schema(&more))).await;
    let refused = apply(api, "", "spec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n").await;
    let text = refused.value["message"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains(r#"line 11: key "foo" already set in map"#), "{text}");
}

pub async fn aggregated_discovery(api: &Api) {
    define(api, &wheels(&anything())).await;
    let document = api.send_accepting("GET", "/apis", AGGREGATED, None).await.expect(200);
    let group =
        document["items"].as_array().expect("items").iter().find(|item| item["metadata"]["name"] == "example.com");
    let version = &group.expect("the group")["versions"][0];
    assert_eq!((&version["version"], &version["resources"][0]["resource"]), (&json!("v1"), &json!("wheels")));
    assert_eq!(version["resources"][0]["responseKind"]["kind"], "Wheel");
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let wheel = json!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}});
    api.create(WHEELS, &wheel).await;
    let rows = api.send_accepting("GET", WHEELS, table, None).await.expect(200);
    let names: Vec<&Value> =
        rows["columnDefinitions"].as_array().expect("columns").iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["Name", "Age"]);
    assert_eq!(rows["rows"][0]["cells"][0], "a");
}
