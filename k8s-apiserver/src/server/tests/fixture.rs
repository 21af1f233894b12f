//! A server of one's own, and short ways to ask it.

use std::sync::Arc;

use super::clock::paused;
use crate::server::{ApiServer, ApiServerBuilder};
use futures::StreamExt;
use k8s_core::{
    doc::Doc,
    env::Env,
    object::Object,
    registry::Registry,
    request::{
        ApiRequest, ApiResponse, Caller, ObjectList, Options, PatchKind, RequestBody, ResourceType, Target, Verb,
        WatchEvent, WatchStream,
    },
    status::{ApiError, ApiResult},
};
use k8s_store::{Digest, Memory, Store};

/// A server and who asks it.
#[derive(Clone)]
pub struct Fixture {
    pub env: Env,
    pub api: ApiServer,
    pub store: Arc<dyn Store>,
    pub caller: Caller,
}

/// A ready server, asked by an administrator.
pub async fn server() -> Fixture {
    built(|builder| builder).await
}

/// The same with more parts.
pub async fn built(with: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder) -> Fixture {
    let env = paused();
    let store: Arc<dyn Store> = Arc::new(Memory::new(env.clone()));
    over(store, env, with).await
}

/// The same over a store that may hold something already.
pub async fn over(store: Arc<dyn Store>, env: Env, with: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder) -> Fixture {
    let api = with(ApiServer::builder(store.clone(), env.clone())).start().await.unwrap();
    let caller = Caller::new("admin", &["system:masters"]).with_agent("test/1");
    let fixture = Fixture { env, api, store, caller };
    let account = k8s_core::doc!({"metadata": {"name": "default"}});
    // What the service account controller does.
    let made = fixture.create("serviceaccounts", "default", account).await;
    assert!(made.is_ok_and(|_| true) || fixture.get("serviceaccounts/default", "default").await.is_ok());
    fixture
}

/// The resource of a plural name.
pub fn resource(plural: &str) -> ResourceType {
    let registry = Registry::builtin();
    let found = registry.iter().find(|info| info.plural == plural).unwrap_or_else(|| panic!("no {plural}"));
    found.resource()
}

/// A collection, or one object: `pods`, `pods/NAME`, `pods/NAME/SUB`.
pub fn target(path: &str, namespace: &str) -> Target {
    let mut parts = path.splitn(3, '/');
    let plural = resource(parts.next().unwrap_or_default());
    let target = Target::one(plural, namespace, parts.next().unwrap_or_default());
    target.subresource(parts.next().unwrap_or_default())
}

impl Fixture {
    pub fn acting(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    pub async fn ask(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.api.handle(self.caller.clone(), request).await
    }

    pub async fn call(
        &self,
        verb: Verb,
        path: &str,
        namespace: &str,
        options: Options,
        body: RequestBody,
    ) -> ApiResult<ApiResponse> {
        let target = target(path, namespace);
        self.ask(ApiRequest { verb, target, options, body, ..ApiRequest::default() }).await
    }

    pub async fn create(&self, path: &str, namespace: &str, doc: Doc) -> ApiResult<Doc> {
        let options = Options::default();
        self.call(Verb::Create, path, namespace, options, RequestBody::Doc(doc)).await?.into_doc()
    }

    pub async fn get(&self, path: &str, namespace: &str) -> ApiResult<Doc> {
        self.call(Verb::Get, path, namespace, Options::default(), RequestBody::None).await?.into_doc()
    }

    pub async fn update(&self, path: &str, namespace: &str, doc: Doc) -> ApiResult<Doc> {
        let options = Options::default();
        self.call(Verb::Update, path, namespace, options, RequestBody::Doc(doc)).await?.into_doc()
    }

    pub async fn patch(&self, path: &str, namespace: &str, kind: PatchKind, patch: Doc) -> ApiResult<Doc> {
        let options = Options::default();
        self.call(Verb::Patch, path, namespace, options, RequestBody::Patch(kind, patch)).await?.into_doc()
    }

    pub async fn apply(&self, path: &str, namespace: &str, manager: &str, doc: Doc) -> ApiResult<Doc> {
        let options = Options { field_manager: Some(manager.into()), ..Options::default() };
        self.call(Verb::Patch, path, namespace, options, RequestBody::Patch(PatchKind::Apply, doc)).await?.into_doc()
    }

    pub async fn delete(&self, path: &str, namespace: &str, options: Options) -> ApiResult<ApiResponse> {
        self.call(Verb::Delete, path, namespace, options, RequestBody::None).await
    }

    pub async fn list(&self, plural: &str, namespace: &str, options: Options) -> ApiResult<ObjectList> {
        self.call(Verb::List, plural, namespace, options, RequestBody::None).await?.into_list()
    }

    pub async fn watch(&self, plural: &str, namespace: &str, options: Options) -> ApiResult<WatchStream> {
        self.call(Verb::Watch, plural, namespace, options, RequestBody::None).await?.into_watch()
    }

    pub async fn digest(&self) -> Digest {
        self.store.digest().await.unwrap()
    }

    /// Asks what must fail, and must leave the store as it was.
    pub async fn refused(&self, request: ApiRequest) -> ApiError {
        let before = self.digest().await;
        let error = self.ask(request.clone()).await.err().unwrap_or_else(|| panic!("not refused: {}", short(&request)));
        assert_eq!(before, self.digest().await, "a refused request changed the store: {}", short(&request));
        error
    }
}

/// A request as failures show it.
pub fn short(request: &ApiRequest) -> String {
    format!("{request:?}").chars().take(1000).collect()
}

/// The next event of a watch, as `ADDED name`.
pub async fn next(watch: &mut WatchStream) -> String {
    match watch.next().await {
        Some(Ok(event)) => shown(&event),
        Some(Err(error)) => format!("ERROR {}", error.code()),
        None => "END".into(),
    }
}

/// The events that are there at once.
pub fn ready(watch: &mut WatchStream) -> Vec<String> {
    use futures::FutureExt;
    std::iter::from_fn(|| watch.next().now_or_never().flatten())
        .map(|event| event.map_or("ERROR".into(), |e| shown(&e)))
        .collect()
}

fn shown(event: &WatchEvent) -> String {
    let name = |object: &Arc<Object>| object.meta.name.to_string();
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", name(object)),
        WatchEvent::Modified(object) => format!("MODIFIED {}", name(object)),
        WatchEvent::Deleted(object) => format!("DELETED {}", name(object)),
        WatchEvent::Bookmark { initial_events_end: true, .. } => "INITIAL-END".into(),
        WatchEvent::Bookmark { .. } => "BOOKMARK".into(),
    }
}

/// The names of a list.
pub fn names(list: &ObjectList) -> Vec<&str> {
    list.items.iter().map(|object| object.meta.name.as_str()).collect()
}

/// `metadata.resourceVersion`.
pub fn revision(doc: &Doc) -> u64 {
    doc.str_at(&["metadata", "resourceVersion"]).parse().unwrap()
}
