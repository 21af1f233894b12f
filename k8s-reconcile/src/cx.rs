//! The only door from a reconcile to the cluster: cached reads, writes, events, time, randomness.
//!
//! Every write made through a [`Cx`] is remembered until the caches show it, and the key is not reconciled before
//! they do: a reconciler never acts on a state older than its own last act.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    env::{Env, Timestamp},
    object::Object,
    request::{ApiRequest, Options, PatchKind, Propagation, RequestBody, Target, Verb},
    resource::{Draft, Resource, Stored, encode},
    status::{ApiError, ApiResult},
};
use parking_lot::Mutex;

use crate::{
    client::Client,
    event::{EventType, Recorder},
    informer::{DynamicInformer, Effect, Informer, OwnWrite},
};

/// What the reconciles of one controller share.
pub(crate) struct CxShared {
    name: &'static str,
    client: Client,
    informers: Vec<DynamicInformer>,
    recorder: Recorder,
}

impl CxShared {
    pub(crate) fn new(name: &'static str, client: Client, informers: Vec<DynamicInformer>) -> Self {
        let recorder = Recorder::new(client.clone(), name, "");
        Self { name, client, informers, recorder }
    }

    pub(crate) fn informers(&self) -> &[DynamicInformer] {
        &self.informers
    }
}

/// The context of one reconcile. Cloning shares.
#[derive(Clone)]
pub struct Cx {
    shared: Arc<CxShared>,
    own_writes: Arc<Mutex<Vec<OwnWrite>>>,
}

impl Cx {
    pub(crate) fn new(shared: Arc<CxShared>) -> Self {
        Self { shared, own_writes: Arc::default() }
    }

    pub(crate) fn take_own_writes(&self) -> Vec<OwnWrite> {
        std::mem::take(&mut self.own_writes.lock())
    }

    /// The controller's name: its field manager.
    pub fn controller(&self) -> &'static str {
        self.shared.name
    }

    /// Where time and randomness come from.
    pub fn env(&self) -> &Env {
        self.shared.client.env()
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.env().now()
    }

    /// The client, for reads that must not come from a cache. Writes through it are not remembered: prefer `Cx`'s.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The cache of a kind that the controller watches. Fails when it does not.
    pub fn cached<K: Resource>(&self) -> ApiResult<Informer<K>> {
        let resource = K::resource();
        let found = self.shared.informers.iter().find(|informer| *informer.resource() == resource);
        found.cloned().map(Informer::new).ok_or_else(|| {
            let name = self.shared.name;
            ApiError::internal(format!("controller {name} reads {resource} but does not watch it: add `watches`"))
        })
    }

    /// Creates an object.
    pub async fn create<K: Resource>(&self, value: K) -> ApiResult<Stored<K>> {
        let target = Target::all(K::resource(), namespace_of(&value));
        self.write(Verb::Create, target, Options::default(), RequestBody::Doc(encode(&value)?)).await
    }

    /// Replaces an object; a conflict if somebody wrote since it was read.
    pub async fn update<K: Resource>(&self, draft: Draft<K>) -> ApiResult<Stored<K>> {
        let target = Target::one(K::resource(), namespace_of(&*draft), draft.key().name);
        self.write(Verb::Update, target, Options::default(), RequestBody::Doc(encode(&*draft)?)).await
    }

    /// Changes one object by a patch document.
    pub async fn patch<K: Resource>(&self, object: &Object, kind: PatchKind, patch: Doc) -> ApiResult<Stored<K>> {
        let target = Target::one(K::resource(), object.meta.namespace.clone(), object.meta.name.clone());
        self.write(Verb::Patch, target, Options::default(), RequestBody::Patch(kind, patch)).await
    }

    /// Server-side apply under the controller's name, taking conflicting fields over.
    pub async fn apply<K: Resource>(&self, configuration: K) -> ApiResult<Stored<K>> {
        let mut doc = encode(&configuration)?;
        doc.remove_at(&["status"]);
        let target = Target::one(K::resource(), namespace_of(&configuration), configuration.key().name);
        let options = Options { field_manager: Some(self.shared.name.into()), force: true, ..Default::default() };
        self.write(Verb::Patch, target, options, RequestBody::Patch(PatchKind::Apply, doc)).await
    }

    /// Deletes exactly this object, dependents in the background. What is gone already is no error.
    pub async fn delete<K: Resource>(&self, object: &Object) -> ApiResult<()> {
        let options = Options {
            propagation: Some(Propagation::Background),
            precondition_uid: Some(object.meta.uid.clone()),
            ..Default::default()
        };
        let target = Target::one(K::resource(), object.meta.namespace.clone(), object.meta.name.clone());
        match self.shared.client.delete_object(target, options).await {
            Ok(()) => {
                let effect = Effect::Deleted(object.meta.uid.clone());
                self.own_writes.lock().push(OwnWrite { resource: K::resource(), key: object.meta.key(), effect });
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes the status by `change`; writes nothing when that leaves it equal. Answers whether it wrote.
    ///
    /// A conflict if somebody wrote the object since it was read.
    pub async fn set_status<K: Resource>(&self, object: &Stored<K>, change: impl FnOnce(&mut K)) -> ApiResult<bool> {
        let mut draft = object.draft();
        change(&mut draft);
        let doc = encode(&*draft)?;
        let before = encode(&**object)?;
        if doc.get("status") == before.get("status") {
            return Ok(false);
        }
        let target = Target::one(K::resource(), object.namespace(), object.name()).subresource("status");
        self.write::<K>(Verb::Update, target, Options::default(), RequestBody::Doc(doc)).await?;
        Ok(true)
    }

    /// Tells people what happened to an object. A failure to tell is logged, never returned.
    pub async fn event(&self, object: &Object, kind: EventType, reason: &str, message: impl Into<String>) {
        self.shared.recorder.record(object, kind, reason, message.into()).await;
    }

    async fn write<K: Resource>(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: RequestBody,
    ) -> ApiResult<Stored<K>> {
        let request = ApiRequest { verb, target, options, body, ..Default::default() };
        let object = self.shared.client.call(request).await?.into_object()?;
        let effect = Effect::Wrote(object.clone());
        self.own_writes.lock().push(OwnWrite { resource: K::resource(), key: object.meta.key(), effect });
        Stored::new(object)
    }
}

fn namespace_of<K: Resource>(value: &K) -> &str {
    if K::is_namespaced() { value.metadata().namespace.as_deref().unwrap_or("") } else { "" }
}
