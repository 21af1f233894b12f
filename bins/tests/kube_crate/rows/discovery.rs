//! What the server says that it serves, and objects whose kind is known only then.

use http::Request;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersion,
    discovery::{self, Discovery, Scope, verbs},
};
use serde_json::{Value, json};

use crate::world::{World, object};

pub async fn versions_and_kinds(world: &World) {
    let client = &world.client;
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "37"));
    let old = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let kinds = |discovery: &Discovery| -> Vec<String> {
        let groups = discovery.groups_alphabetical();
        let all = groups.iter().flat_map(|group| group.recommended_resources());
        all.map(|(kind, can)| format!("{} {} {:?} {:?}", kind.api_version, kind.kind, can.scope, can.operations))
            .collect()
    };
    assert_eq!(kinds(&old), kinds(&aggregated), "both kinds of discovery say the same");
    let (deployments, can) = aggregated.resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment")).unwrap();
    assert_eq!(deployments.plural, "deployments");
    assert!(can.scope == Scope::Namespaced && can.supports_operation(verbs::WATCH));
    let below: Vec<&str> = can.subresources.iter().map(|(below, _)| below.plural.as_str()).collect();
    assert!(below.contains(&"deployments/scale") || below.contains(&"scale"), "{below:?}");
    let apps = discovery::group(client, "apps").await.unwrap();
    assert_eq!(apps.preferred_version(), Some("v1"));
    let pinned = discovery::pinned_group(client, &GroupVersion::gv("coordination.k8s.io", "v1")).await.unwrap();
    assert!(pinned.recommended_kind("Lease").is_some());
    let nodes = discovery::pinned_kind(client, &GroupVersionKind::gvk("", "v1", "Node")).await.unwrap();
    assert_eq!(nodes.1.scope, Scope::Cluster);
}

pub async fn dynamic_objects(world: &World) {
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (kind, _) = discovery::pinned_kind(&world.client, &kind).await.unwrap();
    let deployments: Api<DynamicObject> = Api::default_namespaced_with(world.client.clone(), &kind);
    let made: DynamicObject = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
    }));
    let made = deployments.create(&PostParams::default(), &made).await.unwrap();
    assert_eq!(made.data["spec"]["strategy"]["type"], "RollingUpdate", "defaults are there");
    let change = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"paused": true}});
    let applied = deployments.patch("web", &PatchParams::apply("row"), &Patch::Apply(change)).await.unwrap();
    assert_eq!(applied.data["spec"]["paused"], true);
    assert_eq!(deployments.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let fetched = deployments.get("web").await.unwrap();
    assert_eq!((fetched.types.as_ref().unwrap().kind.as_str(), fetched.name_any().as_str()), ("Deployment", "web"));
    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    // A kind that is guessed from its name, with none of the discovery's help.
    let guessed = ApiResource::from_gvk(&GroupVersionKind::gvk("scheduling.k8s.io", "v1", "PriorityClass"));
    let classes: Api<DynamicObject> = Api::all_with(world.client.clone(), &guessed);
    let class: DynamicObject = object(json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "c"}, "value": 5}));
    classes.create(&PostParams::default(), &class).await.unwrap();
    assert_eq!(classes.get("c").await.unwrap().data["value"], 5);
}

pub async fn tables(world: &World) {
    let request = Request::get("/api/v1/namespaces?limit=2")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(Vec::new())
        .unwrap();
    let table: Value = world.client.request(request).await.unwrap();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Status", "Age"]);
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(rows[0]["cells"].as_array().unwrap().len(), columns.len());
    assert!(!table["metadata"]["continue"].as_str().unwrap().is_empty());
}
