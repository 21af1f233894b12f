//! Versions that a webhook converts between: `v1` says `hostPort`, `v2` says `host` and `port`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_core::{
    request::WatchEvent,
    seam::webhook::{WebhookCaller, WebhookEndpoint, WebhookError},
    selector::FieldSelector,
};
use parking_lot::Mutex;

use super::*;
use crate::server::tests::fixture::built;

/// Converts, unless it is away, and admits; notes what it was asked.
#[derive(Default)]
struct Hook {
    is_away: AtomicBool,
    renames: AtomicBool,
    /// The version that was asked for, and of how many objects.
    reviews: Mutex<Vec<(String, usize)>>,
    admitted: Mutex<Vec<Doc>>,
}

#[async_trait]
impl WebhookCaller for Hook {
    async fn post(&self, endpoint: &WebhookEndpoint, _: Duration, body: Bytes) -> Result<Bytes, WebhookError> {
        if self.is_away.load(Relaxed) {
            let why = "connect: connection refused".into();
            return Err(WebhookError::Unreachable { url: endpoint.url.clone(), why });
        }
        // As over a network, others go on meanwhile.
        tokio::task::yield_now().await;
        let mut review = Doc::parse(&body).unwrap();
        let asked = review.get("request").unwrap().clone();
        let response = if review.str_at(&["kind"]) == "ConversionReview" {
            self.convert(&asked)
        } else {
            self.admitted.lock().push(asked.clone());
            let patch = r#"[{"op":"add","path":"/port","value":"9"}]"#;
            let patch = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, patch);
            doc!({"uid": asked.str_at(&["uid"]), "allowed": true, "patchType": "JSONPatch", "patch": patch})
        };
        review.set_at(&["response"], response);
        Ok(review.to_json().into())
    }
}

impl Hook {
    fn convert(&self, asked: &Doc) -> Doc {
        let version = asked.str_at(&["desiredAPIVersion"]);
        let objects = asked.get("objects").unwrap().items();
        self.reviews.lock().push((version.to_owned(), objects.len()));
        let turn = |object: &Doc| {
            let mut object = object.clone();
            assert_ne!(object.str_at(&["apiVersion"]), version, "nothing is asked that is there already");
            object.set_at(&["apiVersion"], version.into());
            if version.ends_with("/v2") {
                let (host, port) = object.str_at(&["hostPort"]).split_once(':').map_or(("", ""), |pair| pair);
                let (host, port) = (host.to_owned(), port.to_owned());
                object.set_at(&["host"], host.into());
                object.set_at(&["port"], port.into());
                object.remove_at(&["hostPort"]);
            } else {
                let text = format!("{}:{}", object.str_at(&["host"]), object.str_at(&["port"]));
                object.set_at(&["hostPort"], text.into());
                object.remove_at(&["host"]);
                object.remove_at(&["port"]);
            }
            object.set_at(&["metadata", "labels", "form"], version.rsplit('/').next().unwrap().into());
            object.set_at(&["metadata", "finalizers"], doc!(["not/mine"]));
            if self.renames.load(Relaxed) {
                object.set_at(&["metadata", "name"], "other".into());
            }
            object
        };
        let converted: Vec<Doc> = objects.iter().map(turn).collect();
        let mut response = doc!({"uid": asked.str_at(&["uid"]), "result": {"status": "Success"}});
        response.set_at(&["convertedObjects"], Doc::Array(converted));
        response
    }

    /// What was asked since this was asked last.
    fn asked(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.reviews.lock())
    }
}

fn version(name: &str, is_stored: bool, fields: &[&str]) -> Doc {
    let mut schema = doc!({"type": "object", "properties": {}});
    for field in fields {
        schema.set_at(&["properties", field], doc!({"type": "string"}));
    }
    let mut version = doc!({"name": name, "served": true, "storage": is_stored});
    version.set_at(&["schema"], doc!({"openAPIV3Schema": schema}));
    version
}

fn versions(stored: &str) -> Doc {
    let mut second = version("v2", stored == "v2", &["host", "port"]);
    second.set_at(&["selectableFields"], doc!([{"jsonPath": ".host"}]));
    Doc::Array(vec![version("v1", stored == "v1", &["hostPort"]), second])
}

/// A server with the kind, stored at `v1`.
async fn converting() -> (Fixture, Arc<Hook>) {
    let hook = Arc::new(Hook::default());
    let caller = hook.clone();
    let api = built(|builder| builder.webhooks(caller)).await;
    let mut definition = wheels(anything());
    definition.set_at(&["spec", "versions"], versions("v1"));
    let conversion = doc!({"strategy": "Webhook", "webhook": {
        "clientConfig": {"url": "https://hook.example.com/convert"}, "conversionReviewVersions": ["v1"]}});
    definition.set_at(&["spec", "conversion"], conversion);
    api.define(definition).await;
    (api, hook)
}

fn wheel(name: &str, host_port: &str) -> Doc {
    doc!({"metadata": {"name": name}, "hostPort": host_port})
}

async fn listed(api: &Fixture, version: &str, options: Options) -> Vec<String> {
    let target = Target::all(ResourceType::new("example.com", version, "wheels"), "default");
    let list = api.ask(ApiRequest { verb: Verb::List, target, options, ..ApiRequest::default() }).await.unwrap();
    let items = list.into_list().unwrap().items;
    assert!(items.iter().all(|object| object.meta.api_version == format!("example.com/{version}")), "{items:?}");
    items.iter().map(|object| object.meta.name.to_string()).collect()
}

async fn watched(api: &Fixture, options: Options) -> WatchStream {
    let target = Target::all(ResourceType::new("example.com", "v2", "wheels"), "default");
    let watch = ApiRequest { verb: Verb::Watch, target, options, ..ApiRequest::default() };
    api.ask(watch).await.unwrap().into_watch().unwrap()
}

/// The next event: its word, the object's version and its `host`.
async fn next(watch: &mut WatchStream) -> String {
    let event = watch.next().await.unwrap().unwrap();
    let object = event.object().unwrap();
    let doc = Doc::parse(object.stored_json()).unwrap();
    let word = match event {
        WatchEvent::Added(_) => "added",
        WatchEvent::Modified(_) => "modified",
        WatchEvent::Deleted(_) => "deleted",
        WatchEvent::Bookmark { .. } => "bookmark",
    };
    format!("{word} {} {}:{}", object.meta.api_version, doc.str_at(&["host"]), doc.str_at(&["port"]))
}

async fn delete(api: &Fixture, version: &str, name: &str) {
    let target = Target::one(ResourceType::new("example.com", version, "wheels"), "default", name);
    api.ask(ApiRequest { verb: Verb::Delete, target, ..ApiRequest::default() }).await.unwrap();
}

async fn stored(api: &Fixture, name: &str) -> Doc {
    let key = format!("/registry/example.com/wheels/default/{name}");
    Doc::parse(&api.store.get(&key.as_str().into()).await.unwrap().unwrap().value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn objects_are_read_and_written_at_every_version() {
    let (api, _) = converting().await;
    let made = api.make_wheel(wheel("a", "h:1")).await.unwrap();
    let mut second = api.read_wheel("v2/a").await.unwrap();
    assert_eq!((second.str_at(&["host"]), second.str_at(&["port"]), second.get("hostPort")), ("h", "1", None));
    assert_eq!(second.str_at(&["metadata", "resourceVersion"]), made.str_at(&["metadata", "resourceVersion"]));
    assert_eq!(second.at(&["metadata", "finalizers"]), None, "a webhook changes labels and annotations only");
    second.set_at(&["port"], "2".into());
    let written = api.wheel(Verb::Update, "v2/a", RequestBody::Doc(second)).await.unwrap();
    assert_eq!((written.str_at(&["apiVersion"]), written.str_at(&["port"])), ("example.com/v2", "2"));
    let merge = RequestBody::Patch(PatchKind::Merge, doc!({"host": "g"}));
    assert_eq!(api.wheel(Verb::Patch, "v2/a", merge).await.unwrap().str_at(&["host"]), "g");
    let kept = stored(&api, "a").await;
    assert_eq!((kept.str_at(&["apiVersion"]), kept.str_at(&["hostPort"])), ("example.com/v1", "g:2"));
    assert_eq!(kept.get("host"), None);
    assert_eq!(api.read_wheel("v1/a").await.unwrap().str_at(&["hostPort"]), "g:2");
    let body = doc!({"apiVersion": "example.com/v2", "kind": "Wheel", "metadata": {"name": "a"}, "port": "3"});
    let options = Options { field_manager: Some("painter".into()), force: true, ..Options::default() };
    let apply = RequestBody::Patch(PatchKind::Apply, body);
    let applied = api.wheel_with(Verb::Patch, "v2/a", apply, options).await.unwrap();
    assert_eq!((applied.str_at(&["host"]), applied.str_at(&["port"])), ("g", "3"));
    let managers = applied.at(&["metadata", "managedFields"]).unwrap().items();
    let of = |version: &str| managers.iter().filter(|entry| entry.str_at(&["apiVersion"]) == version).count();
    assert!(of("example.com/v1") > 0 && of("example.com/v2") > 1, "{managers:?}");
    // What is written as it was is no change.
    let same = api.wheel(Verb::Update, "v2/a", RequestBody::Doc(applied.clone())).await.unwrap();
    assert_eq!(same.str_at(&["metadata", "resourceVersion"]), applied.str_at(&["metadata", "resourceVersion"]));
    let other = doc!({"metadata": {"name": "b"}, "host": "i", "port": "4"});
    let other = api.wheel(Verb::Create, "v2", RequestBody::Doc(other)).await.unwrap();
    assert_eq!((other.str_at(&["apiVersion"]), other.str_at(&["host"])), ("example.com/v2", "i"));
    delete(&api, "v2", "b").await;
    refusal(api.read_wheel("v1/b").await, 404);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_one_review_and_is_kept() {
    let (api, hook) = converting().await;
    for name in ["a", "b", "c"] {
        api.make_wheel(wheel(name, "h:1")).await.unwrap();
    }
    assert_eq!(listed(&api, "v1", Options::default()).await, ["a", "b", "c"]);
    assert_eq!(hook.asked(), [], "what is there already is not asked for");
    assert_eq!(listed(&api, "v2", Options::default()).await, ["a", "b", "c"]);
    assert_eq!(hook.asked(), [("example.com/v2".to_owned(), 3)]);
    let merge = RequestBody::Patch(PatchKind::Merge, doc!({"hostPort": "h:2"}));
    api.wheel(Verb::Patch, "v1/b", merge).await.unwrap();
    assert_eq!(listed(&api, "v2", Options::default()).await, ["a", "b", "c"]);
    assert_eq!(hook.asked(), [("example.com/v2".to_owned(), 1)], "only what changed");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_converted_once_for_all_who_watch() {
    let (api, hook) = converting().await;
    api.make_wheel(wheel("a", "h:1")).await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(watched(&api, Options::default()).await);
    }
    let told = futures::future::join_all(watches.iter_mut().map(next)).await;
    assert_eq!(told, ["added example.com/v2 h:1"; 3]);
    assert_eq!(hook.asked(), [("example.com/v2".to_owned(), 1)]);
    let merge = RequestBody::Patch(PatchKind::Merge, doc!({"hostPort": "h:2"}));
    api.wheel(Verb::Patch, "v1/a", merge).await.unwrap();
    assert_eq!(futures::future::join_all(watches.iter_mut().map(next)).await, ["modified example.com/v2 h:2"; 3]);
    delete(&api, "v1", "a").await;
    assert_eq!(futures::future::join_all(watches.iter_mut().map(next)).await, ["deleted example.com/v2 h:2"; 3]);
    assert_eq!(hook.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_an_error_while_the_webhook_is_away_and_loses_nothing() {
    let (api, hook) = converting().await;
    api.make_wheel(wheel("a", "h:1")).await.unwrap();
    let mut watch = watched(&api, Options::default()).await;
    assert_eq!(next(&mut watch).await, "added example.com/v2 h:1");
    let merge = |text: &str| RequestBody::Patch(PatchKind::Merge, doc!({"hostPort": text}));
    let seen = api.wheel(Verb::Patch, "v1/a", merge("h:2")).await.unwrap();
    assert_eq!(next(&mut watch).await, "modified example.com/v2 h:2");
    hook.is_away.store(true, Relaxed);
    api.wheel(Verb::Patch, "v1/a", merge("h:3")).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.reason()), (500, k8s_core::status::Reason::InternalError));
    assert!(error.to_string().starts_with("conversion webhook for example.com/v1, Kind=Wheel failed: Post"), "{error}");
    assert!(watch.next().await.is_none(), "after an error nothing follows");
    hook.is_away.store(false, Relaxed);
    let from = seen.str_at(&["metadata", "resourceVersion"]).parse().unwrap();
    let mut again = watched(&api, Options { resource_version: Some(from), ..Options::default() }).await;
    assert_eq!(next(&mut again).await, "modified example.com/v2 h:3");
    delete(&api, "v1", "a").await;
    assert_eq!(next(&mut again).await, "deleted example.com/v2 h:3");
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_conversion_works_while_the_webhook_is_away() {
    let (api, hook) = converting().await;
    api.make_wheel(wheel("a", "h:1")).await.unwrap();
    hook.is_away.store(true, Relaxed);
    let error = api.read_wheel("v2/a").await.unwrap_err();
    assert_eq!((error.code(), error.status().reason), (500, None), "as upstream");
    let expected = "conversion webhook for example.com/v1, Kind=Wheel failed: Post \
                    \"https://hook.example.com/convert?timeout=30s\": connect: connection refused";
    assert_eq!(error.to_string(), expected);
    let two = doc!({"metadata": {"name": "b"}, "host": "h", "port": "1"});
    let refused = api.wheel(Verb::Create, "v2", RequestBody::Doc(two)).await;
    assert!(refusal(refused, 500).starts_with("conversion webhook for example.com/v2, Kind=Wheel failed: Post"));
    assert_eq!(listed(&api, "v1", Options::default()).await, ["a"], "nothing was written");
    // Namespaces and kinds are emptied at the stored version.
    api.delete("customresourcedefinitions/wheels.example.com", "", Options::default()).await.unwrap();
    api.until_gone("wheels.example.com").await;
}

#[tokio::test(start_paused = true)]
async fn selectors_are_judged_after_the_conversion() {
    let (api, _) = converting().await;
    for (name, text) in [("a", "h:1"), ("b", "i:1")] {
        let mut doc = wheel(name, text);
        doc.set_at(&["metadata", "labels"], doc!({"form": "v1"}));
        api.make_wheel(doc).await.unwrap();
    }
    let labels = |text: &str| Options { label_selector: text.parse().unwrap(), ..Options::default() };
    assert_eq!(listed(&api, "v2", labels("form=v2")).await, ["a", "b"]);
    assert!(listed(&api, "v2", labels("form=v1")).await.is_empty());
    assert!(listed(&api, "v1", labels("form=v2")).await.is_empty());
    let fields = Options { field_selector: FieldSelector::equal("host", "i"), ..Options::default() };
    assert_eq!(listed(&api, "v2", fields.clone()).await, ["b"]);
    let mut watch = watched(&api, fields).await;
    assert_eq!(next(&mut watch).await, "added example.com/v2 i:1");
    let merge = |text: &str| RequestBody::Patch(PatchKind::Merge, doc!({"hostPort": text}));
    for (name, text) in [("a", "h:2"), ("b", "h:2"), ("a", "i:2"), ("a", "i:3")] {
        api.wheel(Verb::Patch, &format!("v1/{name}"), merge(text)).await.unwrap();
    }
    assert_eq!(next(&mut watch).await, "deleted example.com/v2 h:2", "b ceased to match");
    assert_eq!(next(&mut watch).await, "added example.com/v2 i:2", "a began to");
    assert_eq!(next(&mut watch).await, "modified example.com/v2 i:3");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_does_not_make_another_object_of_one() {
    let (api, hook) = converting().await;
    api.make_wheel(wheel("a", "h:1")).await.unwrap();
    hook.renames.store(true, Relaxed);
    let expected = "conversion webhook for example.com/v1, Kind=Wheel returned invalid object: must have the same name: a != other";
    assert_eq!(refusal(api.read_wheel("v2/a").await, 500), expected);
}

#[tokio::test(start_paused = true)]
async fn the_stored_version_may_change_under_objects_of_both() {
    let (api, _) = converting().await;
    api.make_wheel(wheel("a", "h:1")).await.unwrap();
    let redefined = api.redefine("wheels.example.com", doc!({"spec": {"versions": versions("v2")}})).await;
    assert_eq!(redefined.at(&["status", "storedVersions"]).unwrap().to_string(), r#"["v1","v2"]"#);
    api.make_wheel(wheel("b", "i:1")).await.unwrap();
    assert_eq!(stored(&api, "a").await.str_at(&["apiVersion"]), "example.com/v1");
    assert_eq!(stored(&api, "b").await.str_at(&["host"]), "i");
    for version in ["v1", "v2"] {
        assert_eq!(listed(&api, version, Options::default()).await, ["a", "b"]);
    }
    // What is written as it is migrates.
    let same = api.read_wheel("v1/a").await.unwrap();
    api.wheel(Verb::Update, "v1/a", RequestBody::Doc(same)).await.unwrap();
    assert_eq!(stored(&api, "a").await.str_at(&["host"]), "h");
}

#[tokio::test(start_paused = true)]
async fn admission_webhooks_see_the_version_that_they_asked_for() {
    let (api, hook) = converting().await;
    let configuration = doc!({"metadata": {"name": "m"}, "webhooks": [{
        "name": "wheels.hooks.example.com", "clientConfig": {"url": "https://hook.example.com/admit"},
        "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v2"],
            "resources": ["wheels"]}],
        "admissionReviewVersions": ["v1"], "sideEffects": "None"}]});
    api.create("mutatingwebhookconfigurations", "", configuration).await.unwrap();
    let made = api.make_wheel(wheel("a", "h:1")).await.unwrap();
    let asked = std::mem::take(&mut *hook.admitted.lock());
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].str_at(&["object", "host"]), asked[0].str_at(&["object", "port"])), ("h", "1"));
    assert_eq!((made.str_at(&["apiVersion"]), made.str_at(&["hostPort"])), ("example.com/v1", "h:9"), "its patch");
}
