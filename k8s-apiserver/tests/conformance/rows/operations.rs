//! What a kind has to support to be there at all: discovery, and every verb.

use serde_json::{Value, json};

use crate::api::{Api, name, version};

/// Where a kind is and what one of it looks like.
pub struct Sample {
    /// Such as `apps/v1`, or `v1`.
    pub api_version: &'static str,
    pub plural: &'static str,
    /// In the namespace `default`, or in the cluster.
    pub namespaced: bool,
    /// Without `apiVersion`; with `kind` and without a name, unless the name has rules of its own.
    pub object: Value,
}

impl Sample {
    pub fn group_path(&self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}", self.api_version)
    }

    /// Where the sample's siblings are.
    pub fn path(&self) -> String {
        let within = if self.namespaced { "/namespaces/default" } else { "" };
        format!("{}{within}/{}", self.group_path(), self.plural)
    }

    /// One of its kind. The labels are the test's own.
    pub fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["apiVersion"] = self.api_version.into();
        object["metadata"]["name"] = name.into();
        object["metadata"]["labels"]["special-label"] = "conformance".into();
        object
    }
}

/// The group, its version and the resource are in the discovery documents, with all verbs.
pub async fn is_discovered(api: &Api, sample: &Sample, subresources: &[&str]) {
    if let Some((group, _)) = sample.api_version.split_once('/') {
        let groups = api.read("/apis").await;
        let groups = groups["groups"].as_array().expect("groups").clone();
        let found = groups.iter().find(|found| found["name"] == group).unwrap_or_else(|| panic!("no {group}"));
        let versions = found["versions"].as_array().expect("versions");
        assert!(versions.iter().any(|version| version["groupVersion"] == sample.api_version), "{found}");
        let alone = api.read(&format!("/apis/{group}")).await;
        assert_eq!(&alone["versions"], &found["versions"]);
    }
    let resources = api.read(&sample.group_path()).await;
    let resources = resources["resources"].as_array().expect("resources").clone();
    let found = resources.iter().find(|found| found["name"] == sample.plural);
    let found = found.unwrap_or_else(|| panic!("no {} in {resources:?}", sample.plural));
    assert_eq!((&found["kind"], &found["namespaced"]), (&sample.object["kind"], &json!(sample.namespaced)));
    let verbs = found["verbs"].as_array().expect("verbs");
    for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
        assert!(verbs.contains(&json!(verb)), "{verb}: {found}");
    }
    for subresource in subresources {
        let full = format!("{}/{subresource}", sample.plural);
        assert!(resources.iter().any(|found| found["name"] == full), "no {full}");
    }
}

/// Every verb once, on three objects with these names.
pub async fn every_verb_works(api: &Api, sample: &Sample, names: [&str; 3]) {
    let path = sample.path();
    let chosen = format!("{path}?labelSelector=special-label%3Dconformance");
    let mut watch = api.watch(&format!("{chosen}&watch=1")).await;
    let one = format!("{path}/{}", names[0]);

    let made = api.create(&path, &sample.named(names[0])).await;
    assert!(made["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()), "{made}");
    watch.expect("ADDED", names[0]).await;
    api.post(&path, &sample.named(names[0])).await.failed(409, "AlreadyExists");
    let got = api.read(&one).await;
    assert_eq!(got["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(got["kind"], sample.object["kind"]);

    api.create(&path, &sample.named(names[1])).await;
    watch.expect("ADDED", names[1]).await;
    api.create(&path, &sample.named(names[2])).await;
    watch.expect("ADDED", names[2]).await;
    let mut found = api.names(&chosen).await;
    found.sort();
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    if sample.namespaced {
        let everywhere = format!("{}/{}", sample.group_path(), sample.plural);
        let all = api.names(&format!("{everywhere}?labelSelector=special-label%3Dconformance")).await;
        assert_eq!(all.len(), 3);
    }

    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = api.patch(&one, "merge", &patch).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    watch.expect("MODIFIED", names[0]).await;
    let mut updated = patched;
    updated["metadata"]["annotations"]["updated"] = "true".into();
    let updated = api.put(&one, &updated).await.expect(200);
    assert_eq!(updated["metadata"]["annotations"], json!({"patched": "true", "updated": "true"}));
    let event = watch.expect("MODIFIED", names[0]).await;
    assert_eq!((version(&event), name(&event)), (version(&updated), names[0]));
    let mut stale = updated.clone();
    stale["metadata"]["resourceVersion"] = version(&got).into();
    stale["metadata"]["annotations"]["stale"] = "true".into();
    api.put(&one, &stale).await.failed(409, "Conflict");

    api.delete(&one).await;
    gone(api, &one).await;
    watch_until_deleted(&mut watch, names[0]).await;
    api.delete(&chosen).await.expect(200);
    for name in &names[1..] {
        gone(api, &format!("{path}/{name}")).await;
    }
    assert!(api.names(&chosen).await.is_empty());
}

/// Takes off what keeps an object that is being deleted: elsewhere controllers do.
async fn gone(api: &Api, one: &str) {
    let answer = api.get(one).await;
    if answer.code == 200 {
        assert!(answer.value["metadata"]["deletionTimestamp"].is_string(), "{}", answer.value);
        let free = json!({"metadata": {"finalizers": null}});
        api.patch(one, "merge", &free).await.expect(200);
    }
    api.get(one).await.failed(404, "NotFound");
}

async fn watch_until_deleted(watch: &mut crate::api::Watch, of: &str) {
    loop {
        let (word, object) = watch.next().await;
        assert_eq!(name(&object), of);
        if word == "DELETED" {
            return;
        }
        assert_eq!(word, "MODIFIED");
    }
}
