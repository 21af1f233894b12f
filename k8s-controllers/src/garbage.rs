//! The garbage collector: what nobody owns any more goes, in the background, the foreground, or not at all.
//!
//! Follows upstream's collector: dependents name their owners by uid; an owner that is gone (asked of the server, not
//! believed of a cache) takes its dependents with it. `foregroundDeletion` waits for the dependents that block;
//! `orphan` lets them go free first. Works for every kind alike, from metadata only.

mod attempt;
mod table;

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::select;
use k8s_core::{
    env::Task,
    object::{Object, ObjectKey, Owner},
    registry::Kinds,
    status::ApiError,
};
use k8s_reconcile::{
    Client,
    informer::{Delta, Handler},
    queue::{BackOff, Lane, WorkQueue},
};
use parking_lot::Mutex;

use self::table::{KindId, Table, Watched};

/// How many objects are looked at at a time.
const WORKERS: usize = 5;

/// One object of one of the watched kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    kind: KindId,
    key: ObjectKey,
}

/// A running collector. Dropping it stops it.
pub struct Running {
    queue: Arc<WorkQueue<Item>>,
    shared: Arc<Shared>,
    tasks: Vec<Task>,
}

struct Shared {
    client: Client,
    queue: Arc<WorkQueue<Item>>,
    kinds: Arc<Kinds>,
    table: Mutex<Arc<Table>>,
}

/// Starts a collector over every kind that can be listed, watched and deleted, also those that come later.
pub fn start(client: Client, kinds: Arc<Kinds>) -> Running {
    let queue = Arc::new(WorkQueue::new(client.env().clone(), BackOff::default()));
    let table = Mutex::new(Arc::new(Table::empty()));
    let shared = Arc::new(Shared { client: client.clone(), queue: queue.clone(), kinds, table });
    shared.follow_kinds();
    let mut tasks: Vec<Task> =
        (0..WORKERS).map(|_| client.env().spawn("garbage-collector", Box::pin(work(shared.clone())))).collect();
    tasks.push(client.env().spawn("garbage-collector kinds", Box::pin(follow(shared.clone()))));
    Running { queue, shared, tasks }
}

impl Running {
    /// Whether it has seen `revision` of every kind and has nothing to do, now or within `horizon`.
    pub fn is_settled(&self, revision: u64, horizon: Duration) -> bool {
        let table = self.shared.table();
        let follows = Arc::ptr_eq(&table.registry, &self.shared.kinds.now());
        let seen = table.watched.values().all(|kind| kind.informer.revision() >= revision);
        follows && seen && self.queue.is_idle(horizon)
    }

    /// Stops the workers and waits for them.
    pub async fn stop(self) {
        self.queue.close();
        for task in self.tasks {
            task.stop().await;
        }
    }
}

fn handler(shared: std::sync::Weak<Shared>, kind: KindId) -> Handler {
    Arc::new(move |delta| {
        if let Some(shared) = shared.upgrade() {
            shared.changed(kind, delta);
        }
    })
}

async fn work(shared: Arc<Shared>) {
    while let Some(item) = shared.queue.next().await {
        // Dependents may be of any kind: nothing is decided before all are known.
        shared.synced().await;
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

/// Watches other kinds whenever there are others.
async fn follow(shared: Arc<Shared>) {
    loop {
        let known = shared.table().registry.clone();
        shared.kinds.changed_from(&known).await;
        shared.follow_kinds();
    }
}

impl Shared {
    fn table(&self) -> Arc<Table> {
        self.table.lock().clone()
    }

    fn watched(&self, kind: KindId) -> Option<Arc<Watched>> {
        self.table().watched.get(&kind).cloned()
    }

    fn follow_kinds(self: &Arc<Self>) {
        let before = self.table();
        let table = Arc::new(before.follow(&self.client, self.kinds.now()));
        *self.table.lock() = table.clone();
        for (kind, watched) in table.watched.iter().filter(|(kind, _)| !before.watched.contains_key(kind)) {
            *watched.subscription.lock() = Some(watched.informer.subscribe(handler(Arc::downgrade(self), *kind)));
        }
        // Whoever was owned by what is gone with its kind is looked at, even if nobody was told of the end of each.
        for (_, watched) in before.watched.iter().filter(|(kind, _)| !table.watched.contains_key(kind)) {
            drop(watched.subscription.lock().take());
            watched.informer.list().iter().for_each(|owner| self.add_dependents(&owner.meta.uid, Lane::Slow));
        }
    }

    /// Resolves when every kind of the table, as it is then, has been seen whole.
    async fn synced(&self) {
        loop {
            let table = self.table();
            let (synced, changed) = (pin!(table.synced()), pin!(self.kinds.changed_from(&table.registry)));
            select(synced, changed).await;
            if Arc::ptr_eq(&table, &self.table()) {
                return;
            }
        }
    }

    fn changed(&self, kind: KindId, delta: &Delta) {
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

    fn dependents(&self, uid: &str) -> Vec<(KindId, Arc<Object>)> {
        let of_kind = |(kind, watched): (&KindId, &Arc<Watched>)| {
            let kind = *kind;
            watched.informer.owned_by(uid).into_iter().map(move |object| (kind, object))
        };
        self.table().watched.iter().flat_map(of_kind).collect()
    }

    /// Where an owner would be: in the dependent's namespace, or in none.
    fn locate(&self, dependent: &Object, owner: &Owner) -> Option<(KindId, ObjectKey)> {
        let table = self.table();
        let kind = *table.by_reference.get(&reference(owner))?;
        let is_namespaced = table.watched.get(&kind)?.is_namespaced;
        let namespace = if is_namespaced { dependent.meta.namespace.clone() } else { "".into() };
        Some((kind, ObjectKey { namespace, name: owner.name.clone() }))
    }
}

/// How an owner reference names a kind.
fn reference(owner: &Owner) -> (String, String) {
    (owner.api_version.to_string(), owner.kind.to_string())
}

/// Whether a failure means that there is nothing left to do.
fn is_moot(error: &ApiError) -> bool {
    error.is_not_found() || error.is_conflict()
}
