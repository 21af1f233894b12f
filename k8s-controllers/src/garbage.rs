//! The garbage collector: what nobody owns any more goes, in the background, the foreground, or not at all.
//!
//! Follows upstream's collector: dependents name their owners by uid; an owner that is gone (asked of the server, not
//! believed of a cache) takes its dependents with it. `foregroundDeletion` waits for the dependents that block;
//! `orphan` lets them go free first. Works for every kind alike, from metadata only.

mod attempt;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    env::Task,
    object::{Object, ObjectKey, Owner},
    registry::Registry,
    request::{ResourceType, Verb},
    status::ApiError,
};
use k8s_reconcile::{
    Client, InformerScope,
    informer::{Delta, DynamicInformer, Handler, Subscription},
    queue::{BackOff, Lane, WorkQueue},
};

/// How many objects are looked at at a time.
const WORKERS: usize = 5;

/// One object of one of the watched kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    kind: usize,
    key: ObjectKey,
}

/// A running collector. Dropping it stops it.
pub struct Running {
    queue: Arc<WorkQueue<Item>>,
    shared: Arc<Shared>,
    tasks: Vec<Task>,
    _subscriptions: Vec<Subscription>,
}

struct Shared {
    client: Client,
    queue: Arc<WorkQueue<Item>>,
    kinds: Vec<Watched>,
    /// `(apiVersion, kind)` as owner references name it, to the index in `kinds`.
    by_reference: BTreeMap<(String, String), usize>,
}

struct Watched {
    resource: ResourceType,
    is_namespaced: bool,
    informer: DynamicInformer,
}

/// Starts a collector over every kind of `registry` that can be listed, watched and deleted.
pub fn start(client: Client, registry: &Registry) -> Running {
    let queue = Arc::new(WorkQueue::new(client.env().clone(), BackOff::default()));
    let mut kinds = Vec::new();
    let mut by_reference = BTreeMap::new();
    let collected = |plural: &str| plural != "events";
    for info in registry.iter() {
        let verbs = [Verb::List, Verb::Watch, Verb::Delete];
        if !collected(&info.plural) || !verbs.iter().all(|verb| info.supports(*verb)) {
            continue;
        }
        let resource = ResourceType::new(&*info.group, &*info.version, &*info.plural);
        by_reference.insert((resource.api_version(), info.kind.to_string()), kinds.len());
        let informer = client.dynamic_informer(resource.clone(), InformerScope::all());
        kinds.push(Watched { resource, is_namespaced: info.is_namespaced(), informer });
    }
    let shared = Arc::new(Shared { client: client.clone(), queue: queue.clone(), kinds, by_reference });
    let subscriptions = (0..shared.kinds.len())
        .map(|kind| shared.kinds[kind].informer.subscribe(handler(Arc::downgrade(&shared), kind)))
        .collect();
    let tasks = (0..WORKERS).map(|_| client.env().spawn("garbage-collector", Box::pin(work(shared.clone())))).collect();
    Running { queue, shared, tasks, _subscriptions: subscriptions }
}

impl Running {
    /// Whether it has seen `revision` of every kind and has nothing to do, now or within `horizon`.
    pub fn is_settled(&self, revision: u64, horizon: Duration) -> bool {
        let seen = self.shared.kinds.iter().all(|kind| kind.informer.revision() >= revision);
        seen && self.queue.is_idle(horizon)
    }

    /// Stops the workers and waits for them.
    pub async fn stop(self) {
        self.queue.close();
        for task in self.tasks {
            task.stop().await;
        }
    }
}

fn handler(shared: std::sync::Weak<Shared>, kind: usize) -> Handler {
    Arc::new(move |delta| {
        if let Some(shared) = shared.upgrade() {
            shared.changed(kind, delta);
        }
    })
}

async fn work(shared: Arc<Shared>) {
    for kind in &shared.kinds {
        kind.informer.synced().await;
    }
    while let Some(item) = shared.queue.next().await {
        match shared.attempt(&item).await {
            Ok(()) => shared.queue.forget(&item),
            Err(error) => {
                tracing::debug!(?item, %error, "garbage collection is tried again");
                shared.queue.retry(item.clone());
            }
        }
        shared.queue.done(&item);
    }
}

impl Shared {
    fn changed(&self, kind: usize, delta: &Delta) {
        let lane = if delta.initial { Lane::Slow } else { Lane::Fast };
        let object = delta.object();
        let Some(new) = &delta.new else {
            return self.add_dependents(&object.meta.uid, lane);
        };
        let waits = new.meta.deleted.is_some() && !new.meta.finalizers.is_empty();
        if waits || !new.meta.owners.is_empty() {
            self.queue.add(Item { kind, key: new.meta.key() }, lane);
        }
        // A dependent that no longer blocks, or is on its way out, may free an owner that waits for it.
        if let Some(old) = &delta.old
            && (old.meta.owners != new.meta.owners || old.meta.deleted != new.meta.deleted)
        {
            self.add_owners(old, lane);
        }
    }

    fn add_dependents(&self, uid: &str, lane: Lane) {
        for (kind, object) in self.dependents(uid) {
            self.queue.add(Item { kind, key: object.meta.key() }, lane);
        }
    }

    fn add_owners(&self, object: &Object, lane: Lane) {
        for owner in &object.meta.owners {
            if let Some((kind, key)) = self.locate(object, owner) {
                self.queue.add(Item { kind, key }, lane);
            }
        }
    }

    fn dependents(&self, uid: &str) -> Vec<(usize, Arc<Object>)> {
        let of_kind = |(kind, watched): (usize, &Watched)| {
            watched.informer.owned_by(uid).into_iter().map(move |object| (kind, object))
        };
        self.kinds.iter().enumerate().flat_map(of_kind).collect()
    }

    /// Where an owner would be: in the dependent's namespace, or in none.
    fn locate(&self, dependent: &Object, owner: &Owner) -> Option<(usize, ObjectKey)> {
        let reference = (owner.api_version.to_string(), owner.kind.to_string());
        let kind = *self.by_reference.get(&reference)?;
        let namespace = if self.kinds[kind].is_namespaced { dependent.meta.namespace.clone() } else { "".into() };
        Some((kind, ObjectKey { namespace, name: owner.name.clone() }))
    }
}

/// Whether a failure means that there is nothing left to do.
fn is_moot(error: &ApiError) -> bool {
    error.is_not_found() || error.is_conflict()
}
