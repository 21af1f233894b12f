//! The controller runtime: watches what matters, queues keys, and calls a [`Reconciler`] for each.
//!
//! Follows controller-runtime. On by default: caches warm before the first call, one call per key at a time, a panic
//! costs its own key only, failures back off per key, and a key is not reconciled on a cache that does not show its
//! own last write yet.

use std::{collections::BTreeMap, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_core::{
    env::Task,
    object::ObjectKey,
    resource::{Resource, Stored},
    status::ApiError,
};
use parking_lot::Mutex;

use crate::{
    client::Client,
    cx::{Cx, CxShared},
    informer::{Delta, DynamicInformer, Handler, Informer, InformerScope, OwnWrite, Subscription},
    metrics::ControllerMetrics,
    queue::{BackOff, Lane, WorkQueue},
};

/// How long a reconcile waits for the caches to show the key's own last write before it goes on without.
const OWN_WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Brings the world closer to what one object asks for.
///
/// Level-triggered: called with the object's present state, however many changes led to it, and again until it
/// answers [`Next::Done`]. Must be idempotent.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind whose objects ask.
    type Object: Resource;
    /// What can go wrong; says itself when to try again.
    type Error: RetryAdvice;

    /// Does what is missing for `object`. Dropped (cancelled) when leadership is lost or the controller stops.
    fn reconcile(&self, object: Stored<Self::Object>, cx: Cx)
    -> impl Future<Output = Result<Next, Self::Error>> + Send;

    /// Called in place of `reconcile` when the object is gone: forget what was kept about it.
    fn gone(&self, key: ObjectKey, cx: Cx) -> impl Future<Output = Result<Next, Self::Error>> + Send {
        let _ = (key, cx);
        async { Ok(Next::Done) }
    }
}

/// What to do with a key after a successful reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Done,
    /// Look again after this long, whatever happens.
    After(Duration),
}

/// When to try again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// With the key's exponential back-off.
    BackOff,
    /// After exactly this long.
    After(Duration),
    /// Not until the object changes: trying again cannot help.
    Never,
}

/// An error that says when trying again makes sense.
pub trait RetryAdvice: fmt::Display + Send + 'static {
    /// When to try again.
    fn retry(&self) -> Retry;
}

impl RetryAdvice for ApiError {
    fn retry(&self) -> Retry {
        match ApiError::retry(self) {
            Some(wait) if !wait.is_zero() => Retry::After(wait),
            _ => Retry::BackOff,
        }
    }
}

/// A controller to be: say what it watches, then start it.
pub struct Controller<R: Reconciler> {
    name: &'static str,
    reconciler: R,
    scope: InformerScope,
    workers: usize,
    back_off: BackOff,
    sources: Vec<Source>,
}

/// Another kind whose changes concern the reconciler's objects.
struct Source {
    resource: k8s_core::request::ResourceType,
    scope: InformerScope,
    map: Map,
}

/// Says which of the reconciler's objects a change concerns; it may look them up in their own cache.
type Map = Arc<dyn Fn(&Delta, &DynamicInformer) -> Vec<ObjectKey> + Send + Sync>;

impl<R: Reconciler> Controller<R> {
    /// A controller with two workers that watches its own kind. `name` labels its metrics, events and fields.
    pub fn new(name: &'static str, reconciler: R) -> Self {
        Self {
            name,
            reconciler,
            scope: InformerScope::all(),
            workers: 2,
            back_off: BackOff::default(),
            sources: Vec::new(),
        }
    }

    /// Only the objects in this scope.
    pub fn scope(mut self, scope: InformerScope) -> Self {
        self.scope = scope;
        self
    }

    /// How many keys may be in work at a time.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How failures are spaced.
    pub fn back_off(mut self, back_off: BackOff) -> Self {
        self.back_off = back_off;
        self
    }

    /// Watches children: a change to a `C` reconciles the object that controls it.
    pub fn owns<C: Resource>(self) -> Self {
        self.watches::<C>(InformerScope::all(), |delta, _| {
            let sides = delta.old.iter().chain(delta.new.iter());
            let owner = |object: &Arc<k8s_core::object::Object>| {
                let owner = object.meta.controller()?;
                let is_ours = owner.kind == R::Object::kind() && owner.api_version == R::Object::api_version();
                let namespace = if R::Object::is_namespaced() { object.meta.namespace.clone() } else { "".into() };
                is_ours.then(|| ObjectKey { namespace, name: owner.name.clone() })
            };
            sides.filter_map(owner).collect()
        })
    }

    /// Watches anything: `map` says which objects a change concerns, with the cache of the reconciler's own kind at
    /// hand. It must not block.
    pub fn watches<C: Resource>(
        mut self,
        scope: InformerScope,
        map: impl Fn(&Delta, &DynamicInformer) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> Self {
        self.sources.push(Source { resource: C::resource(), scope, map: Arc::new(map) });
        self
    }

    /// Starts it. Stops when the [`Running`] is dropped or stopped; work in progress is then cancelled.
    pub fn start(self, client: Client) -> Running {
        let env = client.env().clone();
        let queue = Arc::new(WorkQueue::new(env.clone(), self.back_off));
        let own = client.informer::<R::Object>(self.scope);
        let mut informers = vec![own.dynamic().clone()];
        let mut subscriptions = vec![own.subscribe(enqueue_self(queue.clone()))];
        for source in self.sources {
            let informer = client.dynamic_informer(source.resource, source.scope);
            subscriptions.push(informer.subscribe(enqueue_mapped(queue.clone(), own.dynamic().clone(), source.map)));
            informers.push(informer);
        }
        let metrics = Arc::new(ControllerMetrics::new(queue.metrics().clone()));
        let shared = Arc::new(Shared {
            name: self.name,
            reconciler: self.reconciler,
            own,
            queue: queue.clone(),
            metrics: metrics.clone(),
            cx: Arc::new(CxShared::new(self.name, client, informers.clone())),
            own_writes: Mutex::default(),
        });
        let tasks = (0..self.workers).map(|_| env.spawn(self.name, Box::pin(work(shared.clone())))).collect();
        Running { name: self.name, queue, informers, metrics, tasks, _subscriptions: subscriptions }
    }
}

fn enqueue_self(queue: Arc<WorkQueue<ObjectKey>>) -> Handler {
    Arc::new(move |delta| queue.add(delta.object().meta.key(), lane(delta)))
}

fn enqueue_mapped(queue: Arc<WorkQueue<ObjectKey>>, own: DynamicInformer, map: Map) -> Handler {
    Arc::new(move |delta| map(delta, &own).into_iter().for_each(|key| queue.add(key, lane(delta))))
}

fn lane(delta: &Delta) -> Lane {
    if delta.initial { Lane::Slow } else { Lane::Fast }
}

/// A running controller.
pub struct Running {
    name: &'static str,
    queue: Arc<WorkQueue<ObjectKey>>,
    informers: Vec<DynamicInformer>,
    metrics: Arc<ControllerMetrics>,
    tasks: Vec<Task>,
    _subscriptions: Vec<Subscription>,
}

impl Running {
    /// The controller's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<ControllerMetrics> {
        &self.metrics
    }

    /// Whether its caches show `revision` and it has nothing to do, now or within `horizon`.
    pub fn is_settled(&self, revision: u64, horizon: Duration) -> bool {
        self.informers.iter().all(|informer| informer.revision() >= revision) && self.queue.is_idle(horizon)
    }

    /// Whether its caches have seen the cluster once.
    pub fn is_synced(&self) -> bool {
        self.informers.iter().all(DynamicInformer::is_synced)
    }

    /// Asks for a reconcile of one object.
    pub fn trigger(&self, key: ObjectKey) {
        self.queue.add(key, Lane::Fast);
    }

    /// Stops the workers and waits for them.
    pub async fn stop(self) {
        self.queue.close();
        for task in self.tasks {
            task.stop().await;
        }
    }
}

struct Shared<R: Reconciler> {
    name: &'static str,
    reconciler: R,
    own: Informer<R::Object>,
    queue: Arc<WorkQueue<ObjectKey>>,
    metrics: Arc<ControllerMetrics>,
    cx: Arc<CxShared>,
    /// Per key, what its last reconcile wrote, until the caches show it.
    own_writes: Mutex<BTreeMap<ObjectKey, Vec<OwnWrite>>>,
}

async fn work<R: Reconciler>(shared: Arc<Shared<R>>) {
    for informer in shared.cx.informers() {
        informer.synced().await;
    }
    while let Some(key) = shared.queue.next().await {
        shared.process(&key).await;
        shared.queue.done(&key);
    }
}

impl<R: Reconciler> Shared<R> {
    async fn process(&self, key: &ObjectKey) {
        self.see_own_write(key).await;
        let cx = Cx::new(self.cx.clone());
        let outcome = AssertUnwindSafe(self.call(key, cx.clone())).catch_unwind().await;
        let written = cx.take_own_writes();
        if !written.is_empty() {
            self.own_writes.lock().insert(key.clone(), written);
        }
        match outcome {
            Ok(Ok(next)) => self.succeeded(key, next),
            Ok(Err(error)) => self.failed(key, &error),
            Err(panic) => {
                self.metrics.panicked();
                tracing::error!(controller = self.name, %key, panic = panic_text(&*panic), "reconcile panicked");
                self.queue.retry(key.clone());
            }
        }
    }

    async fn call(&self, key: &ObjectKey, cx: Cx) -> Result<Next, R::Error> {
        match self.own.get(key) {
            Some(object) => self.reconciler.reconcile(object, cx).await,
            None => self.reconciler.gone(key.clone(), cx).await,
        }
    }

    /// Waits until the caches show what this key's last reconcile wrote, so that it never acts on its own past.
    async fn see_own_write(&self, key: &ObjectKey) {
        let Some(writes) = self.own_writes.lock().remove(key) else { return };
        for write in writes {
            for informer in self.cx.informers().iter().filter(|informer| informer.resource() == &write.resource) {
                if !informer.shows(&write, OWN_WRITE_LIMIT).await {
                    tracing::warn!(controller = self.name, %key, written = %write.key, "cache is far behind; going on");
                }
            }
        }
    }

    fn succeeded(&self, key: &ObjectKey, next: Next) {
        self.metrics.succeeded();
        self.queue.forget(key);
        if let Next::After(wait) = next {
            self.queue.add_after(key.clone(), wait);
        }
    }

    fn failed(&self, key: &ObjectKey, error: &R::Error) {
        self.metrics.failed();
        tracing::debug!(controller = self.name, %key, %error, "reconcile failed");
        match error.retry() {
            Retry::BackOff => self.queue.retry(key.clone()),
            Retry::After(wait) => self.queue.add_after(key.clone(), wait),
            Retry::Never => self.queue.forget(key),
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
