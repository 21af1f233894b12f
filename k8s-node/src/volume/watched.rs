//! Config maps and secrets that pods show: read when needed, watched one by one so that changes arrive.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_core::{
    request::ResourceType,
    resource::{Resource, Stored},
    status::ApiResult,
};
use k8s_reconcile::{
    Client, InformerScope,
    informer::{DynamicInformer, Subscription},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The objects that pods of this node show.
pub(super) struct Watched {
    client: Client,
    by_pod: Mutex<BTreeMap<String, PodWatches>>,
}

/// What one pod shows, by kind and name.
type PodWatches = BTreeMap<(ResourceType, String), Watch>;

struct Watch {
    /// The revision that was read last; another one is news. 0: there was none.
    read: Arc<AtomicU64>,
    _subscription: Subscription,
    _informer: DynamicInformer,
}

impl Watched {
    pub fn new(client: Client) -> Self {
        Self { client, by_pod: Mutex::default() }
    }

    /// Reads an object from the server, and tells `changed` about every change after that until the pod is forgotten.
    pub async fn read<K: Resource>(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
        changed: &Arc<Notify>,
    ) -> ApiResult<Option<Stored<K>>> {
        let found = self.client.namespaced::<K>(namespace).find(name).await?;
        let revision = found.as_ref().map_or(0, Stored::revision);
        let mut by_pod = self.by_pod.lock();
        let watches = by_pod.entry(uid.to_owned()).or_default();
        let watch = watches.entry((K::resource(), name.to_owned())).or_insert_with(|| {
            let informer = self.client.dynamic_informer(K::resource(), InformerScope::object(namespace, name));
            let read = Arc::new(AtomicU64::new(revision));
            let (known, changed) = (read.clone(), changed.clone());
            let subscription = informer.subscribe(Arc::new(move |delta| {
                let now = delta.new.as_ref().map_or(0, |object| object.revision());
                // A cache that lags behind our own read tells old news first; they cost one more look and no more.
                if now != known.load(Ordering::Acquire) {
                    changed.notify_one();
                }
            }));
            Watch { read, _subscription: subscription, _informer: informer }
        });
        watch.read.store(revision, Ordering::Release);
        Ok(found)
    }

    /// Ends the watches of a pod.
    pub fn forget(&self, uid: &str) {
        let watches = self.by_pod.lock().remove(uid);
        drop(watches);
    }
}
