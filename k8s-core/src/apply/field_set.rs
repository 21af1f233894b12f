//! A set of places in an object, in the `FieldsV1` encoding.

use crate::doc::{Doc, Map, Text};

/// Places of an object: a tree of path elements.
///
/// Elements are kept as `FieldsV1` writes them: `f:name` for a field or map key, `k:{"name":"x"}` for an item of a
/// keyed list, `v:"x"` for an item of a set, `i:0` for an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Invariant: sorted by element, no element twice, no entry that is neither a member nor has any below.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    element: Text,
    /// Whether the place itself is in the set, not only some below it.
    member: bool,
    below: FieldSet,
}

impl Entry {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// Whether no place is in the set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for that many more places at this level.
    pub(super) fn reserve(&mut self, places: usize) {
        self.entries.reserve(places);
    }

    /// Adds the place `element` (if `member`) and what is below it.
    pub(super) fn insert(&mut self, element: Text, member: bool, below: FieldSet) {
        let entry = Entry { element, member, below };
        if entry.is_empty() {
            return;
        }
        match self.position(&entry.element) {
            Ok(at) => {
                let known = &mut self.entries[at];
                known.member |= entry.member;
                known.below = known.below.union(&entry.below);
            }
            Err(at) => self.entries.insert(at, entry),
        }
    }

    fn position(&self, element: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.element.as_str().cmp(element))
    }

    fn find(&self, element: &str) -> Option<&Entry> {
        self.position(element).ok().map(|at| &self.entries[at])
    }

    /// What is below the place `element`.
    pub fn below(&self, element: &str) -> Option<&FieldSet> {
        self.find(element).map(|entry| &entry.below)
    }

    /// Whether the place `element` itself is in the set.
    pub fn has_member(&self, element: &str) -> bool {
        self.find(element).is_some_and(|entry| entry.member)
    }

    /// Whether the place `element`, or anything below it, is in the set.
    pub fn reaches(&self, element: &str) -> bool {
        self.find(element).is_some()
    }

    /// The elements of this level in order.
    pub fn elements(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.element.as_str())
    }

    /// The places in either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut result = Vec::with_capacity(self.entries.len().max(other.entries.len()));
        let (mut ours, mut theirs) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.element.cmp(&their.element),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return FieldSet { entries: result },
            };
            let our = if order.is_le() { ours.next() } else { None };
            let their = if order.is_ge() { theirs.next() } else { None };
            result.extend(match (our, their) {
                (Some(our), Some(their)) => Some(Entry {
                    element: our.element.clone(),
                    member: our.member || their.member,
                    below: our.below.union(&their.below),
                }),
                (our, their) => our.or(their).cloned(),
            });
        }
    }

    /// The places in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.filter(other, |entry, other| {
            let other = other?;
            Some((entry.member && other.member, entry.below.intersection(&other.below)))
        })
    }

    /// The places here that are not in `other`.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.filter(other, |entry, other| match other {
            Some(other) => Some((entry.member && !other.member, entry.below.difference(&other.below))),
            None => Some((entry.member, entry.below.clone())),
        })
    }

    fn filter(&self, other: &FieldSet, keep: impl Fn(&Entry, Option<&Entry>) -> Option<(bool, FieldSet)>) -> FieldSet {
        let kept = self.entries.iter().filter_map(|entry| {
            let (member, below) = keep(entry, other.find(&entry.element))?;
            let entry = Entry { element: entry.element.clone(), member, below };
            (!entry.is_empty()).then_some(entry)
        });
        FieldSet { entries: kept.collect() }
    }

    /// Whether some place is in both.
    pub fn intersects(&self, other: &FieldSet) -> bool {
        self.entries.iter().any(|entry| {
            other
                .find(&entry.element)
                .is_some_and(|other| (entry.member && other.member) || entry.below.intersects(&other.below))
        })
    }

    /// Every place, as messages show it: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        for entry in &self.entries {
            let length = prefix.len();
            push_element(prefix, &entry.element);
            if entry.member {
                paths.push(prefix.clone());
            }
            entry.below.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }

    /// The value of `fieldsV1`.
    pub fn encode(&self) -> Doc {
        Doc::Object(self.encode_with(0))
    }

    fn encode_with(&self, extra: usize) -> Map {
        let mut map = Map::with_capacity(self.entries.len() + extra);
        if extra > 0 {
            map.push(".".into(), Doc::object());
        }
        for entry in &self.entries {
            let dot = usize::from(entry.member && !entry.below.is_empty());
            // Invariant: no element is there twice, and none is a dot.
            map.push(entry.element.clone(), Doc::Object(entry.below.encode_with(dot)));
        }
        map
    }

    /// Reads a `fieldsV1` value; what is not in its form is passed over.
    pub fn decode(fields: &Doc) -> FieldSet {
        let known = |element: &str| matches!(element.get(..2), Some("f:" | "k:" | "v:" | "i:"));
        let Some(fields) = fields.as_object() else { return FieldSet::default() };
        let mut entries: Vec<Entry> = fields
            .iter()
            .filter(|(element, _)| known(element))
            .map(|(element, value)| {
                let below = FieldSet::decode(value);
                let member = below.is_empty() || value.get(".").is_some();
                Entry { element: element.into(), member, below }
            })
            .collect();
        entries.sort_by(|a, b| a.element.cmp(&b.element));
        FieldSet { entries }
    }
}

fn push_element(path: &mut String, element: &str) {
    match element.split_at_checked(2) {
        Some(("f:", name)) => {
            path.push('.');
            path.push_str(name);
        }
        Some(("k:", keys)) => {
            let keys = Doc::parse(keys.as_bytes()).unwrap_or_default();
            let pairs = keys.as_object().into_iter().flat_map(Map::iter);
            let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
            path.push_str(&format!("[{}]", pairs.join(",")));
        }
        Some(("v:", value)) => path.push_str(&format!("[={value}]")),
        Some((_, index)) => path.push_str(&format!("[{index}]")),
        None => path.push_str(element),
    }
}
