//! The kinds that the collector watches: they come and go with the table of kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_core::{
    registry::{Registry, ResourceInfo},
    request::{ResourceType, Verb},
};
use k8s_reconcile::{
    Client, InformerScope,
    informer::{DynamicInformer, Subscription},
};
use parking_lot::Mutex;

/// Names a watched kind; never given twice.
pub(super) type KindId = usize;

/// The watched kinds of a moment.
#[derive(Clone)]
pub(super) struct Table {
    /// What it follows.
    pub(super) registry: Arc<Registry>,
    pub(super) watched: BTreeMap<KindId, Arc<Watched>>,
    /// `apiVersion` and kind as owner references name them; each version of a kind leads to the same one.
    pub(super) by_reference: BTreeMap<(String, String), KindId>,
    /// References to kinds that were watched and are gone: nothing of them can be there.
    pub(super) gone: BTreeSet<(String, String)>,
    last: KindId,
}

/// One watched kind.
pub(super) struct Watched {
    pub(super) resource: ResourceType,
    pub(super) is_namespaced: bool,
    pub(super) informer: DynamicInformer,
    pub(super) subscription: Mutex<Option<Subscription>>,
}

impl Table {
    /// Nothing, until it follows something.
    pub(super) fn empty() -> Self {
        Self {
            registry: Arc::new(Registry::builtin()),
            watched: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            gone: BTreeSet::new(),
            last: 0,
        }
    }

    /// The kinds of a registry: those that are watched already stay, with all that is known of them.
    pub(super) fn follow(&self, client: &Client, registry: Arc<Registry>) -> Self {
        let mut next = Self { registry, watched: BTreeMap::new(), by_reference: BTreeMap::new(), ..self.clone() };
        let mut places: BTreeMap<(String, String), KindId> = BTreeMap::new();
        let infos: Vec<Arc<ResourceInfo>> = next.registry.iter().filter(|info| is_collected(info)).cloned().collect();
        for info in infos {
            let place = (info.group.to_string(), info.plural.to_string());
            let id = *places.entry(place).or_insert_with(|| next.watch(self, client, &info));
            next.by_reference.insert((info.api_version(), info.kind.to_string()), id);
        }
        next.gone.extend(self.by_reference.keys().cloned());
        let Self { gone, by_reference, .. } = &mut next;
        gone.retain(|reference| !by_reference.contains_key(reference));
        next
    }

    fn watch(&mut self, before: &Self, client: &Client, info: &ResourceInfo) -> KindId {
        let (resource, is_namespaced) = (info.resource(), info.is_namespaced());
        let same = |watched: &Watched| watched.resource == resource && watched.is_namespaced == is_namespaced;
        if let Some((id, known)) = before.watched.iter().find(|(_, watched)| same(watched)) {
            self.watched.insert(*id, known.clone());
            return *id;
        }
        self.last += 1;
        let informer = client.dynamic_informer(resource.clone(), InformerScope::all());
        let watched = Watched { resource, is_namespaced, informer, subscription: Mutex::default() };
        self.watched.insert(self.last, Arc::new(watched));
        self.last
    }

    /// Resolves when every kind has been seen whole. Cancel-safe.
    pub(super) async fn synced(&self) {
        for watched in self.watched.values() {
            watched.informer.synced().await;
        }
    }
}

fn is_collected(info: &ResourceInfo) -> bool {
    let verbs = [Verb::List, Verb::Watch, Verb::Delete];
    info.plural != "events" && verbs.iter().all(|verb| info.supports(*verb))
}
