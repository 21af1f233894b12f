//! The inner service through its own door: requests in, answers out, over a store in memory.

use std::sync::Arc;

use futures::StreamExt;
use k8s_core::{
    doc,
    doc::Doc,
    request::{
        ApiRequest, ApiResponse, Caller, Fence, Options, PatchKind, RequestBody, ResourceType, ResponseBody, Target, Verb,
        WatchEvent,
    },
    status::{ApiError, ApiResult, Reason},
};
use k8s_store::{Memory, Store};
use k8s_wire::env::System;

use super::ApiServer;

struct World {
    server: ApiServer,
    store: Arc<Memory>,
}

impl World {
    async fn new() -> Self {
        let env = System::current();
        let store = Arc::new(Memory::new(env.clone()));
        let server = ApiServer::builder(store.clone(), env).start().await.unwrap();
        let world = Self { server, store };
        let account = doc!({"metadata": {"name": "default"}});
        world.create("serviceaccounts", "default", account).await.unwrap();
        world
    }

    async fn ask(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.server.handle(Caller::new("admin", &["system:masters"]).with_agent("test/1"), request).await
    }

    async fn create(&self, plural: &str, namespace: &str, doc: Doc) -> ApiResult<Doc> {
        let body = RequestBody::Doc(doc);
        self.ask(ApiRequest { verb: Verb::Create, target: all(plural, namespace), body, ..Default::default() }).await?.into_doc()
    }

    async fn update(&self, plural: &str, namespace: &str, doc: Doc) -> ApiResult<Doc> {
        let target = one(plural, namespace, doc.str_at(&["metadata", "name"]));
        let body = RequestBody::Doc(doc);
        self.ask(ApiRequest { verb: Verb::Update, target, body, ..Default::default() }).await?.into_doc()
    }

    async fn patch(&self, plural: &str, name: &str, kind: PatchKind, patch: Doc, manager: &str) -> ApiResult<Doc> {
        let options = Options { field_manager: Some(manager.into()), ..Default::default() };
        let body = RequestBody::Patch(kind, patch);
        let target = one(plural, "default", name);
        self.ask(ApiRequest { verb: Verb::Patch, target, body, options, ..Default::default() }).await?.into_doc()
    }

    async fn get(&self, plural: &str, namespace: &str, name: &str) -> ApiResult<Doc> {
        let target = one(plural, namespace, name);
        self.ask(ApiRequest { verb: Verb::Get, target, ..Default::default() }).await?.into_doc()
    }

    async fn delete(&self, plural: &str, namespace: &str, name: &str, options: Options) -> ApiResult<ApiResponse> {
        let target = one(plural, namespace, name);
        self.ask(ApiRequest { verb: Verb::Delete, target, options, ..Default::default() }).await
    }
}

fn kind(plural: &str) -> ResourceType {
    let group = match plural {
        "deployments" | "replicasets" => "apps",
        "leases" => "coordination.k8s.io",
        "clusterroles" | "rolebindings" => "rbac.authorization.k8s.io",
        "jobs" => "batch",
        _ => "",
    };
    ResourceType::new(group, "v1", plural)
}

fn all(plural: &str, namespace: &str) -> Target {
    Target::all(kind(plural), namespace)
}

fn one(plural: &str, namespace: &str, name: &str) -> Target {
    Target::one(kind(plural), namespace, name)
}

fn map(name: &str) -> Doc {
    doc!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Doc {
    doc!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}})
}

fn code(result: ApiResult<impl std::fmt::Debug>) -> (u16, Reason) {
    let error: ApiError = result.expect_err("it must be refused");
    (error.code(), error.reason())
}

#[tokio::test]
async fn what_is_created_is_read_changed_and_deleted() {
    let world = World::new().await;
    let made = world.create("configmaps", "default", map("m")).await.unwrap();
    assert!(!made.str_at(&["metadata", "uid"]).is_empty());
    assert_eq!(code(world.create("configmaps", "default", map("m")).await), (409, Reason::AlreadyExists));
    let mut read = world.get("configmaps", "default", "m").await.unwrap();
    assert_eq!(read, made);
    read.set_at(&["data", "a"], Doc::String("2".into()));
    let changed = world.update("configmaps", "default", read.clone()).await.unwrap();
    assert_ne!(changed.str_at(&["metadata", "resourceVersion"]), made.str_at(&["metadata", "resourceVersion"]));
    assert_eq!(code(world.update("configmaps", "default", read).await), (409, Reason::Conflict), "a stale revision");
    world.delete("configmaps", "default", "m", Options::default()).await.unwrap();
    assert_eq!(code(world.get("configmaps", "default", "m").await), (404, Reason::NotFound));
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let made = world.create("configmaps", "default", map("m")).await.unwrap();
    let again = world.update("configmaps", "default", made.clone()).await.unwrap();
    assert_eq!(again.str_at(&["metadata", "resourceVersion"]), made.str_at(&["metadata", "resourceVersion"]));
}

#[tokio::test]
async fn pods_get_what_a_server_gives_them() {
    let world = World::new().await;
    let made = world.create("pods", "default", pod("p")).await.unwrap();
    assert_eq!(made.str_at(&["spec", "serviceAccountName"]), "default");
    assert_eq!(made.str_at(&["spec", "restartPolicy"]), "Always");
    assert_eq!(made.str_at(&["status", "phase"]), "Pending");
    assert_eq!(made.at(&["spec", "tolerations"]).map(|list| list.items().len()), Some(2));
    let volume = made.at(&["spec", "volumes"]).unwrap().items()[0].clone();
    assert!(volume.str_at(&["name"]).starts_with("kube-api-access-"), "{volume}");
    assert_eq!(made.at(&["spec", "priority"]).and_then(Doc::as_i64), Some(0));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_no_trace() {
    let world = World::new().await;
    let before = world.store.digest().await.unwrap();
    let mut nameless = map("x");
    nameless.remove_at(&["metadata", "name"]);
    let mut wrong = map("m");
    wrong.set_at(&["data"], Doc::String("text".into()));
    let bad_name = map("Upper_Case");
    let cases = [
        (world.create("configmaps", "default", nameless).await, 422),
        (world.create("configmaps", "default", wrong).await, 400),
        (world.create("configmaps", "default", bad_name).await, 422),
        (world.create("configmaps", "nowhere", map("m")).await, 404),
        (world.create("jobs", "default", map("m")).await, 404),
        (world.create("pods", "default", doc!({"metadata": {"name": "p"}, "spec": {"containers": []}})).await, 422),
    ];
    for (number, (result, expected)) in cases.into_iter().enumerate() {
        assert_eq!(code(result).0, expected, "case {number}");
    }
    assert_eq!(world.store.digest().await.unwrap(), before);
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let world = World::new().await;
    world.create("configmaps", "default", map("m")).await.unwrap();
    let merged = world.patch("configmaps", "m", PatchKind::Merge, doc!({"data": {"b": "2", "a": null}}), "x").await.unwrap();
    assert_eq!(merged.at(&["data"]).unwrap().to_string(), r#"{"b":"2"}"#);
    let json = doc!([{"op": "add", "path": "/data/c", "value": "3"}]);
    let patched = world.patch("configmaps", "m", PatchKind::Json, json, "x").await.unwrap();
    assert_eq!(patched.str_at(&["data", "c"]), "3");
    let config = doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"d": "4"}});
    let applied = world.patch("configmaps", "m", PatchKind::Apply, config, "applier").await.unwrap();
    assert_eq!((applied.str_at(&["data", "c"]), applied.str_at(&["data", "d"])), ("3", "4"));
    let theirs = doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"d": "5"}});
    let refused = world.patch("configmaps", "m", PatchKind::Apply, theirs, "other").await;
    let error = refused.expect_err("somebody else owns the field");
    assert_eq!(error.code(), 409);
    assert!(error.to_string().contains("applier"), "{error}");
    let without = doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {}});
    let dropped = world.patch("configmaps", "m", PatchKind::Apply, without, "applier").await.unwrap();
    assert!(dropped.at(&["data", "d"]).is_none(), "what is no longer applied is gone");
    let fresh = doc!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"z": "1"}});
    let created = world.patch("configmaps", "n", PatchKind::Apply, fresh, "applier").await.unwrap();
    assert_eq!(created.str_at(&["data", "z"]), "1");
}

#[tokio::test]
async fn watches_tell_changes_in_order_and_what_a_selector_makes_of_them() {
    let world = World::new().await;
    let options = Options { label_selector: "app=m".parse().unwrap(), ..Default::default() };
    let now = world.ask(ApiRequest { verb: Verb::List, target: all("configmaps", "default"), ..Default::default() }).await;
    let revision = now.unwrap().into_list().unwrap().revision;
    let options = Options { resource_version: Some(revision), ..options };
    let request = ApiRequest { verb: Verb::Watch, target: all("configmaps", "default"), options, ..Default::default() };
    let mut events = world.ask(request).await.unwrap().into_watch().unwrap();
    world.create("configmaps", "default", map("other")).await.unwrap();
    world.create("configmaps", "default", map("m")).await.unwrap();
    world.patch("configmaps", "m", PatchKind::Merge, doc!({"data": {"a": "2"}}), "x").await.unwrap();
    world.patch("configmaps", "m", PatchKind::Merge, doc!({"metadata": {"labels": {"app": "gone"}}}), "x").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => format!("added {}", object.meta.name),
            WatchEvent::Modified(object) => format!("modified {}", object.meta.name),
            WatchEvent::Deleted(object) => format!("deleted {}", object.meta.name),
            WatchEvent::Bookmark { .. } => "bookmark".into(),
        });
    }
    assert_eq!(seen, ["added m", "modified m", "deleted m"]);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let world = World::new().await;
    let mut held = map("m");
    held.set_at(&["metadata", "finalizers"], doc!(["example.com/hold"]));
    world.create("configmaps", "default", held).await.unwrap();
    world.delete("configmaps", "default", "m", Options::default()).await.unwrap();
    let waiting = world.get("configmaps", "default", "m").await.unwrap();
    assert!(!waiting.str_at(&["metadata", "deletionTimestamp"]).is_empty());
    world.patch("configmaps", "m", PatchKind::Merge, doc!({"metadata": {"finalizers": null}}), "x").await.unwrap();
    assert_eq!(code(world.get("configmaps", "default", "m").await).0, 404);
}

#[tokio::test]
async fn a_running_pod_is_deleted_gracefully_by_its_node() {
    let world = World::new().await;
    world.create("pods", "default", pod("p")).await.unwrap();
    let binding = doc!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let target = one("pods", "default", "p").subresource("binding");
    let bind = ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(binding), ..Default::default() };
    world.ask(bind.clone()).await.unwrap();
    assert_eq!(code(world.ask(bind).await), (409, Reason::Conflict), "a pod is bound once");
    world.delete("pods", "default", "p", Options::default()).await.unwrap();
    let leaving = world.get("pods", "default", "p").await.unwrap();
    assert_eq!(leaving.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64), Some(30));
    let at_once = Options { grace_period_seconds: Some(0), ..Default::default() };
    world.delete("pods", "default", "p", at_once).await.unwrap();
    assert_eq!(code(world.get("pods", "default", "p").await).0, 404);
}

#[tokio::test]
async fn services_get_addresses_that_nobody_else_has() {
    let world = World::new().await;
    let service = |name: &str| doc!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let first = world.create("services", "default", service("a")).await.unwrap();
    let ip = first.str_at(&["spec", "clusterIP"]).to_owned();
    assert!(ip.starts_with("10.96."), "{first}");
    let mut same = service("b");
    same.set_at(&["spec", "clusterIP"], Doc::String(ip.as_str().into()));
    assert_eq!(code(world.create("services", "default", same.clone()).await), (422, Reason::Invalid));
    world.delete("services", "default", "a", Options::default()).await.unwrap();
    world.create("services", "default", same).await.unwrap();
}

#[tokio::test]
async fn a_fence_stops_the_writes_of_a_leader_that_was() {
    let world = World::new().await;
    let lease = |holder: &str| doc!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder}});
    let first = world.create("leases", "default", lease("one")).await.unwrap();
    let revision = first.str_at(&["metadata", "resourceVersion"]).parse().unwrap();
    let fence = Some(Fence { namespace: "default".into(), name: "l".into(), revision });
    let write = |name: &str| ApiRequest {
        verb: Verb::Create,
        target: all("configmaps", "default"),
        body: RequestBody::Doc(map(name)),
        fence: fence.clone(),
        ..Default::default()
    };
    let renewal = doc!({"spec": {"leaseDurationSeconds": 9}});
    world.patch("leases", "l", PatchKind::Merge, renewal, "x").await.unwrap();
    world.ask(write("a")).await.unwrap();
    let takeover = doc!({"spec": {"holderIdentity": "two"}});
    world.patch("leases", "l", PatchKind::Merge, takeover, "x").await.unwrap();
    assert_eq!(code(world.ask(write("b")).await), (409, Reason::Conflict));
}

#[tokio::test]
async fn nobody_does_what_no_role_allows() {
    let world = World::new().await;
    let jane = || Caller::new("jane", &["devs"]);
    let get = ApiRequest { verb: Verb::List, target: all("pods", "default"), ..Default::default() };
    let refused = world.server.handle(jane(), get.clone()).await;
    let error = refused.expect_err("no role, no rights");
    assert_eq!(error.code(), 403);
    assert_eq!(
        error.to_string(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let binding = doc!({"metadata": {"name": "b"}, "subjects": [{"kind": "Group", "name": "devs", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    world.create("rolebindings", "default", binding.clone()).await.unwrap();
    world.server.handle(jane(), get).await.unwrap();
    let mut grant = binding;
    grant.set_at(&["metadata", "name"], Doc::String("more".into()));
    grant.set_at(&["roleRef", "name"], Doc::String("admin".into()));
    let escalate = ApiRequest {
        verb: Verb::Create,
        target: all("rolebindings", "default"),
        body: RequestBody::Doc(grant),
        ..Default::default()
    };
    assert_eq!(code(world.server.handle(jane(), escalate).await), (403, Reason::Forbidden));
    let as_admin = ApiRequest {
        verb: Verb::List,
        target: all("secrets", "default"),
        caller: Some(Caller::new("admin", &["system:masters"])),
        ..Default::default()
    };
    assert_eq!(code(world.server.handle(jane(), as_admin).await).0, 403, "acting as another needs a right of its own");
}

#[tokio::test]
async fn pages_show_one_moment() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create("configmaps", "default", map(name)).await.unwrap();
    }
    let list = |token: Option<String>| {
        let options = Options { limit: Some(2), continue_token: token, ..Default::default() };
        ApiRequest { verb: Verb::List, target: all("configmaps", "default"), options, ..Default::default() }
    };
    let first = world.ask(list(None)).await.unwrap().into_list().unwrap();
    world.create("configmaps", "default", map("bb")).await.unwrap();
    world.delete("configmaps", "default", "c", Options::default()).await.unwrap();
    let second = world.ask(list(first.continue_token.clone())).await.unwrap().into_list().unwrap();
    let names: Vec<&str> = second.items.iter().map(|object| object.meta.name.as_str()).collect();
    assert_eq!((names, second.revision), (vec!["c"], first.revision));
}

#[tokio::test]
async fn scale_is_a_view_of_the_object() {
    let world = World::new().await;
    let deployment = doc!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}});
    world.create("deployments", "default", deployment).await.unwrap();
    let target = one("deployments", "default", "d").subresource("scale");
    let body = RequestBody::Patch(PatchKind::Merge, doc!({"spec": {"replicas": 4}}));
    let request = ApiRequest { verb: Verb::Patch, target, body, ..Default::default() };
    let ResponseBody::Doc(scale) = world.ask(request).await.unwrap().body else { panic!("a scale") };
    assert_eq!(scale.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(4));
    let changed = world.get("deployments", "default", "d").await.unwrap();
    assert_eq!(changed.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(4));
    assert_eq!(changed.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
}
