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
    let mut kind = definition("stable.example.com", "Convert", &[("v1", text(&["hostPort"])), ("v2", text(&["host", "port"]))]);
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
        info.group == "stable.example.com" && info.version == "v2" && info.custom.as_ref().is_some_and(|of| of.is_storage)
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
