//! Which kinds are held: found by resource, and by where their objects are stored.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use k8s_core::{registry::Registry, request::ResourceType};

use super::kind::KindCache;
use crate::auth::Follower;

/// The kinds of a moment.
#[derive(Default)]
pub struct Table {
    kinds: Vec<Arc<KindCache>>,
    by_resource: BTreeMap<ResourceType, usize>,
    /// No prefix is a prefix of another. Each version of a custom kind shows the same objects in a form of its own.
    by_prefix: BTreeMap<String, Vec<usize>>,
}

impl Table {
    /// The stored kinds of a registry. Those that did not change are the same as `before`, with all that they hold;
    /// others are empty.
    pub fn new(registry: &Registry, before: &Self, followers: &[Arc<dyn Follower>]) -> Self {
        let mut table = Self::default();
        for info in registry.iter().filter(|info| info.is_stored()) {
            let Some(schema) = registry.schema(info) else { continue };
            let there = table.by_prefix.entry(info.storage_prefix()).or_default();
            // Two names for one built-in kind share its place; the first one in the table is the one that is stored.
            let shared = there.first().copied().filter(|_| info.custom.is_none());
            let place = shared.unwrap_or_else(|| {
                let known = before.kind(&info.resource()).filter(|kind| Arc::ptr_eq(&kind.info, info));
                let new = || Arc::new(KindCache::new(info.clone(), schema, followers.to_vec()));
                table.kinds.push(known.cloned().unwrap_or_else(new));
                there.push(table.kinds.len() - 1);
                table.kinds.len() - 1
            });
            table.by_resource.insert(info.resource(), place);
        }
        table
    }

    /// The cache of a resource.
    pub fn kind(&self, resource: &ResourceType) -> Option<&Arc<KindCache>> {
        self.by_resource.get(resource).map(|place| &self.kinds[*place])
    }

    /// Every kind.
    pub fn kinds(&self) -> &[Arc<KindCache>] {
        &self.kinds
    }

    /// The kinds that a storage key belongs to, with their places among [`Self::kinds`].
    pub fn at(&self, key: &str) -> impl Iterator<Item = (usize, &Arc<KindCache>)> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let found =
            self.by_prefix.range::<str, _>(upto).next_back().filter(|(prefix, _)| key.starts_with(prefix.as_str()));
        found.into_iter().flat_map(|(_, places)| places).map(|place| (*place, &self.kinds[*place]))
    }

    /// The kinds that `other` does not hold.
    pub fn without<'t>(&'t self, other: &'t Self) -> impl Iterator<Item = &'t Arc<KindCache>> {
        self.kinds.iter().filter(|kind| !other.kinds.iter().any(|known| Arc::ptr_eq(known, kind)))
    }
}
