//! Watches, and what is built on them.

use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef},
        wait::await_condition,
        watcher::{self, Event},
    },
};
use serde_json::json;

use crate::world::{World, object};

fn map(name: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"of": "row"}}}))
}

async fn change(world: &World, name: &str) {
    let patch = json!({"data": {"changed": "yes"}});
    world.api::<ConfigMap>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// What a watcher tells of two objects that are there, and of one that comes, changes and goes.
async fn told(world: &World, config: watcher::Config) -> Vec<String> {
    let maps = world.api::<ConfigMap>();
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &map(name)).await.unwrap();
    }
    let mut events = pin!(watcher::watcher(maps.clone(), config.labels("of=row")));
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "Delete(c)") {
        let event = events.try_next().await.unwrap().unwrap();
        told.push(event.to_string());
        match &event {
            Event::InitDone => drop(maps.create(&PostParams::default(), &map("c")).await.unwrap()),
            Event::Apply(map) if map.data.is_none() => change(world, "c").await,
            Event::Apply(_) => drop(maps.delete("c", &DeleteParams::default()).await.unwrap()),
            _ => {}
        }
    }
    told
}

const ALL: [&str; 7] = ["Init", "InitApply(a)", "InitApply(b)", "InitDone", "Apply(c)", "Apply(c)", "Delete(c)"];

pub async fn streamed_lists(world: &World) {
    assert_eq!(told(world, watcher::Config::default().streaming_lists()).await, ALL);
}

pub async fn listed_then_watched(world: &World) {
    assert_eq!(told(world, watcher::Config::default().page_size(1)).await, ALL);
}

pub async fn reflected_stores(world: &World) {
    let maps = world.api::<ConfigMap>();
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().streaming_lists().labels("of=row");
    let stream = watcher::watcher(maps.clone(), config).default_backoff().reflect(writer).touched_objects();
    let mut stream = pin!(stream);
    assert_eq!(stream.try_next().await.unwrap().unwrap().name_any(), "a");
    change(world, "a").await;
    assert!(stream.try_next().await.unwrap().unwrap().data.is_some());
    store.wait_until_ready().await.unwrap();
    let kept = store.get(&ObjectRef::new("a").within("default")).unwrap();
    assert_eq!(*kept, maps.get("a").await.unwrap());
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::default_namespaced(world.client.clone());
    let metadata = watcher::watcher(metadata, watcher::Config::default().labels("of=row"));
    let mut metadata = pin!(metadata.applied_objects());
    assert_eq!(metadata.try_next().await.unwrap().unwrap().name_any(), "a");
}

pub async fn resumed_watches(world: &World) {
    let maps = world.api::<ConfigMap>();
    let before = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    change(world, "a").await;
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let params = WatchParams::default().labels("of=row").timeout(10);
    let mut from = before;
    for expected in ["added", "modified", "deleted"] {
        // Each time anew, from what was seen last.
        let mut events = pin!(maps.watch(&params, &from).await.unwrap());
        let (what, seen) = loop {
            match events.try_next().await.unwrap().unwrap() {
                WatchEvent::Added(map) => break ("added", map),
                WatchEvent::Modified(map) => break ("modified", map),
                WatchEvent::Deleted(map) => break ("deleted", map),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(why) => panic!("{why:?}"),
            }
        };
        assert_eq!(what, expected);
        from = seen.resource_version().unwrap();
    }
    // The time is up after a second, and that is an end, not an error.
    let ended = maps.watch(&params.timeout(1), &from).await.unwrap();
    assert!(ended.boxed().all(async |event| event.is_ok()).await);
}

pub async fn followed_leases(world: &World) {
    let leases = world.api::<Lease>();
    let lease = |holder: &str| {
        let spec =
            json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2030-01-02T03:04:05.678901Z"});
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec})
    };
    let first = PatchParams::apply("first");
    let held = leases.patch("leader", &first, &Patch::Apply(lease("first"))).await.unwrap();
    assert_eq!(serde_json::to_value(&held).unwrap()["spec"]["renewTime"], "2030-01-02T03:04:05.678901Z");
    let second = PatchParams::apply("second");
    let refused = leases.patch("leader", &second, &Patch::Apply(lease("second"))).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.is_conflict()));
    let waiting = await_condition(leases.clone(), "leader", |lease: Option<&Lease>| {
        lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref()) == Some("second")
    });
    let taking = async { leases.patch("leader", &second.force(), &Patch::Apply(lease("second"))).await };
    let (seen, taken) = futures::join!(waiting, taking);
    assert_eq!(seen.unwrap().unwrap().resource_version(), taken.unwrap().resource_version());
}
