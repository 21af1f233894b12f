//! Custom kinds whose versions a webhook converts between.

use serde_json::{Value, json};

use super::custom::{DEFINITIONS, define, definition, object, objects};
use crate::{
    api::{Api, name},
    converter::Converter,
};

/// The kind that upstream's tests use: `v1` is stored, `v2` is served beside it.
fn kind(converter: &Converter) -> Value {
    let text = |names: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": fields})
    };
    let mut kind =
        definition("stable.example.com", "Convert", &[("v1", text(&["hostPort"])), ("v2", text(&["host", "port"]))]);
    kind["spec"]["conversion"] = converter.conversion();
    kind
}

fn check_v1(object: &Value) {
    assert_eq!(object["apiVersion"], "stable.example.com/v1");
    assert_eq!(object["hostPort"], "localhost:8080", "{object}");
    assert!(object.get("host").is_none() && object.get("port").is_none(), "{object}");
}

fn check_v2(object: &Value) {
    assert_eq!(object["apiVersion"], "stable.example.com/v2");
    assert_eq!((&object["host"], &object["port"]), (&json!("localhost"), &json!("8080")), "{object}");
    assert!(object.get("hostPort").is_none(), "{object}");
}

pub async fn from_v1_to_v2(api: &Api) {
    let converter = Converter::start().await;
    let kind = kind(&converter);
    define(api, &kind).await;
    api.create(&objects(&kind, 0), &object(&kind, 0, "one", json!({"hostPort": "localhost:8080"}))).await;
    check_v1(&api.read(&format!("{}/one", objects(&kind, 0))).await);
    assert!(converter.reviews.lock().is_empty(), "nothing had to be converted");
    check_v2(&api.read(&format!("{}/one", objects(&kind, 1))).await);
    assert_eq!(*converter.reviews.lock(), [1]);
}

pub async fn a_list_of_several_versions(api: &Api) {
    let converter = Converter::start().await;
    let kind = kind(&converter);
    define(api, &kind).await;
    let body = |name: &str| object(&kind, 0, name, json!({"hostPort": "localhost:8080"}));
    api.create(&objects(&kind, 0), &body("one")).await;
    let mut versions = kind["spec"]["versions"].clone();
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    let path = format!("{DEFINITIONS}/{}", name(&kind));
    let changed = api.patch(&path, "merge", &json!({"spec": {"versions": versions}})).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let before = api.server.registry();
    let is_stored_at_v2 = before.iter().any(|info| {
        info.group == "stable.example.com"
            && info.version == "v2"
            && info.custom.as_ref().is_some_and(|of| of.is_storage)
    });
    if !is_stored_at_v2 {
        api.server.kinds().changed_from(&before).await;
    }
    api.create(&objects(&kind, 0), &body("two")).await;
    for (version, check) in [(0, check_v1 as fn(&Value)), (1, check_v2)] {
        let list = api.read(&objects(&kind, version)).await;
        let items = list["items"].as_array().expect("items");
        assert_eq!(items.iter().map(name).collect::<Vec<_>>(), ["one", "two"]);
        items.iter().for_each(check);
    }
    assert!(!converter.reviews.lock().is_empty());
}

/// Every version selects by its own fields, whatever objects are stored at.
pub async fn field_selectors(api: &Api) {
    let converter = Converter::start().await;
    let mut kind = kind(&converter);
    kind["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
    kind["spec"]["versions"][1]["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    define(api, &kind).await;
    let (first, second) = (objects(&kind, 0), objects(&kind, 1));
    for (name, host, port) in [("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "80")] {
        api.create(&second, &object(&kind, 1, name, json!({"host": host, "port": port}))).await;
    }
    api.create(&first, &object(&kind, 0, "d", json!({"hostPort": "host1:80"}))).await;
    assert_eq!(api.names(&format!("{second}?fieldSelector=host%3Dhost1")).await, ["a", "b", "d"]);
    assert_eq!(api.names(&format!("{second}?fieldSelector=host%3Dhost1,port%3D80")).await, ["a", "d"]);
    assert_eq!(api.names(&format!("{second}?fieldSelector=host!%3Dhost1")).await, ["c"]);
    assert_eq!(api.names(&format!("{first}?fieldSelector=hostPort%3Dhost1%3A80")).await, ["a", "d"]);
    api.get(&format!("{first}?fieldSelector=host%3Dhost1")).await.failed(400, "BadRequest");
    let mut of_host = api.watch(&format!("{second}?watch=1&fieldSelector=host%3Dhost1")).await;
    let mut of_both = api.watch(&format!("{first}?watch=1&fieldSelector=hostPort%3Dhost1%3A80")).await;
    for name in ["a", "b", "d"] {
        of_host.expect("ADDED", name).await;
    }
    for name in ["a", "d"] {
        of_both.expect("ADDED", name).await;
    }
    api.patch(&format!("{second}/a"), "merge", &json!({"port": "81"})).await.expect(200);
    assert_eq!(of_host.expect("MODIFIED", "a").await["port"], "81");
    of_both.expect("DELETED", "a").await;
    api.patch(&format!("{second}/c"), "merge", &json!({"host": "host1"})).await.expect(200);
    of_host.expect("ADDED", "c").await;
    assert_eq!(of_both.expect("ADDED", "c").await["hostPort"], "host1:80");
    api.delete(&format!("{first}/d")).await.expect(200);
    check_gone(&of_host.expect("DELETED", "d").await);
    of_both.expect("DELETED", "d").await;
    assert_eq!(api.names(&format!("{second}?fieldSelector=host%3Dhost1")).await, ["a", "b", "c"]);
}

fn check_gone(object: &Value) {
    assert_eq!((&object["apiVersion"], &object["host"]), (&json!("stable.example.com/v2"), &json!("host1")));
}
