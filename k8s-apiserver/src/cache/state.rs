//! The objects of one kind at one revision: immutable, shared, cheap to clone.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;
use k8s_core::{
    doc::Text,
    object::{Object, ObjectKey},
};

use super::{filter::Filter, index::Index, ring::Event};

/// A copy-on-write map of the objects of a kind. Cloning shares everything.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The revision of the last change that is in it.
    pub revision: u64,
    objects: OrdMap<ObjectKey, Arc<Object>>,
    /// How many objects each namespace has.
    counts: OrdMap<Text, u64>,
    /// The fields that somebody asked for.
    indexes: Vec<Index>,
}

impl State {
    /// No objects, as of a revision.
    pub fn empty(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Puts or removes an object; returns what was there.
    pub fn set(&mut self, key: &ObjectKey, object: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let is_there = object.is_some();
        let now = if self.indexes.is_empty() { None } else { object.clone() };
        let before = match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
        match (before.is_some(), is_there) {
            (false, true) => *self.counts.entry(key.namespace.clone()).or_insert(0) += 1,
            (true, false) => {
                let left = self.counts.get(&key.namespace).map_or(0, |count| count.saturating_sub(1));
                if left == 0 {
                    self.counts.remove(&key.namespace);
                } else {
                    self.counts.insert(key.namespace.clone(), left);
                }
            }
            _ => {}
        }
        for index in &mut self.indexes {
            index.change(key, before.as_deref(), now.as_deref());
        }
        before
    }

    /// Whether objects are found by the values of a field.
    pub fn has_index(&self, path: &str) -> bool {
        self.indexes.iter().any(|index| index.path() == path)
    }

    /// Finds objects by the values of one more field. The index must be of these objects.
    pub fn add_index(&mut self, index: Index) {
        if !self.has_index(index.path()) {
            self.indexes.push(index);
        }
    }

    /// Takes changes back, newest first, so that the state is as it was at `revision`.
    pub fn undo<'a>(&mut self, newest_first: impl Iterator<Item = &'a Arc<Event>>, revision: u64) {
        newest_first.for_each(|event| {
            self.set(&event.key, event.old.clone());
        });
        self.revision = revision;
    }

    /// How many objects there are in a namespace, or in all of them if it is empty.
    pub fn count(&self, namespace: &str) -> u64 {
        if namespace.is_empty() {
            return self.objects.len() as u64;
        }
        self.counts.get(namespace).copied().unwrap_or(0)
    }

    /// The objects after `after` that a filter may want, in the order of their keys: one, or those of an index, or
    /// those of the filter's namespace, or all.
    pub fn candidates<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let (mut one, mut indexed, mut ranged) = (None, None, None);
        let wanted = filter.most_telling();
        let index = wanted.and_then(|(path, value)| Some((self.indexes.iter().find(|i| i.path() == path)?, value)));
        // Objects without a namespace are of a kind without namespaces.
        if !filter.name.is_empty() && (!filter.namespace.is_empty() || self.counts.contains_key("")) {
            let key = ObjectKey::new(filter.namespace.clone(), filter.name.clone());
            one = self.objects.get(&key).filter(|_| after.is_none_or(|after| key > *after));
        } else if let Some((index, value)) = index {
            let keys = index.keys(value, &filter.namespace, after);
            indexed = Some(keys.filter_map(|key| self.objects.get(key)));
        } else {
            let start = match after {
                Some(key) => Bound::Excluded(key.clone()),
                None => Bound::Included(ObjectKey::new(filter.namespace.clone(), "")),
            };
            let exact = !filter.namespace.is_empty();
            let all = self.objects.range((start, Bound::Unbounded));
            let all = all.take_while(move |(key, _)| !exact || key.namespace == filter.namespace);
            ranged = Some(all.map(|(_, object)| object));
        }
        one.into_iter().chain(indexed.into_iter().flatten()).chain(ranged.into_iter().flatten())
    }

    /// The objects after `after` that a filter wants, in the order of their keys.
    pub fn select<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.candidates(filter, after).filter(move |object| filter.matches(object))
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        self.objects.iter()
    }
}
