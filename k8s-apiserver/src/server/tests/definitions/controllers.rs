//! Controllers that care for every kind care for custom ones, too, from when they come to when they go.

use k8s_controllers::{custom_kinds, garbage, namespace};
use k8s_core::{
    registry::{Kinds, Registry},
    request::Caller,
};
use k8s_reconcile::Client;

use super::*;
use crate::server::tests::fixture::server;

fn client(api: &Fixture) -> Client {
    Client::new(api.api.transport(Caller::new("controllers", &["system:masters"])), api.env.clone())
}

fn owned(name: &str, owner: &Doc) -> Doc {
    let reference = doc!([{"apiVersion": owner.str_at(&["apiVersion"]), "kind": owner.str_at(&["kind"]),
        "name": owner.str_at(&["metadata", "name"]), "uid": owner.str_at(&["metadata", "uid"])}]);
    doc!({"metadata": {"name": name, "ownerReferences": reference}})
}

async fn until_missing(api: &Fixture, path: &str, namespace: &str) {
    for _ in 0..600 {
        if api.get(path, namespace).await.is_err_and(|error| error.is_not_found()) {
            return;
        }
        api.env.sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} is still there");
}

#[tokio::test(start_paused = true)]
async fn custom_objects_own_are_owned_and_go_with_their_namespace() {
    let api = server().await;
    let _collector = garbage::start(client(&api), api.api.kinds().clone());
    let _namespaces = namespace::controller(api.api.kinds().clone()).start(client(&api));
    api.define(wheels(anything())).await;
    let owner = api.make_wheel(doc!({"metadata": {"name": "owner"}})).await.unwrap();
    api.create("configmaps", "default", owned("below", &owner)).await.unwrap();
    api.make_wheel(owned("spoke", &owner)).await.unwrap();
    let target = Target::one(ResourceType::new("example.com", "v1", "wheels"), "default", "owner");
    api.ask(ApiRequest { verb: Verb::Delete, target, ..ApiRequest::default() }).await.unwrap();
    until_missing(&api, "configmaps/below", "default").await;
    for _ in 0..600 {
        if api.wheel_names(Options::default()).await.unwrap().is_empty() {
            break;
        }
        api.env.sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(api.wheel_names(Options::default()).await.unwrap(), Vec::<String>::new());

    api.create("namespaces", "", doc!({"metadata": {"name": "n"}})).await.unwrap();
    let target = Target::all(ResourceType::new("example.com", "v1", "wheels"), "n");
    let body = RequestBody::Doc(doc!({"metadata": {"name": "a"}}));
    api.ask(ApiRequest { verb: Verb::Create, target, body, ..ApiRequest::default() }).await.unwrap();
    api.delete("namespaces/n", "", Options::default()).await.unwrap();
    until_missing(&api, "namespaces/n", "").await;
    let target = Target::all(ResourceType::new("example.com", "v1", "wheels"), "");
    let left =
        api.ask(ApiRequest { verb: Verb::List, target, ..ApiRequest::default() }).await.unwrap().into_list().unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items);
}

#[tokio::test(start_paused = true)]
async fn what_a_kind_that_ends_has_owned_goes_after_it() {
    let api = server().await;
    let _collector = garbage::start(client(&api), api.api.kinds().clone());
    api.define(wheels(anything())).await;
    let owner = api.make_wheel(doc!({"metadata": {"name": "owner"}})).await.unwrap();
    api.create("configmaps", "default", owned("below", &owner)).await.unwrap();
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    until_missing(&api, "configmaps/below", "default").await;
    api.until_gone("wheels.example.com").await;
}

#[tokio::test(start_paused = true)]
async fn a_table_of_kinds_follows_a_cluster_that_is_reached_by_a_client() {
    let api = server().await;
    let kinds = std::sync::Arc::new(Kinds::new(Registry::builtin()));
    let _following = custom_kinds::follow(&client(&api), kinds.clone());
    api.define(wheels(anything())).await;
    until_known(&kinds, true).await;
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    until_known(&kinds, false).await;
    api.until_gone("wheels.example.com").await;
}

async fn until_known(kinds: &Kinds, is_known: bool) {
    loop {
        let now = kinds.now();
        if now.find(&ResourceType::new("example.com", "v1", "wheels")).is_some() == is_known {
            return;
        }
        kinds.changed_from(&now).await;
    }
}
