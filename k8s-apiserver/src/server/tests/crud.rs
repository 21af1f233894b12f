//! Create, read, update, patch, delete: of every kind that is served, and in detail of a few.

use k8s_core::{
    doc,
    doc::Doc,
    registry::{Registry, ResourceInfo},
    request::{ApiRequest, FieldValidation, Options, PatchKind, RequestBody, ResourceType, Target, Verb},
};

use super::{
    fixture::{built, names, revision, server, target},
    samples::sample,
};

/// A valid body of a kind, but for its name.
pub fn example(plural: &str) -> Doc {
    sample("v1", plural)
}

fn config_map(name: &str) -> Doc {
    doc!({"metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test(start_paused = true)]
async fn a_name_is_generated_where_only_its_beginning_is_given() {
    let api = server().await;
    let body = doc!({"metadata": {"generateName": "web-"}});
    let created = api.create("configmaps", "default", body.clone()).await.unwrap();
    let name = created.str_at(&["metadata", "name"]).to_owned();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    assert_ne!(api.create("configmaps", "default", body).await.unwrap().str_at(&["metadata", "name"]), name);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_duplicate_fields_are_treated_as_asked() {
    let api = server().await;
    let body = |name: &str| {
        let mut body = config_map(name);
        body.set_at(&["stranger"], "x".into());
        body
    };
    let ask = |name: &'static str, field_validation| {
        let options = Options { field_validation, ..Options::default() };
        let request = ApiRequest {
            verb: Verb::Create,
            target: target("configmaps", "default"),
            options,
            body: RequestBody::Doc(body(name)),
            duplicates: vec!["duplicate field \"data\"".into()],
            ..ApiRequest::default()
        };
        let api = api.clone();
        async move { api.ask(request).await }
    };
    let expected = ["unknown field \"stranger\"", "duplicate field \"data\""];
    let warned = ask("warn", FieldValidation::Warn).await.unwrap();
    assert_eq!(warned.warnings, expected);
    let stored = api.get("configmaps/warn", "default").await.unwrap();
    assert_eq!(stored.get("stranger"), None, "what is unknown is dropped");
    assert!(ask("ignore", FieldValidation::Ignore).await.unwrap().warnings.is_empty());
    let error = ask("strict", FieldValidation::Strict).await.unwrap_err();
    assert_eq!(error.code(), 400);
    for part in expected {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(api.get("configmaps/strict", "default").await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_through_their_own_doors() {
    let api = server().await;
    let mut body = example("deployments");
    body.set_at(&["metadata", "name"], "d".into());
    body.set_at(&["status", "replicas"], 7.into());
    let created = api.create("deployments", "default", body).await.unwrap();
    assert_eq!(created.at(&["status", "replicas"]), None, "a client does not create a status");
    assert_eq!(created.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(1));
    let mut wanted = created.clone();
    wanted.set_at(&["status", "replicas"], 3.into());
    wanted.set_at(&["spec", "replicas"], 9.into());
    let status = api.update("deployments/d/status", "default", wanted).await.unwrap();
    assert_eq!(status.at(&["status", "replicas"]).and_then(Doc::as_i64), Some(3));
    assert_eq!(status.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(1));
    assert_eq!(status.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(1));
    let spec = doc!({"spec": {"replicas": 2}, "status": {"replicas": 0}});
    let patched = api.patch("deployments/d", "default", PatchKind::Merge, spec).await.unwrap();
    assert_eq!(patched.at(&["status", "replicas"]).and_then(Doc::as_i64), Some(3));
    assert_eq!(patched.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_scale_of_a_workload_is_read_and_written() {
    let api = server().await;
    let mut body = example("deployments");
    body.set_at(&["metadata", "name"], "d".into());
    api.create("deployments", "default", body).await.unwrap();
    let mut scale = api.get("deployments/d/scale", "default").await.unwrap();
    assert_eq!((scale.str_at(&["kind"]), scale.str_at(&["status", "selector"])), ("Scale", "a=b"));
    scale.set_at(&["spec", "replicas"], 4.into());
    let scaled = api.update("deployments/d/scale", "default", scale.clone()).await.unwrap();
    assert_eq!(scaled.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(4));
    assert_eq!(api.update("deployments/d/scale", "default", scale).await.unwrap_err().code(), 409);
    let patch = doc!({"spec": {"replicas": 5}});
    api.patch("deployments/d/scale", "default", PatchKind::Merge, patch).await.unwrap();
    let deployment = api.get("deployments/d", "default").await.unwrap();
    assert_eq!(deployment.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(5));
    assert_eq!(deployment.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(3));
    let negative = doc!({"spec": {"replicas": (-1)}});
    let error = api.patch("deployments/d/scale", "default", PatchKind::Merge, negative).await.unwrap_err();
    assert_eq!(error.code(), 422, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let api = server().await;
    api.create("configmaps", "default", config_map("a")).await.unwrap();
    let before = api.digest().await;
    let dry = || Options { dry_run: true, ..Options::default() };
    let body = || RequestBody::Doc(config_map("b"));
    let created = api.call(Verb::Create, "configmaps", "default", dry(), body()).await.unwrap().into_doc().unwrap();
    assert_eq!(created.str_at(&["metadata", "uid"]).len(), 36);
    let patch = RequestBody::Patch(PatchKind::Merge, doc!({"data": {"k": "w"}}));
    let patched = api.call(Verb::Patch, "configmaps/a", "default", dry(), patch).await.unwrap().into_doc().unwrap();
    assert_eq!(patched.str_at(&["data", "k"]), "w");
    api.delete("configmaps/a", "default", dry()).await.unwrap();
    let again = api.call(Verb::Create, "configmaps", "default", dry(), RequestBody::Doc(config_map("a"))).await;
    assert_eq!(again.unwrap_err().code(), 409);
    let service = RequestBody::Doc(doc!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}));
    api.call(Verb::Create, "services", "default", dry(), service).await.unwrap();
    assert_eq!(before, api.digest().await);
}

#[tokio::test(start_paused = true)]
async fn patches_merge_as_their_kinds_say() {
    let api = server().await;
    let mut body = example("pods");
    body.set_at(&["metadata", "name"], "p".into());
    api.create("pods", "default", body).await.unwrap();
    let strategic = doc!({"spec": {"containers": [{"name": "c", "image": "j"}]}});
    let patched = api.patch("pods/p", "default", PatchKind::Strategic, strategic).await.unwrap();
    assert_eq!(patched.at(&["spec", "containers"]).map(|list| list.items().len()), Some(1));
    assert_eq!(patched.str_at(&["spec", "containers", "0", "image"]), "j");
    let json = doc!([{"op": "test", "path": "/spec/containers/0/image", "value": "j"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "k"}]);
    let patched = api.patch("pods/p", "default", PatchKind::Json, json.clone()).await.unwrap();
    assert_eq!(patched.str_at(&["spec", "containers", "0", "image"]), "k");
    assert_eq!(api.patch("pods/p", "default", PatchKind::Json, json).await.unwrap_err().code(), 422);
    let stale = doc!({"metadata": {"resourceVersion": "1", "labels": {"x": "y"}}});
    assert_eq!(api.patch("pods/p", "default", PatchKind::Merge, stale).await.unwrap_err().code(), 409);
}

#[tokio::test(start_paused = true)]
async fn patches_that_meet_are_all_applied() {
    let api = server().await;
    api.create("configmaps", "default", config_map("a")).await.unwrap();
    let patches = (0..10).map(|n| {
        let api = api.clone();
        async move {
            let key = format!("key-{n}");
            let mut patch = doc!({});
            patch.set_at(&["data", &key], "x".into());
            api.patch("configmaps/a", "default", PatchKind::Merge, patch).await.unwrap();
        }
    });
    futures::future::join_all(patches).await;
    let data = api.get("configmaps/a", "default").await.unwrap();
    assert_eq!(data.get("data").and_then(Doc::as_object).map(|map| map.len()), Some(11));
}

#[tokio::test(start_paused = true)]
async fn appliers_share_an_object_and_conflict_over_a_field() {
    let api = server().await;
    let config = |data: Doc| doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    let one = api.apply("configmaps/a", "default", "one", config(doc!({"x": "1"}))).await.unwrap();
    assert_eq!(one.str_at(&["metadata", "managedFields", "0", "manager"]), "one");
    let again = api.apply("configmaps/a", "default", "one", config(doc!({"x": "1"}))).await.unwrap();
    assert_eq!(revision(&again), revision(&one), "what is applied already changes nothing");
    let two = api.apply("configmaps/a", "default", "two", config(doc!({"y": "2"}))).await.unwrap();
    assert_eq!((two.str_at(&["data", "x"]), two.str_at(&["data", "y"])), ("1", "2"));
    let error = api.apply("configmaps/a", "default", "two", config(doc!({"x": "2"}))).await.unwrap_err();
    assert_eq!(error.code(), 409, "{error}");
    let forced = Options { field_manager: Some("two".into()), force: true, ..Options::default() };
    let body = RequestBody::Patch(PatchKind::Apply, config(doc!({"x": "2"})));
    let forced = api.call(Verb::Patch, "configmaps/a", "default", forced, body).await.unwrap().into_doc().unwrap();
    assert_eq!(forced.str_at(&["data", "x"]), "2");
    assert_eq!(forced.at(&["data", "y"]), None, "what is no longer applied goes");
    let anonymous = api.patch("configmaps/a", "default", PatchKind::Apply, config(doc!({}))).await.unwrap_err();
    assert_eq!(anonymous.code(), 422, "{anonymous}");
}

#[tokio::test(start_paused = true)]
async fn custom_kinds_are_served_like_built_in_ones() {
    let builtin = Registry::builtin();
    let schema = builtin.iter().find(|info| info.plural == "configmaps").and_then(|info| builtin.schema(info)).unwrap();
    let registry = builtin.with(ResourceInfo::custom("example.com", "v1", "wheels", "Wheel", schema));
    let api = built(|builder| builder.registry(registry)).await;
    let wheels = Target::all(ResourceType::new("example.com", "v1", "wheels"), "default");
    let body = RequestBody::Doc(doc!({"metadata": {"name": "w"}, "data": {"spokes": "32"}}));
    let create = ApiRequest { verb: Verb::Create, target: wheels.clone(), body, ..ApiRequest::default() };
    let created = api.ask(create).await.unwrap().into_doc().unwrap();
    assert_eq!((created.str_at(&["apiVersion"]), created.str_at(&["kind"])), ("example.com/v1", "Wheel"));
    let list = ApiRequest { verb: Verb::List, target: wheels, ..ApiRequest::default() };
    assert_eq!(names(&api.ask(list).await.unwrap().into_list().unwrap()), ["w"]);
}
