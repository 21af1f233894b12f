//! The object of the tree: fields in the order in which they were first written.

use std::collections::BTreeMap;

use super::{Doc, Text};

/// Up to this many fields are searched one by one; above it a sorted index is kept.
pub(super) const LINEAR: usize = 32;

/// The place of every key.
pub(super) fn index(fields: &[(Text, Doc)]) -> BTreeMap<Text, usize> {
    fields.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect()
}

/// An ordered map from field names to values.
///
/// Looking up is linear in small maps and logarithmic in large ones, so that no input makes parsing quadratic.
/// [`Map::remove`] moves the fields behind it; use [`Map::retain`] to remove many.
#[derive(Clone, Debug)]
pub struct Map(Repr);

/// Three words, so that the tree stays small; large maps are worth a box.
#[derive(Clone, Debug)]
enum Repr {
    Small(Vec<(Text, Doc)>),
    Large(Box<Large>),
}

/// More than [`LINEAR`] fields.
#[derive(Clone, Debug)]
struct Large {
    fields: Vec<(Text, Doc)>,
    /// Invariant: it maps every key of `fields` to its place.
    index: BTreeMap<Text, usize>,
}

impl Default for Map {
    fn default() -> Self {
        Self::new()
    }
}

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self(Repr::Small(Vec::new()))
    }

    /// An empty map with room for `capacity` fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Repr::Small(Vec::with_capacity(capacity)))
    }

    /// A map of fields with different keys; above [`LINEAR`] of them, `index` says where each is.
    pub(super) fn from_unique(fields: Vec<(Text, Doc)>, index: Option<BTreeMap<Text, usize>>) -> Self {
        match index {
            Some(index) if fields.len() > LINEAR => Self(Repr::Large(Box::new(Large { fields, index }))),
            _ => {
                let mut map = Self(Repr::Small(fields));
                map.reindex();
                map
            }
        }
    }

    fn fields(&self) -> &Vec<(Text, Doc)> {
        match &self.0 {
            Repr::Small(fields) => fields,
            Repr::Large(large) => &large.fields,
        }
    }

    fn fields_mut(&mut self) -> &mut Vec<(Text, Doc)> {
        match &mut self.0 {
            Repr::Small(fields) => fields,
            Repr::Large(large) => &mut large.fields,
        }
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields().len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// The place of `key` in the order of fields.
    pub fn position(&self, key: &str) -> Option<usize> {
        match &self.0 {
            Repr::Small(fields) => fields.iter().position(|(name, _)| name == key),
            Repr::Large(large) => large.index.get(key).copied(),
        }
    }

    /// Whether the field is there, be it `null`.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Doc> {
        self.position(key).map(|at| &self.fields()[at].1)
    }

    /// The value of a field, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Doc> {
        self.position(key).map(|at| &mut self.fields_mut()[at].1)
    }

    /// The field at a place in the order.
    pub fn at(&self, place: usize) -> Option<(&str, &Doc)> {
        self.fields().get(place).map(|(key, value)| (key.as_str(), value))
    }

    /// Sets a field; an existing one keeps its place, and its former value is returned.
    pub fn insert(&mut self, key: impl Into<Text> + AsRef<str>, value: Doc) -> Option<Doc> {
        match self.position(key.as_ref()) {
            Some(at) => Some(std::mem::replace(&mut self.fields_mut()[at].1, value)),
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
                self.fields().len() - 1
            }
        };
        &mut self.fields_mut()[at].1
    }

    /// Appends a field that is known not to be there.
    pub(crate) fn push(&mut self, key: Text, value: Doc) {
        match &mut self.0 {
            Repr::Small(fields) => {
                fields.push((key, value));
                if fields.len() > LINEAR {
                    self.reindex();
                }
            }
            Repr::Large(large) => {
                large.index.insert(key.clone(), large.fields.len());
                large.fields.push((key, value));
            }
        }
    }

    /// Removes a field; those behind it keep their order. Linear in the number of fields.
    pub fn remove(&mut self, key: &str) -> Option<Doc> {
        let at = self.position(key)?;
        let (_, value) = self.fields_mut().remove(at);
        self.reindex();
        Some(value)
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Doc) -> bool) {
        let before = self.len();
        self.fields_mut().retain_mut(|(key, value)| keep(key, value));
        if self.len() != before {
            self.reindex();
        }
    }

    /// Removes every field.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Chooses the representation anew after fields were removed, or became many.
    fn reindex(&mut self) {
        if matches!(&self.0, Repr::Small(fields) if fields.len() <= LINEAR) {
            return;
        }
        let fields = std::mem::take(self.fields_mut());
        self.0 = if fields.len() > LINEAR {
            let index = index(&fields);
            Repr::Large(Box::new(Large { fields, index }))
        } else {
            Repr::Small(fields)
        };
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Doc)> + DoubleEndedIterator {
        self.fields().iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The fields in order, their values to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Doc)> + DoubleEndedIterator {
        self.fields_mut().iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// The names of the fields in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.fields().iter().map(|(key, _)| key.as_str())
    }

    /// The values in order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Doc> + DoubleEndedIterator {
        self.fields().iter().map(|(_, value)| value)
    }

    /// The values in order, to change.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Doc> + DoubleEndedIterator {
        self.fields_mut().iter_mut().map(|(_, value)| value)
    }
}

/// The order of the fields does not matter.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.fields().iter().zip(other.fields()).all(|((key, value), (their_key, their_value))| {
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
        match self.0 {
            Repr::Small(fields) => fields.into_iter(),
            Repr::Large(large) => large.fields.into_iter(),
        }
    }
}
