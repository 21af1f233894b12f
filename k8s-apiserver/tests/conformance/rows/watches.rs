//! What a watcher may rely on.

use serde_json::{Value, json};

use crate::api::{Api, Watch, version};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, label: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"watch-this-configmap": label}});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

async fn watch(api: &Api, selector: &str) -> Watch {
    let selector = selector.replace('=', "%3D").replace(' ', "%20").replace(',', "%2C");
    api.watch(&format!("{MAPS}?watch=true&labelSelector={selector}")).await
}

async fn watch_from(api: &Api, version: &str, label: &str) -> Watch {
    let selector = format!("watch-this-configmap%3D{label}");
    api.watch(&format!("{MAPS}?watch=true&resourceVersion={version}&labelSelector={selector}")).await
}

/// Sets `data.mutation`.
async fn mutate(api: &Api, name: &str, value: usize) -> Value {
    let patch = json!({"data": {"mutation": value.to_string()}});
    api.patch(&format!("{MAPS}/{name}"), "merge", &patch).await.expect(200)
}

async fn relabel(api: &Api, name: &str, label: &str) {
    let patch = json!({"metadata": {"labels": {"watch-this-configmap": label}}});
    api.patch(&format!("{MAPS}/{name}"), "merge", &patch).await.expect(200);
}

fn mutation(object: &Value) -> &str {
    object["data"]["mutation"].as_str().unwrap_or_default()
}

pub async fn closed_and_restarted(api: &Api) {
    let mut first = watch(api, "watch-this-configmap=x").await;
    api.create(MAPS, &config_map("a", "x")).await;
    first.expect("ADDED", "a").await;
    mutate(api, "a", 1).await;
    let seen = first.expect("MODIFIED", "a").await;
    drop(first);
    mutate(api, "a", 2).await;
    let mut second = watch_from(api, version(&seen), "x").await;
    api.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(mutation(&second.expect("MODIFIED", "a").await), "2");
    second.expect("DELETED", "a").await;
}

pub async fn from_a_resource_version(api: &Api) {
    api.create(MAPS, &config_map("a", "x")).await;
    let first = mutate(api, "a", 1).await;
    mutate(api, "a", 2).await;
    api.delete(&format!("{MAPS}/a")).await.expect(200);
    let mut late = watch_from(api, version(&first), "x").await;
    assert_eq!(mutation(&late.expect("MODIFIED", "a").await), "2");
    late.expect("DELETED", "a").await;
}

pub async fn several_watchers(api: &Api) {
    let mut a = watch(api, "watch-this-configmap=a").await;
    let mut b = watch(api, "watch-this-configmap=b").await;
    let mut both = watch(api, "watch-this-configmap in (a,b)").await;
    api.create(MAPS, &config_map("a", "a")).await;
    mutate(api, "a", 1).await;
    mutate(api, "a", 2).await;
    api.delete(&format!("{MAPS}/a")).await.expect(200);
    api.create(MAPS, &config_map("b", "b")).await;
    api.delete(&format!("{MAPS}/b")).await.expect(200);
    // What a watcher got that was not meant for it would come before the last event that was.
    for watch in [&mut a, &mut both] {
        watch.expect("ADDED", "a").await;
        assert_eq!(mutation(&watch.expect("MODIFIED", "a").await), "1");
        assert_eq!(mutation(&watch.expect("MODIFIED", "a").await), "2");
        watch.expect("DELETED", "a").await;
    }
    for watch in [&mut b, &mut both] {
        watch.expect("ADDED", "b").await;
        watch.expect("DELETED", "b").await;
    }
    api.create(MAPS, &config_map("end", "a")).await;
    a.expect("ADDED", "end").await;
}

pub async fn label_changed(api: &Api) {
    let mut watch = watch(api, "watch-this-configmap=x").await;
    api.create(MAPS, &config_map("a", "x")).await;
    mutate(api, "a", 1).await;
    relabel(api, "a", "other").await;
    watch.expect("ADDED", "a").await;
    watch.expect("MODIFIED", "a").await;
    watch.expect("DELETED", "a").await;
    mutate(api, "a", 2).await;
    relabel(api, "a", "x").await;
    mutate(api, "a", 3).await;
    api.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(mutation(&watch.expect("ADDED", "a").await), "2", "what happened meanwhile is not told");
    assert_eq!(mutation(&watch.expect("MODIFIED", "a").await), "3");
    watch.expect("DELETED", "a").await;
}

pub async fn same_order_for_all(api: &Api) {
    const WRITES: usize = 40;
    let start = api.read(MAPS).await;
    let mut first = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&start))).await;
    let write = async {
        for place in 0..WRITES {
            let name = format!("m{}", place % 5);
            match place / 5 % 3 {
                0 => drop(api.create(MAPS, &config_map(&name, "x")).await),
                1 => drop(mutate(api, &name, place).await),
                _ => drop(api.delete(&format!("{MAPS}/{name}")).await.expect(200)),
            }
        }
    };
    // Each event opens a watch from its version, which must tell the rest in the same order.
    let read = async {
        let (mut versions, mut watches) = (Vec::new(), Vec::new());
        while versions.len() < WRITES {
            let (_, object) = first.next().await;
            for (watch, from) in &mut watches {
                let (_, same): (String, Value) = Watch::next(watch).await;
                assert_eq!(version(&same), version(&object), "a watch from {from}");
            }
            let from = version(&object).to_owned();
            if versions.len() % 4 == 0 {
                watches.push((api.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await, from.clone()));
            }
            versions.push(from);
        }
        versions
    };
    let ((), versions) = tokio::join!(write, read);
    let numbers: Vec<u64> = versions.iter().map(|version| version.parse().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
