//! Aggregation: groups of the API that other servers answer for, as one API.
//!
//! Follows upstream's kube-aggregator. An `APIService` with a service hands one version of one group to that service:
//! requests are authenticated and authorized here and passed on with the caller in `X-Remote-*` headers, over TLS with
//! the front proxy's certificate. One without a service says that this server answers itself.

mod availability;
mod conditions;
mod discovered;
mod entry;
mod local;
mod part;
mod proxy;

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{
    doc::Doc,
    env::Env,
    object::{Object, ObjectKey},
    signal::Signal,
};
use k8s_wire::pki::Identity;
use parking_lot::RwLock;

pub(crate) use self::{
    availability::run,
    discovered::Discovered,
    entry::Entry,
    local::{follow, register},
    part::Part,
    proxy::{Passing, connect, name_caller},
};
use crate::auth::Follower;

/// The group of the kind by which other servers are made known.
pub const GROUP: &str = "apiregistration.k8s.io";

/// Knows which groups and versions other servers answer for. Must follow APIServices (see [`Follower`]).
pub struct Aggregator {
    env: Env,
    identity: Option<Identity>,
    entries: RwLock<BTreeMap<String, Arc<Entry>>>,
    /// What the servers say that they serve, by the name of the APIService.
    discovered: RwLock<BTreeMap<String, Arc<Discovered>>>,
    /// Counts what may change whether servers can be reached.
    changes: Signal<u64>,
}

impl Aggregator {
    /// Knows no other server yet. `identity` is the certificate of the front proxy, which other servers believe; without
    /// one they get none.
    pub(crate) fn new(env: Env, identity: Option<Identity>) -> Self {
        let (entries, discovered) = (RwLock::default(), RwLock::default());
        Self { env, identity, entries, discovered, changes: Signal::new(0) }
    }

    /// The other server that answers for a version of a group; `None` if this one does, or nobody.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        // Most servers have none but local ones, whose names are not looked for.
        entries.get(&format!("{version}.{group}")).filter(|entry| entry.remote.is_some()).cloned()
    }

    /// Every version of a group that another server answers for.
    pub(crate) fn remotes(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().filter(|entry| entry.remote.is_some()).cloned().collect()
    }

    /// What the server of an APIService said that it serves, when it was last asked with success.
    pub(crate) fn discovered(&self, name: &str) -> Option<Arc<Discovered>> {
        self.discovered.read().get(name).cloned()
    }

    fn concerns(&self, plural: &str, key: &ObjectKey) -> bool {
        self.entries.read().values().filter_map(|entry| entry.remote.as_ref()).any(|remote| {
            let named = match plural {
                "services" => *remote.service == *key.name,
                // Whose name begins like the service's most likely belongs to it; a look too many does no harm.
                _ => key.name.starts_with(&remote.service),
            };
            named && *remote.namespace == *key.namespace
        })
    }
}

impl Follower for Aggregator {
    fn follows(&self, group: &str, plural: &str) -> bool {
        matches!((group, plural), (GROUP, "apiservices") | ("", "services") | ("discovery.k8s.io", "endpointslices"))
    }

    fn changed(&self, _: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        if plural != "apiservices" {
            if self.concerns(plural, key) {
                self.changes.modify(|count| *count += 1);
            }
            return;
        }
        let doc = new.and_then(|object| Doc::parse(object.stored_json()).ok());
        let mut entries = self.entries.write();
        let before = entries.get(key.name.as_str()).cloned();
        let entry = doc.map(|doc| Arc::new(Entry::read(&doc, before.as_deref(), &self.env, self.identity.as_ref())));
        let is_news = match (&before, &entry) {
            (Some(before), Some(entry)) => !before.says_the_same(entry),
            (None, None) => false,
            _ => true,
        };
        match entry {
            Some(entry) => drop(entries.insert(key.name.to_string(), entry)),
            None => {
                entries.remove(key.name.as_str());
                self.discovered.write().remove(key.name.as_str());
            }
        }
        drop(entries);
        if is_news {
            self.changes.modify(|count| *count += 1);
        }
    }
}
