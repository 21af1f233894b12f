//! The objects of a kind by the values of one field: for filters that ask for one value among very many.
//!
//! Nobody pays for an index that nobody asked for: it is made at the first list or watch of many objects by that field
//! (see [`KindCache::prepare`](super::KindCache::prepare)), and kept true from then on.

use std::{ops::Bound, sync::Arc};

use imbl::OrdSet;
use k8s_core::{
    doc::Text,
    object::{Object, ObjectKey},
};

use super::{field::field, state::State};

/// A copy-on-write index. Cloning shares everything.
#[derive(Clone, Debug)]
pub struct Index {
    path: Arc<str>,
    /// Values and keys. An absent field has the empty value.
    keys: OrdSet<(Text, ObjectKey)>,
}

impl Index {
    /// The index of a state's objects.
    pub fn of(path: &str, state: &State) -> Self {
        let mut index = Self { path: path.into(), keys: OrdSet::new() };
        state.iter().for_each(|(key, object)| index.change(key, None, Some(object)));
        index
    }

    /// The field.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes a change of one object over.
    pub fn change(&mut self, key: &ObjectKey, old: Option<&Object>, new: Option<&Object>) {
        let value = |object: &Object| field(object, &self.path).map_or_else(Text::default, |value| Text::from(&*value));
        let (old, new) = (old.map(value), new.map(value));
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.keys.remove(&(old, key.clone()));
        }
        if let Some(new) = new {
            self.keys.insert((new, key.clone()));
        }
    }

    /// The keys of the objects with a value, in a namespace or (if it is empty) in all, after `after`, in order.
    pub fn keys<'a>(
        &'a self,
        value: &'a str,
        namespace: &'a str,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        let start = match after {
            Some(key) => Bound::Excluded((Text::from(value), key.clone())),
            None => Bound::Included((Text::from(value), ObjectKey::new(namespace, ""))),
        };
        self.keys
            .range((start, Bound::Unbounded))
            .take_while(move |(found, key)| found == value && (namespace.is_empty() || key.namespace == namespace))
            .map(|(_, key)| key)
    }
}
