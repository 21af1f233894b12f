//! The client: typed questions to an API server, over whatever transport it was given.
//!
//! A [`Client`] is cheap to clone. It holds the shared informers of its cluster, and may carry a fence so that every
//! write it makes fails once a leadership is lost.

use std::{marker::PhantomData, sync::Arc};

use k8s_core::{
    doc::Doc,
    env::Env,
    object::Object,
    request::{
        ApiRequest, ApiResponse, Fence, ObjectList, Options, PatchKind, Propagation, RequestBody, ResourceType, Target,
        Verb, WatchStream,
    },
    resource::{Draft, Resource, Stored, encode},
    seam::transport::Transport,
    status::ApiResult,
};

use crate::informer::{Informer, InformerScope, Informers};

/// A handle to one cluster under one identity.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    fence: Option<Fence>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    env: Env,
    informers: Informers,
}

impl Client {
    /// A client over a transport; time and tasks come from `env`.
    pub fn new(transport: Arc<dyn Transport>, env: Env) -> Self {
        let informers = Informers::new(transport.clone(), env.clone());
        Self { shared: Arc::new(Shared { transport, env, informers }), fence: None }
    }

    /// The same client, whose writes fail with a conflict once `fence` is no longer current.
    pub fn fenced(&self, fence: Fence) -> Self {
        Self { shared: self.shared.clone(), fence: Some(fence) }
    }

    /// The fence of this client's writes, for another client that does the same work under another identity.
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Where time, randomness and tasks come from.
    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// Asks anything. A write without a fence of its own gets the client's.
    pub async fn call(&self, mut request: ApiRequest) -> ApiResult<ApiResponse> {
        if request.verb.is_write() && request.fence.is_none() {
            request.fence = self.fence.clone();
        }
        self.shared.transport.call(request).await
    }

    /// The objects of one kind in all namespaces, or of a cluster-scoped kind.
    pub fn all<K: Resource>(&self) -> Api<K> {
        Api { client: self.clone(), namespace: String::new(), kind: PhantomData }
    }

    /// The objects of one kind in one namespace.
    pub fn namespaced<K: Resource>(&self, namespace: impl Into<String>) -> Api<K> {
        Api { client: self.clone(), namespace: namespace.into(), kind: PhantomData }
    }

    /// The shared informer of one kind: started by the first who asks, stopped after the last.
    pub fn informer<K: Resource>(&self, scope: InformerScope) -> Informer<K> {
        Informer::new(self.dynamic_informer(K::resource(), scope))
    }

    /// The shared informer of a kind known only by name.
    pub fn dynamic_informer(&self, resource: ResourceType, scope: InformerScope) -> crate::informer::DynamicInformer {
        self.shared.informers.get(resource, scope)
    }

    /// Lists a kind known only by name.
    pub async fn list_objects(&self, target: Target, options: Options) -> ApiResult<ObjectList> {
        self.call(ApiRequest { verb: Verb::List, target, options, ..Default::default() }).await?.into_list()
    }

    /// Watches a kind known only by name, from `options.resource_version`.
    pub async fn watch_objects(&self, target: Target, options: Options) -> ApiResult<WatchStream> {
        self.call(ApiRequest { verb: Verb::Watch, target, options, ..Default::default() }).await?.into_watch()
    }

    /// Patches an object of a kind known only by name.
    pub async fn patch_object(
        &self,
        target: Target,
        kind: PatchKind,
        patch: Doc,
        options: Options,
    ) -> ApiResult<Arc<Object>> {
        let body = RequestBody::Patch(kind, patch);
        self.call(ApiRequest { verb: Verb::Patch, target, options, body, ..Default::default() }).await?.into_object()
    }

    /// Deletes an object of a kind known only by name.
    pub async fn delete_object(&self, target: Target, options: Options) -> ApiResult<()> {
        self.call(ApiRequest { verb: Verb::Delete, target, options, ..Default::default() }).await.map(drop)
    }
}

/// The objects of one kind, in one namespace or all.
#[derive(Clone)]
pub struct Api<K> {
    client: Client,
    namespace: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource> Api<K> {
    /// Reads one object from the server (linearizable).
    pub async fn get(&self, name: &str) -> ApiResult<Stored<K>> {
        self.object(Verb::Get, name, RequestBody::None, Options::default(), "").await
    }

    /// Reads one object, `None` if there is none.
    pub async fn find(&self, name: &str) -> ApiResult<Option<Stored<K>>> {
        match self.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all objects that the options select.
    pub async fn list(&self, options: Options) -> ApiResult<Vec<Stored<K>>> {
        let list = self.client.list_objects(Target::all(K::resource(), self.namespace.as_str()), options).await?;
        list.items.into_iter().map(Stored::new).collect()
    }

    /// Creates an object. The namespace of the handle is filled in where the draft names none.
    pub async fn create(&self, draft: K) -> ApiResult<Stored<K>> {
        let namespace = self.namespace_of(&draft);
        let target = Target::all(K::resource(), namespace);
        let body = RequestBody::Doc(encode(&draft)?);
        self.send(ApiRequest { verb: Verb::Create, target, body, ..Default::default() }).await
    }

    /// Replaces an object; refused with a conflict if somebody wrote since the draft was read.
    pub async fn update(&self, draft: Draft<K>) -> ApiResult<Stored<K>> {
        self.replace(draft, "").await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, draft: Draft<K>) -> ApiResult<Stored<K>> {
        self.replace(draft, "status").await
    }

    async fn replace(&self, draft: Draft<K>, subresource: &str) -> ApiResult<Stored<K>> {
        let (namespace, name) = (self.namespace_of(&draft), draft.key().name);
        let target = Target::one(K::resource(), namespace, name).subresource(subresource);
        let body = RequestBody::Doc(encode(&*draft)?);
        self.send(ApiRequest { verb: Verb::Update, target, body, ..Default::default() }).await
    }

    /// Changes an object by a patch document.
    pub async fn patch(&self, name: &str, kind: PatchKind, patch: Doc) -> ApiResult<Stored<K>> {
        self.object(Verb::Patch, name, RequestBody::Patch(kind, patch), Options::default(), "").await
    }

    /// Changes an object's status by a patch document.
    pub async fn patch_status(&self, name: &str, kind: PatchKind, patch: Doc) -> ApiResult<Stored<K>> {
        self.object(Verb::Patch, name, RequestBody::Patch(kind, patch), Options::default(), "status").await
    }

    /// Server-side apply of a whole configuration, taking conflicting fields over.
    pub async fn apply(&self, manager: &str, configuration: K) -> ApiResult<Stored<K>> {
        let mut doc = encode(&configuration)?;
        doc.remove_at(&["status"]);
        let key = configuration.key();
        let namespace = self.namespace_of(&configuration);
        let target = Target::one(K::resource(), namespace, key.name);
        let options = Options { field_manager: Some(manager.into()), force: true, ..Default::default() };
        let body = RequestBody::Patch(PatchKind::Apply, doc);
        self.send(ApiRequest { verb: Verb::Patch, target, options, body, ..Default::default() }).await
    }

    /// Deletes an object by name, dependents in the background.
    pub async fn delete(&self, name: &str) -> ApiResult<()> {
        let options = Options { propagation: Some(Propagation::Background), ..Default::default() };
        self.delete_with(name, options).await
    }

    /// Deletes exactly this object: nothing happens to a successor of the same name.
    pub async fn delete_exact(&self, object: &Object) -> ApiResult<()> {
        let options = Options {
            propagation: Some(Propagation::Background),
            precondition_uid: Some(object.meta.uid.clone()),
            ..Default::default()
        };
        let target = Target::one(K::resource(), object.meta.namespace.clone(), object.meta.name.clone());
        self.client.delete_object(target, options).await
    }

    /// Deletes an object with the given options.
    pub async fn delete_with(&self, name: &str, options: Options) -> ApiResult<()> {
        self.client.delete_object(Target::one(K::resource(), self.namespace.as_str(), name), options).await
    }

    async fn object(
        &self,
        verb: Verb,
        name: &str,
        body: RequestBody,
        options: Options,
        subresource: &str,
    ) -> ApiResult<Stored<K>> {
        let target = Target::one(K::resource(), self.namespace.as_str(), name).subresource(subresource);
        self.send(ApiRequest { verb, target, options, body, ..Default::default() }).await
    }

    async fn send(&self, request: ApiRequest) -> ApiResult<Stored<K>> {
        Stored::new(self.client.call(request).await?.into_object()?)
    }

    fn namespace_of(&self, draft: &K) -> String {
        match draft.metadata().namespace.as_deref() {
            Some(namespace) if K::is_namespaced() => namespace.to_owned(),
            _ => self.namespace.clone(),
        }
    }
}
