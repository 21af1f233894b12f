//! Which pods to look at again: filled by the informer and the runtime, emptied by the agent.

use std::collections::BTreeMap;

use k8s_core::object::{Object, ObjectKey};
use k8s_reconcile::informer::Delta;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bound: one entry per pod.
#[derive(Default)]
pub(crate) struct Inbox {
    pods: Mutex<BTreeMap<String, Letter>>,
    filled: Notify,
}

/// Why to look at a pod again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Its name, if the informer told of it.
    pub key: Option<ObjectKey>,
    /// Whether the runtime has news.
    pub runtime: bool,
}

impl Inbox {
    /// Takes what the informer tells about pods on `node`.
    pub fn informed(&self, node: &str, delta: &Delta) {
        let mut changed = false;
        for object in [&delta.old, &delta.new].into_iter().flatten() {
            if object.meta.node_name == node {
                self.put(object);
                changed = true;
            }
        }
        if changed {
            self.filled.notify_one();
        }
    }

    fn put(&self, object: &Object) {
        let mut pods = self.pods.lock();
        pods.entry(object.meta.uid.to_string()).or_default().key = Some(object.meta.key());
    }

    /// The runtime has news of a pod.
    pub fn hinted(&self, uid: &str) {
        self.pods.lock().entry(uid.to_owned()).or_default().runtime = true;
        self.filled.notify_one();
    }

    /// Waits for news and takes all. Cancel-safe.
    pub async fn take(&self) -> BTreeMap<String, Letter> {
        loop {
            let taken = std::mem::take(&mut *self.pods.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}
