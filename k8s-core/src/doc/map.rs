//! The object of the tree: fields in the order in which they were first written.

use std::collections::BTreeMap;

use super::{Doc, Text};

/// Up to this many fields are searched one by one; above it a sorted index is kept.
const LINEAR: usize = 32;

/// An ordered map from field names to values.
///
/// Looking up is linear in small maps and logarithmic in large ones, so that no input makes parsing quadratic.
/// [`Map::remove`] moves the fields behind it; use [`Map::retain`] to remove many.
#[derive(Clone, Debug, Default)]
pub struct Map {
    fields: Vec<(Text, Doc)>,
    /// Invariant: if present, it maps every key of `fields` to its place; it is present above [`LINEAR`] fields.
    index: Option<Box<BTreeMap<Text, usize>>>,
}

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self { fields: Vec::new(), index: None }
    }

    /// An empty map with room for `capacity` fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { fields: Vec::with_capacity(capacity), index: None }
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The place of `key` in the order of fields.
    pub fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.fields.iter().position(|(name, _)| name == key),
        }
    }

    /// Whether the field is there, be it `null`.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Doc> {
        self.position(key).map(|at| &self.fields[at].1)
    }

    /// The value of a field, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Doc> {
        self.position(key).map(|at| &mut self.fields[at].1)
    }

    /// The field at a place in the order.
    pub fn at(&self, place: usize) -> Option<(&str, &Doc)> {
        self.fields.get(place).map(|(key, value)| (key.as_str(), value))
    }

    /// Sets a field; an existing one keeps its place, and its former value is returned.
    pub fn insert(&mut self, key: impl Into<Text> + AsRef<str>, value: Doc) -> Option<Doc> {
        match self.position(key.as_ref()) {
            Some(at) => Some(std::mem::replace(&mut self.fields[at].1, value)),
            None => {
                self.push(key.into(), value);
                None
            }
        }
    }

    /// The value of a field, which is first set to `default()` if it is not there.
    pub fn get_or_insert_with(&mut self, key: &str, default: impl FnOnce() -> Doc) -> &mut Doc {
        let at = match self.position(key) {
            Some(at) => at,
            None => {
                self.push(key.into(), default());
                self.fields.len() - 1
            }
        };
        &mut self.fields[at].1
    }

    /// Appends a field that is known not to be there.
    pub(super) fn push(&mut self, key: Text, value: Doc) {
        let place = self.fields.len();
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), place);
        }
        self.fields.push((key, value));
        if self.index.is_none() && self.fields.len() > LINEAR {
            self.reindex();
        }
    }

    /// Removes a field; those behind it keep their order. Linear in the number of fields.
    pub fn remove(&mut self, key: &str) -> Option<Doc> {
        let at = self.position(key)?;
        let (_, value) = self.fields.remove(at);
        self.reindex();
        Some(value)
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Doc) -> bool) {
        let before = self.fields.len();
        self.fields.retain_mut(|(key, value)| keep(key, value));
        if self.fields.len() != before {
            self.reindex();
        }
    }

    /// Removes every field.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.index = None;
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Doc)> + DoubleEndedIterator {
        self.fields.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The fields in order, their values to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Doc)> + DoubleEndedIterator {
        self.fields.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// The names of the fields in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.fields.iter().map(|(key, _)| key.as_str())
    }

    /// The values in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Doc> + DoubleEndedIterator {
        self.fields.iter().map(|(_, value)| value)
    }

    /// The values in order, to change.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Doc> + DoubleEndedIterator {
        self.fields.iter_mut().map(|(_, value)| value)
    }

    fn reindex(&mut self) {
        self.index = (self.fields.len() > LINEAR)
            .then(|| Box::new(self.fields.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect()));
    }
}

/// The order of the fields does not matter.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.fields.iter().zip(&other.fields).all(|((key, value), (their_key, their_value))| {
                if key == their_key { value == their_value } else { other.get(key) == Some(value) }
            })
    }
}

impl<K: Into<Text> + AsRef<str>> FromIterator<(K, Doc)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Doc)>>(fields: I) -> Self {
        let mut map = Self::new();
        map.extend(fields);
        map
    }
}

impl<K: Into<Text> + AsRef<str>> Extend<(K, Doc)> for Map {
    fn extend<I: IntoIterator<Item = (K, Doc)>>(&mut self, fields: I) {
        for (key, value) in fields {
            self.insert(key, value);
        }
    }
}

impl IntoIterator for Map {
    type Item = (Text, Doc);
    type IntoIter = std::vec::IntoIter<(Text, Doc)>;
    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}
