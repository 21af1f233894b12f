//! ConfigMaps and Secrets.

use serde_json::{Value, json};

use crate::api::{Api, name};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
}

pub async fn config_map_lifecycle(api: &Api) {
    let mut map = config_map("a", json!({"valueName": "value"}));
    map["metadata"]["labels"] = json!({"test-configmap-static": "true"});
    let mut watch = api.watch(&format!("{MAPS}?watch=1&labelSelector=test-configmap-static%3Dtrue")).await;
    api.create(MAPS, &map).await;
    watch.expect("ADDED", "a").await;
    let patch = json!({"metadata": {"labels": {"test-configmap": "patched"}}, "data": {"valueName": "value1"}});
    api.patch(&format!("{MAPS}/a"), "strategic", &patch).await.expect(200);
    watch.expect("MODIFIED", "a").await;
    let got = api.read(&format!("{MAPS}/a")).await;
    assert_eq!(got["data"], json!({"valueName": "value1"}));
    assert_eq!(got["metadata"]["labels"]["test-configmap"], "patched");
    let found = api.items("/api/v1/configmaps?labelSelector=test-configmap-static%3Dtrue").await;
    assert_eq!(found.len(), 1);
    assert_eq!((name(&found[0]), &found[0]["data"]["valueName"]), ("a", &json!("value1")));
    api.create(MAPS, &config_map("b", json!({}))).await;
    api.delete(&format!("{MAPS}?labelSelector=test-configmap-static%3Dtrue")).await.expect(200);
    watch.expect("DELETED", "a").await;
    let left = api.names(MAPS).await;
    assert!(!left.contains(&"a".to_owned()) && left.contains(&"b".to_owned()), "{left:?}");
}

pub async fn config_map_update(api: &Api) {
    let mut made = api.create(MAPS, &config_map("a", json!({"key": "old"}))).await;
    made["data"] = json!({"key": "new"});
    api.put(&format!("{MAPS}/a"), &made).await.expect(200);
    assert_eq!(api.read(&format!("{MAPS}/a")).await["data"], json!({"key": "new"}));
}

pub async fn config_map_empty_key(api: &Api) {
    let refused = api.post(MAPS, &config_map("a", json!({"": "value"}))).await.failed(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "data[]", "{refused}");
    api.get(&format!("{MAPS}/a")).await.failed(404, "NotFound");
}

pub async fn config_map_immutable(api: &Api) {
    immutable(api, MAPS, config_map("a", json!({"k": "1"})), json!("2"), json!("3")).await;
}

pub async fn secret_immutable(api: &Api) {
    immutable(api, SECRETS, secret("a", json!({"k": "MQ=="})), json!("Mg=="), json!("Mw==")).await;
}

async fn immutable(api: &Api, path: &str, object: Value, second: Value, third: Value) {
    let one = format!("{path}/a");
    let mut held = api.create(path, &object).await;
    held["data"]["k"] = second.clone();
    let mut held = api.put(&one, &held).await.expect(200);
    held["immutable"] = true.into();
    let held = api.put(&one, &held).await.expect(200);
    let mut changed = held.clone();
    changed["data"]["k"] = third;
    api.put(&one, &changed).await.failed(422, "Invalid");
    let mut loosened = held.clone();
    loosened["immutable"] = false.into();
    api.put(&one, &loosened).await.failed(422, "Invalid");
    assert_eq!(api.read(&one).await["data"]["k"], second);
    let mut labelled = held;
    labelled["metadata"]["labels"] = json!({"touched": "yes"});
    api.put(&one, &labelled).await.expect(200);
    api.delete(&one).await.expect(200);
    api.get(&one).await.failed(404, "NotFound");
}

pub async fn secret_patching(api: &Api) {
    let mut made = secret("a", json!({"key": "dmFsdWU="}));
    made["metadata"]["labels"] = json!({"testsecret-constant": "true"});
    assert!(api.names(SECRETS).await.is_empty());
    api.create(SECRETS, &made).await;
    let listed = api.items("/api/v1/secrets?labelSelector=testsecret-constant%3Dtrue").await;
    assert_eq!(listed.iter().map(name).collect::<Vec<_>>(), ["a"]);
    let patch = json!({"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": "dmFsdWUx"}});
    api.patch(&format!("{SECRETS}/a"), "strategic", &patch).await.expect(200);
    let got = api.read(&format!("{SECRETS}/a")).await;
    assert_eq!((&got["metadata"]["labels"]["testsecret"], &got["data"]["key"]), (&json!("true"), &json!("dmFsdWUx")));
    api.delete(&format!("{SECRETS}?labelSelector=testsecret-constant%3Dtrue")).await.expect(200);
    assert!(api.names("/api/v1/secrets").await.is_empty());
}

pub async fn secret_empty_key(api: &Api) {
    let refused = api.post(SECRETS, &secret("a", json!({"": "dmFsdWU="}))).await.failed(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "data[]", "{refused}");
    assert!(api.names(SECRETS).await.is_empty());
}
