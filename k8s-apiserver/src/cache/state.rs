//! The objects of one kind at one revision: immutable, shared, cheap to clone.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;
use k8s_core::{
    doc::Text,
    object::{Object, ObjectKey},
};

use super::{filter::Filter, ring::Event};

/// A copy-on-write map of the objects of a kind. Cloning shares everything.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The revision of the last change that is in it.
    pub revision: u64,
    objects: OrdMap<ObjectKey, Arc<Object>>,
    /// How many objects each namespace has.
    counts: OrdMap<Text, u64>,
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
        before
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

    /// The objects after `after` that a filter wants, in the order of their keys. Walks the filter's namespace only.
    pub fn select<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let start = match after {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Included(ObjectKey::new(filter.namespace.clone(), "")),
        };
        let exact = !filter.namespace.is_empty();
        self.objects
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| !exact || key.namespace == filter.namespace)
            .map(|(_, object)| object)
            .filter(move |object| filter.matches(object))
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        self.objects.iter()
    }
}
