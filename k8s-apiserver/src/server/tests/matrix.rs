//! Every kind that is stored, through everything that can be done to it.

use std::sync::Arc;

use futures::StreamExt;
use k8s_core::{
    doc,
    doc::Doc,
    registry::ResourceInfo,
    request::{
        ApiRequest, ApiResponse, Options, PatchKind, Propagation, RequestBody, Target, Verb, WatchEvent, WatchStream,
    },
    seam::transport::Transport,
    selector::LabelSelector,
    status::ApiResult,
};

use super::{
    fixture::{Fixture, revision, server},
    samples::{name_of, sample},
};

/// One kind, asked through one door.
pub struct Matrix<'a> {
    door: &'a dyn Transport,
    info: &'a ResourceInfo,
    namespace: &'static str,
}

impl<'a> Matrix<'a> {
    pub fn new(door: &'a dyn Transport, info: &'a ResourceInfo) -> Self {
        Self { door, info, namespace: if info.is_namespaced() { "default" } else { "" } }
    }

    fn one(&self, name: &str) -> Target {
        Target::one(self.info.resource(), self.namespace, name)
    }

    fn all(&self) -> Target {
        Target::all(self.info.resource(), self.namespace)
    }

    fn body(&self, name: &str) -> Doc {
        let mut body = sample(&self.info.api_version(), &self.info.plural);
        body.set_at(&["apiVersion"], self.info.api_version().into());
        body.set_at(&["kind"], self.info.kind.clone().into());
        body.set_at(&["metadata", "name"], name.into());
        body
    }

    async fn ask(&self, verb: Verb, target: Target, options: Options, body: RequestBody) -> ApiResult<ApiResponse> {
        self.door.call(ApiRequest { verb, target, options, body, ..ApiRequest::default() }).await
    }

    /// The answer, which must be an object.
    async fn doc(&self, verb: Verb, target: Target, options: Options, body: RequestBody) -> Doc {
        let what = format!("{} {target:?}", verb.as_str());
        let answer = self.ask(verb, target, options, body).await;
        answer.and_then(ApiResponse::into_doc).unwrap_or_else(|error| panic!("{what}: {:?}", error.status()))
    }

    async fn code(&self, verb: Verb, target: Target, body: RequestBody) -> u16 {
        self.ask(verb, target, Options::default(), body).await.err().map_or(200, |error| error.code())
    }

    /// Creates, reads, changes in every way, deletes.
    pub async fn run(&self) {
        let name = name_of(&self.info.plural);
        let created = self.create(name).await;
        self.read(name, &created).await;
        let mut watch = self.watch(&created).await;
        let patched = self.change(name, created).await;
        if self.info.subresource("status").is_some() {
            self.status(name, &patched).await;
        }
        self.delete(name, &mut watch).await;
    }

    async fn create(&self, name: &str) -> Doc {
        let plural = &self.info.plural;
        let dry = Options { dry_run: true, ..Options::default() };
        let body = || RequestBody::Doc(self.body(name));
        let would_be = self.doc(Verb::Create, self.all(), dry, body()).await;
        assert_eq!(would_be.str_at(&["metadata", "name"]), name);
        assert_eq!(self.code(Verb::Get, self.one(name), RequestBody::None).await, 404, "{plural}: a dry run is dry");
        let created = self.doc(Verb::Create, self.all(), Options::default(), body()).await;
        assert_eq!(created.str_at(&["kind"]), self.info.kind);
        assert_eq!(created.str_at(&["apiVersion"]), self.info.api_version());
        assert_eq!(created.str_at(&["metadata", "uid"]).len(), 36, "{plural}");
        assert!(!created.str_at(&["metadata", "creationTimestamp"]).is_empty(), "{plural}");
        assert_eq!(self.code(Verb::Create, self.all(), body()).await, 409, "{plural}");
        created
    }

    async fn read(&self, name: &str, created: &Doc) {
        let plural = &self.info.plural;
        let read = self.doc(Verb::Get, self.one(name), Options::default(), RequestBody::None).await;
        assert_eq!(read, *created, "{plural}");
        let again = RequestBody::Doc(read.clone());
        let again = self.doc(Verb::Update, self.one(name), Options::default(), again).await;
        assert_eq!(revision(&again), revision(&read), "{plural}: no change is no write: {read} {again}");
        let list = self.ask(Verb::List, self.all(), Options::default(), RequestBody::None).await;
        let list = list.and_then(ApiResponse::into_list).unwrap_or_else(|error| panic!("{plural}: {error}"));
        assert!(list.items.iter().any(|object| object.meta.name == name), "{plural}");
    }

    async fn watch(&self, since: &Doc) -> WatchStream {
        let options = Options { resource_version: Some(revision(since)), ..Options::default() };
        let watch = self.ask(Verb::Watch, self.all(), options, RequestBody::None).await;
        watch.and_then(ApiResponse::into_watch).unwrap_or_else(|error| panic!("{}: {error}", self.info.plural))
    }

    /// Each kind of patch, and an update that comes too late.
    async fn change(&self, name: &str, before: Doc) -> Doc {
        let plural = &self.info.plural;
        let label = |value: &str| doc!({"metadata": {"labels": {"x": value}}});
        let json = doc!([{"op": "replace", "path": "/metadata/labels/x", "value": "json"}]);
        let mut applied = label("applied");
        applied.set_at(&["apiVersion"], self.info.api_version().into());
        applied.set_at(&["kind"], self.info.kind.clone().into());
        applied.set_at(&["metadata", "name"], name.into());
        let patches = [
            (PatchKind::Merge, label("merge"), "merge"),
            (PatchKind::Json, json, "json"),
            (PatchKind::Strategic, label("strategic"), "strategic"),
            (PatchKind::Apply, applied, "applied"),
        ];
        let mut last = before.clone();
        for (kind, patch, value) in patches {
            let is_apply = kind == PatchKind::Apply;
            let options = Options {
                field_manager: Some("matrix".into()).filter(|_| is_apply),
                force: is_apply,
                ..Options::default()
            };
            let patched = self.doc(Verb::Patch, self.one(name), options, RequestBody::Patch(kind, patch)).await;
            assert!(revision(&patched) > revision(&last), "{plural} {value}");
            assert_eq!(patched.str_at(&["metadata", "labels", "x"]), value, "{plural}");
            last = patched;
        }
        let late = RequestBody::Doc(before);
        assert_eq!(self.code(Verb::Update, self.one(name), late).await, 409, "{plural}: the revision is stale");
        last
    }

    /// The status changes through its subresource, and nothing else does.
    async fn status(&self, name: &str, before: &Doc) {
        let plural = &self.info.plural;
        let target = self.one(name).subresource("status");
        let read = self.doc(Verb::Get, target.clone(), Options::default(), RequestBody::None).await;
        assert_eq!(read, *before, "{plural}");
        let mut wanted = read;
        wanted.remove_at(&["spec"]);
        let answer = self.doc(Verb::Update, target.clone(), Options::default(), RequestBody::Doc(wanted)).await;
        assert_eq!(answer.get("spec"), before.get("spec"), "{plural}");
        let patch = RequestBody::Patch(PatchKind::Merge, doc!({"status": {}}));
        self.doc(Verb::Patch, target, Options::default(), patch).await;
    }

    async fn delete(&self, name: &str, watch: &mut WatchStream) {
        let plural = &self.info.plural;
        let now =
            Options { grace_period_seconds: Some(0), propagation: Some(Propagation::Background), ..Options::default() };
        let gone = self.ask(Verb::Delete, self.one(name), now, RequestBody::None).await;
        assert!(gone.is_ok(), "{plural}: {:?}", gone.err());
        self.let_go(name).await;
        while let Some(event) = watch.next().await {
            match event.unwrap_or_else(|error| panic!("{plural}: {error}")) {
                WatchEvent::Deleted(object) if object.meta.name == name => break,
                WatchEvent::Modified(object) if plural == "namespaces" && object.meta.deleted.is_some() => break,
                _ => {}
            }
        }
        if !self.info.supports(Verb::DeleteCollection) {
            return;
        }
        let mut body = self.body(name);
        body.set_at(&["metadata", "labels"], doc!({"collect": "me"}));
        self.doc(Verb::Create, self.all(), Options::default(), RequestBody::Doc(body)).await;
        let selector = LabelSelector::equal([("collect".to_owned(), "me")]);
        let options = Options { label_selector: selector, grace_period_seconds: Some(0), ..Options::default() };
        let gone = self.ask(Verb::DeleteCollection, self.all(), options, RequestBody::None).await;
        assert!(gone.is_ok(), "{plural}: {:?}", gone.err());
        self.let_go(name).await;
        assert_eq!(self.code(Verb::Get, self.one(name), RequestBody::None).await, 404, "{plural}");
    }

    /// Takes the finalizers away by which admission holds some kinds.
    async fn let_go(&self, name: &str) {
        let held = self.ask(Verb::Get, self.one(name), Options::default(), RequestBody::None).await;
        if held.is_ok() && self.info.plural != "namespaces" {
            let patch = RequestBody::Patch(PatchKind::Merge, doc!({"metadata": {"finalizers": null}}));
            self.doc(Verb::Patch, self.one(name), Options::default(), patch).await;
        }
    }
}

/// Every stored kind through a door.
pub async fn run_all(api: &Fixture, door: &dyn Transport) {
    let registry = api.api.registry();
    // What extends the API has tests of its own.
    let extends = ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];
    let is_sampled = |info: &&Arc<ResourceInfo>| {
        info.supports(Verb::Create) && info.is_stored() && !extends.contains(&info.group.as_str())
    };
    let kinds: Vec<Arc<ResourceInfo>> = registry.iter().filter(is_sampled).cloned().collect();
    assert!(kinds.len() >= 50, "{} kinds", kinds.len());
    for info in kinds {
        Matrix::new(door, &info).run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_does_everything_in_process() {
    let api = server().await;
    let door = api.api.transport(api.caller.clone());
    run_all(&api, &*door).await;
}
