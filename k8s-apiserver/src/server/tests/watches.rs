//! What watches promise.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_core::{
    doc,
    doc::Doc,
    request::{Options, VersionMatch, WatchEvent},
};

use super::fixture::{Fixture, next, ready, revision, server};

fn config_map(name: &str, label: &str) -> Doc {
    doc!({"metadata": {"name": name, "labels": {"l": label}}})
}

fn from(doc: &Doc) -> Options {
    Options { resource_version: Some(revision(doc)), ..Options::default() }
}

async fn relabel(api: &Fixture, name: &str, label: &str) -> Doc {
    api.update(&format!("configmaps/{name}"), "default", config_map(name, label)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_what_is_there_and_then_what_happens() {
    let api = server().await;
    api.create("configmaps", "default", config_map("a", "1")).await.unwrap();
    let mut watch = api.watch("configmaps", "default", Options::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    assert!(ready(&mut watch).is_empty());
    let created = api.create("configmaps", "default", config_map("b", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED b");
    relabel(&api, "b", "2").await;
    assert_eq!(next(&mut watch).await, "MODIFIED b");
    api.delete("configmaps/b", "default", Options::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "DELETED b");
    let mut resumed = api.watch("configmaps", "default", from(&created)).await.unwrap();
    assert_eq!(ready(&mut resumed), ["MODIFIED b", "DELETED b"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_begins_or_ceases_to_match_is_added_or_deleted() {
    let api = server().await;
    let start = api.create("configmaps", "default", config_map("a", "no")).await.unwrap();
    let options = Options { label_selector: "l=yes".parse().unwrap(), ..from(&start) };
    let mut watch = api.watch("configmaps", "default", options).await.unwrap();
    relabel(&api, "a", "still-no").await;
    relabel(&api, "a", "yes").await;
    assert_eq!(next(&mut watch).await, "ADDED a");
    let left = relabel(&api, "a", "no").await;
    match watch.next().await {
        Some(Ok(WatchEvent::Deleted(object))) => {
            assert_eq!(object.revision(), revision(&left), "at the revision at which it ceased to match");
            let shown = Doc::parse(&object.to_json()).unwrap();
            assert_eq!(shown.str_at(&["metadata", "labels", "l"]), "yes", "as it was when it matched");
        }
        other => panic!("{other:?}"),
    }
    api.delete("configmaps/a", "default", Options::default()).await.unwrap();
    assert!(ready(&mut watch).is_empty(), "it was gone already");
}

#[tokio::test(start_paused = true)]
async fn all_watches_see_the_same_order() {
    let api = server().await;
    let start = api.create("configmaps", "default", config_map("start", "1")).await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(api.watch("configmaps", "", from(&start)).await.unwrap());
    }
    let writes = (0..20).map(|n| {
        let (api, name) = (api.clone(), format!("c{}", n % 7));
        async move {
            if n % 3 == 2 {
                drop(api.delete(&format!("configmaps/{name}"), "default", Options::default()).await);
            } else if api.create("configmaps", "default", config_map(&name, "1")).await.is_err() {
                drop(api.update(&format!("configmaps/{name}"), "default", config_map(&name, &format!("v{n}"))).await);
            }
        }
    });
    futures::future::join_all(writes).await;
    let end = api.create("configmaps", "default", config_map("end", "1")).await.unwrap();
    let mut seen: Vec<Vec<(u64, String)>> = Vec::new();
    for mut watch in watches {
        let mut events = Vec::new();
        loop {
            let event = watch.next().await.unwrap().unwrap();
            events.push((event.revision(), event.object().unwrap().meta.name.to_string()));
            if event.revision() == revision(&end) {
                break;
            }
        }
        assert!(events.is_sorted_by(|a, b| a.0 < b.0), "revisions rise: {events:?}");
        seen.push(events);
    }
    assert!(seen[0].len() > 10, "{seen:?}");
    assert!(seen.iter().all(|events| *events == seen[0]), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn replaying_a_watch_gives_what_a_list_shows() {
    let api = server().await;
    let mut watch = api.watch("configmaps", "default", Options::default()).await.unwrap();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut random = 7u64;
    for step in 0..200 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let name = format!("c{}", (random >> 33) % 9);
        let path = format!("configmaps/{name}");
        match (random >> 60) % 3 {
            0 => drop(api.create("configmaps", "default", config_map(&name, "x")).await),
            1 => drop(api.update(&path, "default", config_map(&name, &format!("v{step}"))).await),
            _ => drop(api.delete(&path, "default", Options::default()).await),
        }
        // A reader that falls behind and catches up.
        if step % 17 == 0 {
            take(&mut watch, &mut known);
        }
    }
    let list = api.list("configmaps", "default", Options::default()).await.unwrap();
    take(&mut watch, &mut known);
    let listed: BTreeMap<String, u64> =
        list.items.iter().map(|object| (object.meta.name.to_string(), object.revision())).collect();
    assert!(!listed.is_empty());
    assert_eq!(known, listed);
}

fn take(watch: &mut k8s_core::request::WatchStream, known: &mut BTreeMap<String, u64>) {
    use futures::FutureExt;
    while let Some(Some(event)) = watch.next().now_or_never() {
        match event.unwrap() {
            WatchEvent::Added(object) => {
                assert!(known.insert(object.meta.name.to_string(), object.revision()).is_none(), "added twice");
            }
            WatchEvent::Modified(object) => {
                assert!(known.insert(object.meta.name.to_string(), object.revision()).is_some(), "never added");
            }
            WatchEvent::Deleted(object) => {
                assert!(known.remove(object.meta.name.as_str()).is_some(), "never added");
            }
            WatchEvent::Bookmark { .. } => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn watches_of_one_name_node_or_field_see_only_that() {
    let api = server().await;
    let mut options = Options { field_selector: "metadata.name=b".parse().unwrap(), ..Options::default() };
    let mut by_name = api.watch("configmaps", "default", options.clone()).await.unwrap();
    options.field_selector = "spec.nodeName=n1".parse().unwrap();
    let mut by_node = api.watch("pods", "", options.clone()).await.unwrap();
    options.field_selector = "status.phase!=Pending".parse().unwrap();
    let mut by_phase = api.watch("pods", "", options.clone()).await.unwrap();
    for name in ["a", "b"] {
        api.create("configmaps", "default", config_map(name, "1")).await.unwrap();
        let mut pod = super::crud::example("pods");
        pod.set_at(&["metadata", "name"], name.into());
        api.create("pods", "default", pod).await.unwrap();
    }
    let binding = doc!({"metadata": {"name": "a"}, "target": {"name": "n1"}});
    let body = k8s_core::request::RequestBody::Doc(binding);
    api.call(k8s_core::request::Verb::Create, "pods/a/binding", "default", Options::default(), body).await.unwrap();
    let mut running = api.get("pods/b", "default").await.unwrap();
    running.set_at(&["status", "phase"], "Running".into());
    api.update("pods/b/status", "default", running).await.unwrap();
    assert_eq!(next(&mut by_name).await, "ADDED b");
    assert_eq!(next(&mut by_node).await, "ADDED a");
    assert_eq!(next(&mut by_phase).await, "ADDED b");
    for watch in [&mut by_name, &mut by_node, &mut by_phase] {
        assert!(ready(watch).is_empty());
    }
    options.field_selector = "spec.strange=1".parse().unwrap();
    assert_eq!(api.watch("pods", "", options).await.err().map(|error| error.code()), Some(400));
}

#[tokio::test(start_paused = true)]
async fn initial_events_end_with_a_bookmark_where_asked_for() {
    let api = server().await;
    api.create("configmaps", "default", config_map("a", "1")).await.unwrap();
    let options = Options {
        send_initial_events: Some(true),
        resource_version_match: Some(VersionMatch::NotOlderThan),
        allow_watch_bookmarks: true,
        ..Options::default()
    };
    let mut watch = api.watch("configmaps", "default", options.clone()).await.unwrap();
    assert_eq!(ready(&mut watch), ["ADDED a", "INITIAL-END"]);
    let unsaid = Options { resource_version_match: None, ..options };
    assert_eq!(api.watch("configmaps", "default", unsaid).await.err().map(|error| error.code()), Some(422));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_told_how_far_it_is_and_ends_when_its_time_is_up() {
    let api = server().await;
    let options =
        Options { allow_watch_bookmarks: true, timeout: Some(Duration::from_secs(150)), ..Options::default() };
    let mut watch = api.watch("configmaps", "default", options).await.unwrap();
    let other = api.create("secrets", "default", doc!({"metadata": {"name": "s"}})).await.unwrap();
    let began = api.env.monotonic();
    for after in [60, 120, 148] {
        match watch.next().await {
            Some(Ok(WatchEvent::Bookmark { revision: reached, initial_events_end: false })) => {
                assert!(reached >= revision(&other), "other kinds move the bookmark, too");
                assert_eq!((api.env.monotonic() - began).as_secs(), after, "the last one shortly before the end");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next(&mut watch).await, "END");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_what_is_forgotten_or_to_come_is_refused() {
    let api = server().await;
    let start = api.create("configmaps", "default", config_map("a", "0")).await.unwrap();
    let mut slow = api.watch("configmaps", "default", from(&start)).await.unwrap();
    for n in 0..200 {
        let body = doc!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(100_000), "n": n.to_string()}});
        api.update("configmaps/a", "default", body).await.unwrap();
    }
    assert_eq!(next(&mut slow).await, "ERROR 410", "a reader that is too slow pays for itself");
    assert_eq!(next(&mut slow).await, "END");
    let late = api.watch("configmaps", "default", from(&start)).await;
    assert_eq!(late.err().map(|error| error.code()), Some(410));
    let future = Options { resource_version: Some(1_000_000), ..Options::default() };
    let error = api.watch("configmaps", "default", future).await.err().unwrap();
    assert_eq!((error.code(), error.status().details.as_ref().unwrap().retry_after_seconds), (504, 1));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_watches_and_two_servers_do_not_mind_each_other() {
    let (one, two) = (server().await, server().await);
    let mut ending = one.watch("configmaps", "default", Options::default()).await.unwrap();
    let mut staying = two.watch("configmaps", "default", Options::default()).await.unwrap();
    assert_eq!(one.api.cache().watches(), 1);
    one.api.shutdown().await;
    assert_eq!(next(&mut ending).await, "END");
    two.create("configmaps", "default", config_map("a", "1")).await.unwrap();
    assert_eq!(next(&mut staying).await, "ADDED a");
    drop(ending);
    assert_eq!(one.api.cache().watches(), 0, "who leaves is forgotten");
}
