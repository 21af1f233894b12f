//! Shared informers: a local copy of the objects of one kind, kept true by one list and one watch.
//!
//! Follows client-go's shared informer. One informer exists per (cluster, kind, selector), however many ask for it;
//! it starts with the first handle and stops with the last. It keeps objects in flight, never typed forms.

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::{Arc, Weak},
    time::Duration,
};

use compact_str::CompactString as Text;
use futures::StreamExt;
use k8s_core::{
    env::{Env, Task, timeout},
    object::{Object, ObjectKey},
    request::{ApiRequest, Options, ResourceType, Target, Verb, WatchEvent},
    resource::{Resource, Stored},
    seam::transport::Transport,
    selector::{FieldSelector, LabelSelector},
    signal::Signal,
    status::ApiResult,
};
use parking_lot::{Mutex, RwLock};

use crate::queue::BackOff;

/// How failed lists and watches are spaced.
const BACK_OFF: BackOff = BackOff { base: Duration::from_millis(100), max: Duration::from_secs(30) };

/// Which objects of a kind an informer holds. The default is all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct InformerScope {
    /// One namespace, or all if empty.
    pub namespace: Text,
    /// Only objects with these labels.
    pub labels: LabelSelector,
    /// Only objects with these fields.
    pub fields: FieldSelector,
}

impl InformerScope {
    /// All objects.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only objects whose field has this value.
    pub fn field(path: &str, value: &str) -> Self {
        Self { fields: FieldSelector::equal(path, value), ..Self::default() }
    }

    /// Whether an object would be held, as far as can be told: fields other than the name are not looked at.
    fn holds(&self, object: &Object) -> bool {
        let namespace = self.namespace.is_empty() || self.namespace == object.meta.namespace;
        let name = |path: &str| (path == "metadata.name").then_some(object.meta.name.as_str());
        namespace && self.labels.matches(&object.meta) && self.fields.matches(name)
    }

    /// Only one object.
    pub fn object(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), ..Self::field("metadata.name", name) }
    }
}

/// What happened to one object: its state before and after. Never both `None`.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Before; `None` if it is new.
    pub old: Option<Arc<Object>>,
    /// After; `None` if it is gone.
    pub new: Option<Arc<Object>>,
    /// Whether this is the replay of what was there already, not news.
    pub initial: bool,
}

impl Delta {
    /// The object as last seen.
    pub fn object(&self) -> &Arc<Object> {
        // Invariant: a delta has at least one side; both constructors below give one.
        self.new.as_ref().or(self.old.as_ref()).expect("a delta has at least one side")
    }
}

/// Something that this process wrote and that a cache will show sooner or later.
#[derive(Debug, Clone)]
pub struct OwnWrite {
    /// The kind.
    pub resource: ResourceType,
    /// Which object.
    pub key: ObjectKey,
    /// What was done to it.
    pub effect: Effect,
}

/// What a write did.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Wrote the object; this is its state now.
    Wrote(Arc<Object>),
    /// Deleted the object with this uid, or asked for its graceful deletion.
    Deleted(Text),
}

/// Called for each delta, in order, in the informer's task. Must not block; enqueue and return.
pub type Handler = Arc<dyn Fn(&Delta) + Send + Sync>;

/// The registry of running informers of one client.
pub(crate) struct Informers {
    transport: Arc<dyn Transport>,
    env: Env,
    running: Mutex<BTreeMap<(ResourceType, InformerScope), Weak<Handle>>>,
}

impl Informers {
    pub(crate) fn new(transport: Arc<dyn Transport>, env: Env) -> Self {
        Self { transport, env, running: Mutex::default() }
    }

    pub(crate) fn get(&self, resource: ResourceType, scope: InformerScope) -> DynamicInformer {
        let mut running = self.running.lock();
        let key = (resource, scope);
        if let Some(handle) = running.get(&key).and_then(Weak::upgrade) {
            return DynamicInformer(handle);
        }
        running.retain(|_, handle| handle.strong_count() > 0);
        let inner = Arc::new(Inner::new(self.transport.clone(), self.env.clone(), key.0.clone(), key.1.clone()));
        let task = self.env.spawn("informer", Box::pin(run(inner.clone())));
        let handle = Arc::new(Handle { inner, _task: task });
        running.insert(key, Arc::downgrade(&handle));
        DynamicInformer(handle)
    }
}

struct Handle {
    inner: Arc<Inner>,
    _task: Task,
}

struct Inner {
    transport: Arc<dyn Transport>,
    env: Env,
    resource: ResourceType,
    scope: InformerScope,
    cache: RwLock<Cache>,
    /// Held while a delta is applied and told, so that a new handler sees each object exactly once.
    handlers: Mutex<Handlers>,
    progress: Signal<Progress>,
}

#[derive(Default)]
struct Handlers {
    next: u64,
    by_id: BTreeMap<u64, Handler>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    synced: bool,
    revision: u64,
}

#[derive(Default)]
struct Cache {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    by_owner: BTreeMap<Text, BTreeSet<ObjectKey>>,
    by_node: BTreeMap<Text, BTreeSet<ObjectKey>>,
}

impl Cache {
    fn put(&mut self, key: ObjectKey, object: Arc<Object>) -> Option<Arc<Object>> {
        let old = self.take(&key);
        for owner in &object.meta.owners {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if !object.meta.node_name.is_empty() {
            self.by_node.entry(object.meta.node_name.clone()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
        old
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        let old = self.objects.remove(key)?;
        for owner in &old.meta.owners {
            unlink(&mut self.by_owner, &owner.uid, key);
        }
        unlink(&mut self.by_node, &old.meta.node_name, key);
        Some(old)
    }

    fn resolve(&self, keys: Option<&BTreeSet<ObjectKey>>) -> Vec<Arc<Object>> {
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key).cloned()).collect()
    }
}

fn unlink(index: &mut BTreeMap<Text, BTreeSet<ObjectKey>>, value: &Text, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

/// A handle to a shared informer of a kind known only by name. Cloning shares; the last drop stops it.
#[derive(Clone)]
pub struct DynamicInformer(Arc<Handle>);

impl DynamicInformer {
    /// The kind.
    pub fn resource(&self) -> &ResourceType {
        &self.0.inner.resource
    }

    /// One object, as last seen.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.0.inner.cache.read().objects.get(key).cloned()
    }

    /// All objects, in key order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.0.inner.cache.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<Object>> {
        let cache = self.0.inner.cache.read();
        let from = ObjectKey::new(namespace, "");
        cache.objects.range(from..).take_while(|(key, _)| key.namespace == namespace).map(|(_, o)| o.clone()).collect()
    }

    /// The objects that name an owner with this uid.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        let cache = self.0.inner.cache.read();
        cache.resolve(cache.by_owner.get(uid))
    }

    /// The pods on one node.
    pub fn on_node(&self, node: &str) -> Vec<Arc<Object>> {
        let cache = self.0.inner.cache.read();
        cache.resolve(cache.by_node.get(node))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.inner.cache.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision up to which every change was seen.
    pub fn revision(&self) -> u64 {
        self.0.inner.progress.get().revision
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.0.inner.progress.get().synced
    }

    /// Resolves once the first list is complete. Cancel-safe.
    pub async fn synced(&self) {
        self.0.inner.progress.wait_for(|progress| progress.synced).await;
    }

    /// Resolves once the cache shows `revision` or later; `false` when `limit` passed first.
    pub async fn caught_up(&self, revision: u64, limit: Duration) -> bool {
        let wait = self.0.inner.progress.wait_for(|progress| progress.synced && progress.revision >= revision);
        timeout(&*self.0.inner.env, limit, wait).await.is_some()
    }

    /// Resolves once the cache shows a write of this process; `false` when `limit` passed first.
    pub async fn shows(&self, write: &OwnWrite, limit: Duration) -> bool {
        if let Effect::Wrote(object) = &write.effect
            && !self.0.inner.scope.holds(object)
        {
            return true;
        }
        let shown = self.0.inner.progress.wait_for(|progress| self.does_show(write, progress.revision));
        timeout(&*self.0.inner.env, limit, shown).await.is_some()
    }

    fn does_show(&self, write: &OwnWrite, reached: u64) -> bool {
        let known = self.get(&write.key);
        match &write.effect {
            Effect::Wrote(object) => {
                reached >= object.revision() || known.is_some_and(|known| known.revision() >= object.revision())
            }
            Effect::Deleted(uid) => known.is_none_or(|known| known.meta.uid != *uid || known.meta.deleted.is_some()),
        }
    }

    /// Calls `handler` for every object there is, then for every change, until the subscription is dropped.
    ///
    /// The handler must not subscribe to the same informer.
    pub fn subscribe(&self, handler: Handler) -> Subscription {
        let inner = &self.0.inner;
        let mut handlers = inner.handlers.lock();
        for object in self.list() {
            handler(&Delta { old: None, new: Some(object), initial: true });
        }
        let id = handlers.next;
        handlers.next += 1;
        handlers.by_id.insert(id, handler);
        Subscription { informer: self.clone(), id }
    }
}

/// A handler's registration; dropping it ends the calls.
pub struct Subscription {
    informer: DynamicInformer,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.informer.0.inner.handlers.lock().by_id.remove(&self.id);
    }
}

/// A handle to a shared informer of a typed kind. Reads decode on demand and share what others hold.
pub struct Informer<K> {
    dynamic: DynamicInformer,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { dynamic: self.dynamic.clone(), kind: PhantomData }
    }
}

impl<K: Resource> Informer<K> {
    pub(crate) fn new(dynamic: DynamicInformer) -> Self {
        Self { dynamic, kind: PhantomData }
    }

    /// The untyped informer underneath.
    pub fn dynamic(&self) -> &DynamicInformer {
        &self.dynamic
    }

    /// One object, as last seen.
    pub fn get(&self, key: &ObjectKey) -> Option<Stored<K>> {
        typed(self.dynamic.get(key)?)
    }

    /// All objects, in key order.
    pub fn list(&self) -> Vec<Stored<K>> {
        self.dynamic.list().into_iter().filter_map(typed).collect()
    }

    /// The objects of one namespace.
    pub fn list_in(&self, namespace: &str) -> Vec<Stored<K>> {
        self.dynamic.list_in(namespace).into_iter().filter_map(typed).collect()
    }

    /// The objects of one namespace whose labels match; only those are decoded.
    pub fn select(&self, namespace: &str, labels: &LabelSelector) -> Vec<Stored<K>> {
        let all = self.dynamic.list_in(namespace).into_iter();
        all.filter(|object| labels.matches(&object.meta)).filter_map(typed).collect()
    }

    /// The objects that name an owner with this uid.
    pub fn owned_by(&self, uid: &str) -> Vec<Stored<K>> {
        self.dynamic.owned_by(uid).into_iter().filter_map(typed).collect()
    }

    /// The pods on one node.
    pub fn on_node(&self, node: &str) -> Vec<Stored<K>> {
        self.dynamic.on_node(node).into_iter().filter_map(typed).collect()
    }

    /// Resolves once the first list is complete. Cancel-safe.
    pub async fn synced(&self) {
        self.dynamic.synced().await;
    }

    /// Resolves once the objects are as `is_right` wants them. Cancel-safe.
    pub async fn wait_until(&self, is_right: impl Fn(&[Stored<K>]) -> bool) {
        self.synced().await;
        self.dynamic.0.inner.progress.wait_for(|_| is_right(&self.list())).await;
    }

    /// See [`DynamicInformer::subscribe`].
    pub fn subscribe(&self, handler: Handler) -> Subscription {
        self.dynamic.subscribe(handler)
    }
}

/// An object that does not decode as its own kind is a defect of whoever wrote it; it is told, and left out.
fn typed<K: Resource>(object: Arc<Object>) -> Option<Stored<K>> {
    match Stored::new(object.clone()) {
        Ok(stored) => Some(stored),
        Err(error) => {
            tracing::error!(?object, %error, "object left out of the cache's answers");
            None
        }
    }
}

impl Inner {
    fn new(transport: Arc<dyn Transport>, env: Env, resource: ResourceType, scope: InformerScope) -> Self {
        Self {
            transport,
            env,
            resource,
            scope,
            cache: RwLock::default(),
            handlers: Mutex::default(),
            progress: Signal::default(),
        }
    }

    fn request(&self, verb: Verb, resource_version: Option<u64>) -> ApiRequest {
        let options = Options {
            label_selector: self.scope.labels.clone(),
            field_selector: self.scope.fields.clone(),
            resource_version,
            allow_watch_bookmarks: verb == Verb::Watch,
            ..Default::default()
        };
        let target = Target::all(self.resource.clone(), self.scope.namespace.clone());
        ApiRequest { verb, target, options, ..Default::default() }
    }

    /// Replaces the cache by a fresh list and tells the differences.
    async fn list(&self) -> ApiResult<u64> {
        let list = self.transport.call(self.request(Verb::List, None)).await?.into_list()?;
        let mut gone: BTreeSet<ObjectKey> = self.cache.read().objects.keys().cloned().collect();
        // What a later list finds changed is news.
        let initial = !self.progress.get().synced;
        for object in list.items {
            let key = object.meta.key();
            gone.remove(&key);
            let known = self.cache.read().objects.get(&key).map(|known| known.revision());
            if known != Some(object.revision()) {
                self.apply(key, Some(object), initial);
            }
        }
        gone.into_iter().for_each(|key| self.apply(key, None, false));
        self.reached(list.revision);
        Ok(list.revision)
    }

    /// Follows changes from `revision`; answers the revision reached when the server ends the watch.
    async fn follow(&self, mut revision: u64) -> ApiResult<u64> {
        let mut stream = self.transport.call(self.request(Verb::Watch, Some(revision))).await?.into_watch()?;
        while let Some(event) = stream.next().await {
            let event = event?;
            revision = event.revision();
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.apply(object.meta.key(), Some(object), false);
                }
                WatchEvent::Deleted(object) => self.apply(object.meta.key(), None, false),
                WatchEvent::Bookmark { .. } => {}
            }
            self.reached(revision);
        }
        Ok(revision)
    }

    fn apply(&self, key: ObjectKey, new: Option<Arc<Object>>, initial: bool) {
        let handlers = self.handlers.lock();
        let old = {
            let mut cache = self.cache.write();
            match &new {
                Some(object) => cache.put(key, object.clone()),
                None => cache.take(&key),
            }
        };
        if old.is_none() && new.is_none() {
            return;
        }
        let delta = Delta { old, new, initial };
        handlers.by_id.values().for_each(|handler| handler(&delta));
    }

    /// The server has another past than the one that was followed: what was reached counts no longer.
    fn forget_progress(&self) {
        self.progress.modify(|progress| progress.revision = 0);
    }

    fn reached(&self, revision: u64) {
        self.progress.modify(|progress| {
            progress.revision = progress.revision.max(revision);
            progress.synced = true;
        });
    }
}

/// Lists, follows, and starts over as often as needed.
async fn run(inner: Arc<Inner>) {
    let (mut revision, mut failures) = (None, 0);
    loop {
        let outcome = match revision {
            None => inner.list().await,
            Some(from) => inner.follow(from).await,
        };
        match outcome {
            Ok(reached) => {
                // A server that ends a watch at once, again and again, must not be asked without a pause.
                failures = if revision == Some(reached) { failures + 1 } else { 0 };
                revision = Some(reached);
            }
            Err(error) => {
                tracing::debug!(resource = %inner.resource, %error, "informer starts over");
                // What broke the stream may have lost events only if the server says so; else go on from the
                // last revision that was seen.
                let is_ahead = error.is_too_large_resource_version();
                if is_ahead {
                    inner.forget_progress();
                }
                let lists_anew = is_ahead || error.is_expired();
                revision = if lists_anew { None } else { revision.map(|_| inner.progress.get().revision) };
                failures += 1;
            }
        }
        if failures > 0 {
            let wait = inner.env.jitter(BACK_OFF.wait(failures - 1), 0.5);
            inner.env.sleep(wait).await;
        }
    }
}
