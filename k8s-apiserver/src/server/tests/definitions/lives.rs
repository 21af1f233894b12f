//! The life of a definition, and of the objects that depend on it.

use std::sync::Arc;

use futures::FutureExt;
use k8s_store::{Memory, Page, Store};

use super::*;
use crate::server::tests::{
    clock::paused,
    fixture::{over, server, target},
};

const NAME: &str = "wheels.example.com";

fn wheel(name: &str) -> Doc {
    doc!({"metadata": {"name": name}, "spec": {"size": 3}})
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_served_once_its_names_are_accepted() {
    let api = server().await;
    assert_eq!(refusal(api.read_wheel("v1/a").await, 404), "the server could not find the requested resource");
    let defined = api.define(wheels(anything())).await;
    assert_eq!(condition(&defined, "NamesAccepted"), "True");
    let accepted = defined.at(&["status", "acceptedNames"]).unwrap();
    assert_eq!((accepted.str_at(&["singular"]), accepted.str_at(&["listKind"])), ("wheel", "WheelList"));
    assert_eq!(defined.at(&["status", "storedVersions"]).unwrap().to_string(), r#"["v1"]"#);
    let made = api.make_wheel(wheel("a")).await.unwrap();
    assert_eq!((made.str_at(&["apiVersion"]), made.str_at(&["kind"])), ("example.com/v1", "Wheel"));
    assert_eq!(made.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(1));
    assert_eq!(api.read_wheel("v1/a").await.unwrap(), made);
    let stored = api.store.list("/registry/example.com/wheels/", Page::all()).await.unwrap();
    assert_eq!(stored.entries[0].key.as_str(), "/registry/example.com/wheels/default/a");
    let definitions = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
    assert_eq!(api.store.list(definitions, Page::all()).await.unwrap().entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn definitions_are_watched_listed_and_deleted_by_label() {
    let api = server().await;
    let mut watch = api.watch("customresourcedefinitions", "", Options::default()).await.unwrap();
    for number in 0..3 {
        let mut definition = wheels(anything());
        definition.set_at(&["metadata", "name"], format!("wheels.e{number}.com").into());
        definition.set_at(&["metadata", "labels"], doc!({"odd": (number % 2).to_string()}));
        definition.set_at(&["spec", "group"], format!("e{number}.com").into());
        api.define(definition).await;
    }
    let even = Options { label_selector: "odd=0".parse().unwrap(), ..Options::default() };
    let list = api.list("customresourcedefinitions", "", even.clone()).await.unwrap();
    assert_eq!(list.items.len(), 2);
    let all = target("customresourcedefinitions", "");
    let deletion = ApiRequest { verb: Verb::DeleteCollection, target: all, options: even, ..ApiRequest::default() };
    api.ask(deletion).await.unwrap();
    for name in ["wheels.e0.com", "wheels.e2.com"] {
        api.until_gone(name).await;
    }
    let left = api.list("customresourcedefinitions", "", Options::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    let mut told = Vec::new();
    while let Some(Some(Ok(event))) = watch.next().now_or_never() {
        told.push(format!("{event:?}").split('(').next().unwrap_or("").to_owned());
    }
    for word in ["Added", "Modified", "Deleted"] {
        assert!(told.iter().any(|told| told == word), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_definition_is_read_and_written_as_a_subresource() {
    let api = server().await;
    api.define(wheels(anything())).await;
    let path = "customresourcedefinitions/wheels.example.com/status";
    let mut read = api.get(path, "").await.unwrap();
    let condition = doc!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "set by a test"});
    read.at_mut(&["status", "conditions"]).and_then(Doc::as_array_mut).unwrap().push(condition);
    let updated = api.update(path, "", read).await.unwrap();
    assert_eq!(super::condition(&updated, "StatusUpdate"), "True");
    let patch = doc!({"metadata": {"annotations": {"a": "b"}}, "status": {"storedVersions": ["v1"]}});
    let patched = api.patch(path, "", PatchKind::Merge, patch).await.unwrap();
    assert_eq!(super::condition(&patched, "StatusUpdate"), "True");
    let wrong = api.patch(path, "", PatchKind::Merge, doc!({"status": {"storedVersions": ["v9"]}})).await;
    assert!(refusal(wrong, 422).contains("missing from spec.versions"));
    assert_eq!(super::condition(&api.until(NAME, |_| true).await, "Established"), "True");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_ends_takes_its_objects_and_watches_along() {
    let api = server().await;
    api.define(wheels(anything())).await;
    for name in ["a", "b"] {
        api.make_wheel(wheel(name)).await.unwrap();
    }
    let watch = api.watch_wheels("v1").await;
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    let ending = api.until(NAME, |doc| condition(doc, "Terminating") == "True").now_or_never();
    assert!(ending.is_some(), "it is marked before the answer");
    assert!(refusal(api.make_wheel(wheel("c")).await, 405).contains("while custom resource definition is terminating"));
    api.until_gone(NAME).await;
    assert_eq!(rest(watch).await, ["Added a", "Added b", "Deleted a", "Deleted b"]);
    assert_eq!(refusal(api.read_wheel("v1/a").await, 404), "the server could not find the requested resource");
    let left = api.store.list("/registry/example.com/", Page::all()).await.unwrap();
    assert!(left.entries.is_empty(), "{:?}", left.entries);
    api.define(wheels(anything())).await;
    assert_eq!(api.wheel_names(Options::default()).await.unwrap(), Vec::<String>::new(), "made anew, it is empty");
    api.make_wheel(wheel("a")).await.unwrap();
    assert_eq!(api.wheel_names(Options::default()).await.unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_held_holds_its_definition() {
    let api = server().await;
    api.define(wheels(anything())).await;
    let mut held = wheel("a");
    held.set_at(&["metadata", "finalizers"], doc!(["example.com/hold"]));
    api.make_wheel(held).await.unwrap();
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    api.env.sleep(Duration::from_secs(5)).await;
    assert!(api.until(NAME, |_| true).await.at(&["metadata", "finalizers"]).is_some());
    let release = RequestBody::Patch(PatchKind::Merge, doc!({"metadata": {"finalizers": null}}));
    api.wheel(Verb::Patch, "v1/a", release).await.unwrap();
    api.until_gone(NAME).await;
}

#[tokio::test(start_paused = true)]
async fn two_definitions_do_not_share_a_name() {
    let api = server().await;
    api.define(wheels(anything())).await;
    let mut other = wheels(anything());
    other.set_at(&["metadata", "name"], "rounds.example.com".into());
    other.set_at(&["spec", "names", "plural"], "rounds".into());
    api.create("customresourcedefinitions", "", other).await.unwrap();
    let refused = api.until("rounds.example.com", |doc| condition(doc, "NamesAccepted") == "False").await;
    assert_eq!(condition(&refused, "Established"), "False");
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    api.until("rounds.example.com", |doc| condition(doc, "Established") == "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_brings_custom_objects_back_and_watches_resume_over_it() {
    let env = paused();
    let store: Arc<dyn Store> = Arc::new(Memory::new(env.clone()));
    let first = over(store.clone(), env.clone(), |builder| builder).await;
    first.define(wheels(anything())).await;
    let one = first.make_wheel(wheel("a")).await.unwrap();
    first.make_wheel(wheel("b")).await.unwrap();
    first.api.shutdown().await;
    let second = over(store, env, |builder| builder).await;
    assert_eq!(second.wheel_names(Options::default()).await.unwrap(), ["a", "b"], "served from the first moment on");
    let target = Target::all(ResourceType::new("example.com", "v1", "wheels"), "default");
    let resource_version = one.str_at(&["metadata", "resourceVersion"]).parse().ok();
    let options = Options { resource_version, ..Options::default() };
    let resumed = ApiRequest { verb: Verb::Watch, target, options, ..ApiRequest::default() };
    let mut watch = second.ask(resumed).await.unwrap().into_watch().unwrap();
    assert_eq!(crate::server::tests::fixture::next(&mut watch).await, "ADDED b");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_no_version_serves_is_emptied_all_the_same() {
    let api = server().await;
    let unserved = wheels(anything());
    api.define(unserved).await;
    api.make_wheel(wheel("a")).await.unwrap();
    let mut versions = doc!([{"name": "v1", "served": false, "storage": true}]);
    versions.set_at(&["0", "schema"], doc!({"openAPIV3Schema": anything()}));
    api.redefine(NAME, doc!({"spec": {"versions": versions}})).await;
    assert_eq!(refusal(api.read_wheel("v1/a").await, 404), "the server could not find the requested resource");
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    api.until_gone(NAME).await;
    let left = api.store.list("/registry/example.com/", Page::all()).await.unwrap();
    assert!(left.entries.is_empty(), "what no version serves goes as well");
}
