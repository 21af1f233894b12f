//! `metadata.managedFields`: every manager's set, and how sets move between managers.

use super::{Changes, FieldSet, Manager, Operation, Scope, compare};
use crate::{
    doc::{Doc, Map, Text},
    env::Timestamp,
    schema::Schema,
};

/// How many managers' updates are told apart; the oldest beyond that become one entry per version.
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// Who owns what nobody can tell apart any more.
const ANCIENT: &str = "ancient-changes";

/// Who owns what was there before anybody kept track.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedEntry {
    /// The manager's name.
    pub manager: Text,
    /// Apply, or any other write.
    pub operation: Operation,
    /// The version that the fields are of.
    pub api_version: Text,
    /// When the set last changed, in RFC 3339 to the second; empty if unknown.
    pub time: Text,
    /// The subresource written through; empty for the object itself.
    pub subresource: Text,
    /// What the manager owns.
    pub fields: FieldSet,
}

impl ManagedEntry {
    fn new(manager: &Manager, fields: FieldSet) -> Self {
        Self {
            manager: manager.name.as_str().into(),
            operation: manager.operation,
            api_version: manager.api_version.as_str().into(),
            time: to_seconds(manager.time),
            subresource: manager.subresource.as_str().into(),
            fields,
        }
    }

    /// An applier is the same whichever version it applies through.
    pub(super) fn is_of(&self, manager: &Manager) -> bool {
        self.manager == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
            && (self.operation == Operation::Apply || self.api_version == manager.api_version)
    }

    fn decode(entry: &Doc) -> Option<Self> {
        let text = |name: &str| Text::from(entry.str_at(&[name]));
        let operation = match entry.str_at(&["operation"]) {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            time: text("time"),
            subresource: text("subresource"),
            fields: entry.get("fieldsV1").map(FieldSet::decode).unwrap_or_default(),
        })
    }

    fn encode(self) -> Doc {
        let mut map = Map::with_capacity(7);
        let mut put = |name: &str, value: Text| {
            if !value.is_empty() {
                map.insert(name, Doc::String(value));
            }
        };
        put("manager", self.manager);
        put("operation", self.operation.as_str().into());
        put("apiVersion", self.api_version);
        put("time", self.time);
        put("fieldsType", "FieldsV1".into());
        put("subresource", self.subresource);
        map.insert("fieldsV1", self.fields.encode());
        Doc::Object(map)
    }

    /// Appliers first, then by age and name, as upstream sorts them.
    fn sort_key(&self) -> (Operation, &str, &str, &str, &str) {
        (self.operation, &self.time, &self.manager, &self.api_version, &self.subresource)
    }
}

fn to_seconds(time: Timestamp) -> Text {
    // Invariant: the seconds of a timestamp are within the range of timestamps.
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string().into()
}

/// The list as it stands in the object.
pub(super) fn raw(doc: &Doc) -> &[Doc] {
    doc.at(&["metadata", "managedFields"]).map_or(&[], Doc::items)
}

/// All entries of an object.
#[derive(Debug, Default)]
pub(super) struct ManagedFields {
    pub(super) entries: Vec<ManagedEntry>,
}

impl ManagedFields {
    fn decode(doc: &Doc) -> Self {
        Self { entries: raw(doc).iter().filter_map(ManagedEntry::decode).collect() }
    }

    /// Before an apply: an object that nobody tracked belongs to whoever came before.
    pub(super) fn of_applied(live: &Doc, schema: &Schema, manager: &Manager) -> Self {
        let mut managed = Self::decode(live);
        if managed.entries.is_empty() {
            let all = compare::changes(&Doc::object(), live, schema.root(), Scope::Whole).changed;
            let before = Manager {
                name: BEFORE_FIRST_APPLY.into(),
                operation: Operation::Update,
                subresource: String::new(),
                ..manager.clone()
            };
            managed.entries.push(ManagedEntry::new(&before, all));
        }
        managed
    }

    /// Before any other write: what the client sent, or what was there.
    pub(super) fn of_updated(live: Option<&Doc>, new: &Doc, manager: &Manager) -> Self {
        let sent = raw(new);
        let is_reset = matches!(sent, [Doc::Object(entry)] if entry.is_empty());
        let of_live = || live.map(Self::decode).unwrap_or_default();
        if !manager.subresource.is_empty() {
            return of_live();
        }
        if is_reset {
            return Self::default();
        }
        let sent = Self::decode(new);
        if sent.entries.is_empty() { of_live() } else { sent }
    }

    /// Gives `manager` exactly `fields`; returns what it had.
    pub(super) fn replace(&mut self, manager: &Manager, fields: FieldSet) -> FieldSet {
        match self.entries.iter_mut().find(|entry| entry.is_of(manager)) {
            Some(entry) => {
                if entry.fields != fields || entry.api_version != manager.api_version {
                    entry.time = to_seconds(manager.time);
                }
                entry.api_version = manager.api_version.as_str().into();
                std::mem::replace(&mut entry.fields, fields)
            }
            None => {
                self.entries.push(ManagedEntry::new(manager, fields));
                FieldSet::default()
            }
        }
    }

    /// Every manager's set.
    pub(super) fn sets(&self) -> Vec<&FieldSet> {
        self.entries.iter().map(|entry| &entry.fields).collect()
    }

    /// Others lose what `manager` changed; everybody loses what is gone.
    pub(super) fn yield_to(&mut self, manager: &Manager, changes: &Changes) {
        for entry in &mut self.entries {
            if !entry.is_of(manager) && entry.fields.intersects(&changes.changed) {
                entry.fields = entry.fields.difference(&changes.changed);
                entry.time = to_seconds(manager.time);
            }
            if entry.fields.intersects(&changes.removed) {
                entry.fields = entry.fields.difference(&changes.removed);
                entry.time = to_seconds(manager.time);
            }
        }
    }

    /// Adds what `manager` changed to what it owns.
    pub(super) fn grant(&mut self, manager: &Manager, changes: Changes) {
        if changes.changed.is_empty() {
            return;
        }
        match self.entries.iter_mut().find(|entry| entry.is_of(manager)) {
            Some(entry) => {
                let union = entry.fields.union(&changes.changed);
                if union != entry.fields {
                    entry.fields = union;
                    entry.time = to_seconds(manager.time);
                }
            }
            None => self.entries.push(ManagedEntry::new(manager, changes.changed)),
        }
    }

    /// Merges the oldest updates beyond [`MAX_UPDATE_MANAGERS`], one entry per version.
    pub(super) fn cap(&mut self) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        let mut updates: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].operation == Operation::Update).collect();
        if updates.len() <= MAX_UPDATE_MANAGERS {
            return;
        }
        updates.sort_by(|a, b| self.entries[*a].sort_key().cmp(&self.entries[*b].sort_key()));
        let entries = std::mem::take(&mut self.entries);
        let mut buckets: Vec<ManagedEntry> = Vec::new();
        let mut left = updates.len();
        let mut is_merged = vec![false; entries.len()];
        for at in updates {
            if left + buckets.len() <= MAX_UPDATE_MANAGERS {
                break;
            }
            is_merged[at] = true;
            left -= 1;
            let entry = entries[at].clone();
            match buckets.iter_mut().find(|bucket| bucket.api_version == entry.api_version) {
                Some(bucket) => {
                    bucket.fields = bucket.fields.union(&entry.fields);
                    bucket.time = entry.time;
                }
                None => buckets.push(ManagedEntry { manager: ANCIENT.into(), subresource: Text::default(), ..entry }),
            }
        }
        let kept = entries.into_iter().zip(is_merged).filter(|(_, merged)| !merged).map(|(entry, _)| entry);
        self.entries = kept.chain(buckets).collect();
    }

    /// Writes the list into the object.
    pub(super) fn store(mut self, doc: &mut Doc) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.entries.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        let metadata = doc.entry_at(&["metadata"]).make_object();
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            let encoded = self.entries.into_iter().map(ManagedEntry::encode).collect();
            metadata.insert("managedFields", Doc::Array(encoded));
        }
    }
}
