//! Controllers as people write them with `kube`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event as StoredEvent,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer::{self, Event as Finalizing},
        wait::{await_condition, conditions},
        watcher,
    },
};
use serde_json::json;

use crate::world::{World, beside, object};

/// How long nothing can be missed: the controllers look at everything again after that.
const AGAIN: Duration = Duration::from_secs(300);

fn parent() -> ConfigMap {
    object(json!({"metadata": {"name": "parent", "labels": {"of": "row"}}, "data": {"word": "one"}}))
}

fn of_row() -> watcher::Config {
    watcher::Config::default().labels("of=row")
}

/// Keeps a Secret that says what its ConfigMap says.
async fn keep_child(parent: Arc<ConfigMap>, client: Arc<Client>) -> kube::Result<Action> {
    let child = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "child", "ownerReferences": [parent.controller_owner_ref(&())]},
        "stringData": parent.data,
    });
    let secrets: Api<Secret> = Api::namespaced((*client).clone(), &parent.namespace().unwrap());
    secrets.patch("child", &PatchParams::apply("keeper").force(), &Patch::Apply(child)).await?;
    Ok(Action::requeue(AGAIN))
}

fn says(word: &'static str) -> impl Fn(Option<&Secret>) -> bool {
    move |secret| {
        secret.and_then(|secret| secret.data.as_ref()?.get("word")).is_some_and(|data| data.0 == word.as_bytes())
    }
}

pub async fn owned_children(world: &World) {
    let (maps, secrets) = (world.api::<ConfigMap>(), world.api::<Secret>());
    let controller = Controller::new(maps.clone(), of_row()).owns(secrets.clone(), watcher::Config::default());
    let policy = |_: Arc<ConfigMap>, error: &kube::Error, _: Arc<Client>| panic!("{error}");
    let running = controller.run(keep_child, policy, Arc::new(world.client.clone())).for_each(async |_| {});
    let test = async {
        maps.create(&PostParams::default(), &parent()).await.unwrap();
        await_condition(secrets.clone(), "child", says("one")).await.unwrap();
        let change = json!({"data": {"word": "two"}});
        maps.patch("parent", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
        let child = await_condition(secrets.clone(), "child", says("two")).await.unwrap().unwrap();
        // What somebody takes away comes back: the controller watches what it owns.
        secrets.delete("child", &DeleteParams::default()).await.unwrap();
        let is_new = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.uid() != child.uid());
        let child = await_condition(secrets.clone(), "child", is_new).await.unwrap().unwrap();
        // And the garbage collector of the cluster takes it with its owner.
        maps.delete("parent", &DeleteParams::background()).await.unwrap();
        await_condition(secrets.clone(), "child", conditions::is_deleted(&child.uid().unwrap())).await.unwrap();
    };
    beside(running, test).await;
}

pub async fn finalizers(world: &World) {
    let maps = world.api::<ConfigMap>();
    let cleaned = Arc::new(AtomicUsize::new(0));
    let (api, counted) = (maps.clone(), cleaned.clone());
    let reconcile = move |map: Arc<ConfigMap>, _: Arc<()>| {
        let (api, counted) = (api.clone(), counted.clone());
        async move {
            let step = async |event| {
                if let Finalizing::Cleanup(_) = event {
                    counted.fetch_add(1, SeqCst);
                }
                Ok::<_, kube::Error>(Action::requeue(AGAIN))
            };
            finalizer::finalizer(&api, "kube.rs/test", map, step).await
        }
    };
    let policy = |_: Arc<ConfigMap>, error: &finalizer::Error<kube::Error>, _: Arc<()>| panic!("{error}");
    let controller = Controller::new(maps.clone(), of_row());
    let running = controller.run(reconcile, policy, Arc::new(())).for_each(async |_| {});
    let test = async {
        let made = maps.create(&PostParams::default(), &parent()).await.unwrap();
        let held = |map: Option<&ConfigMap>| map.is_some_and(|map| map.finalizers() == ["kube.rs/test"]);
        await_condition(maps.clone(), "parent", held).await.unwrap();
        let leaving = maps.delete("parent", &DeleteParams::default()).await.unwrap().left();
        assert!(leaving.is_some_and(|map| map.meta().deletion_timestamp.is_some()), "it waits for its finalizer");
        await_condition(maps.clone(), "parent", conditions::is_deleted(&made.uid().unwrap())).await.unwrap();
        assert_eq!(cleaned.load(SeqCst), 1);
    };
    beside(running, test).await;
}

pub async fn recorded_events(world: &World) {
    let made = world.api::<ConfigMap>().create(&PostParams::default(), &parent()).await.unwrap();
    let reporter = Reporter { controller: "row".into(), instance: Some("row-1".into()) };
    let recorder = Recorder::new(world.client.clone(), reporter);
    let event = Event {
        type_: EventType::Warning,
        reason: "Tested".into(),
        note: Some("a note".into()),
        action: "Test".into(),
        secondary: None,
    };
    let regarding = made.object_ref(&());
    for _ in 0..3 {
        recorder.publish(&event, &regarding).await.unwrap();
    }
    let params = ListParams::default().fields("regarding.name=parent,reason=Tested");
    let events = world.api::<StoredEvent>().list(&params).await.unwrap().items;
    assert_eq!(events.len(), 1, "repetitions are counted: {events:?}");
    assert_eq!(events[0].series.as_ref().map(|series| series.count), Some(3));
    assert_eq!(events[0].note.as_deref(), Some("a note"));
}
