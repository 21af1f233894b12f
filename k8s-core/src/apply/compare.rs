//! Field sets out of objects: what a configuration names, and what differs between two objects.

use std::collections::BTreeMap;

use super::FieldSet;
use crate::{
    doc::{Doc, Map, Text},
    schema::{FieldView, ListType, Node, Schema},
};

/// Metadata that nobody owns: it identifies the object, or the server sets it.
const UNTRACKED_METADATA: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "selfLink",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Fields whose Go type is a plain struct: an empty one is always there, so adding to it does not add it.
const ALWAYS_THERE: [&str; 8] =
    ["metadata", "spec", "status", "template", "strategy", "updateStrategy", "resources", "jobTemplate"];

/// Which fields of the object take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All that can be owned.
    Whole,
    /// All but `status`, which has a subresource of its own.
    WithoutStatus,
    /// Only `status`.
    Status,
}

impl Scope {
    pub(super) fn of_apply(schema: &Schema, subresource: &str) -> Self {
        match subresource {
            "status" => Self::Status,
            "" if is_builtin(schema) => Self::WithoutStatus,
            _ => Self::Whole,
        }
    }

    pub(super) fn of_update(schema: &Schema, subresource: &str, is_create: bool) -> Self {
        // Later writes to the object itself cannot change `status`, so there it makes no difference.
        let without = is_create && subresource.is_empty() && is_builtin(schema);
        if without { Self::WithoutStatus } else { Self::Whole }
    }

    /// Whether the field `name` of the object itself takes part.
    pub(super) fn includes(self, name: &str) -> bool {
        match name {
            "apiVersion" | "kind" => false,
            "status" => self != Self::WithoutStatus,
            _ => self != Self::Status,
        }
    }
}

fn is_builtin(schema: &Schema) -> bool {
    schema.root().as_struct().is_some_and(|root| root.is_typed())
}

/// How deep a walk is, as far as that matters.
#[derive(Clone, Copy)]
enum Level {
    Root(Scope),
    Metadata,
    Below,
}

impl Level {
    fn includes(self, name: &str) -> bool {
        match self {
            Self::Root(scope) => scope.includes(name),
            Self::Metadata => !UNTRACKED_METADATA.contains(&name),
            Self::Below => true,
        }
    }

    fn below(self, name: &str) -> Self {
        if matches!(self, Self::Root(_)) && name == "metadata" { Self::Metadata } else { Self::Below }
    }
}

/// Whether sets are made for an apply, or for any other write: those also own the containers that they add.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Applied,
    Changed,
}

/// What a value is to the tracking.
enum Shape<'a> {
    /// Owned as a whole.
    Leaf,
    /// Owned field by field.
    Fields(&'a Map),
    /// Owned item by item.
    Items(&'a [Doc]),
}

fn shape<'a>(value: &'a Doc, node: Option<Node<'_>>) -> Shape<'a> {
    match value {
        Doc::Object(fields) if node.is_none_or(|node| !node.is_atomic()) => Shape::Fields(fields),
        Doc::Array(items) if node.is_some_and(|node| !node.is_atomic()) => Shape::Items(items),
        _ => Shape::Leaf,
    }
}

/// Where a field leads, if the schema knows.
pub(super) fn field_node<'a>(node: Option<Node<'a>>, name: &str) -> Option<Node<'a>> {
    let node = node?;
    node.field(name).or_else(|| node.as_struct().and_then(|fields| fields.additional()))
}

/// The same, and the field itself if the schema lists it.
fn field_and_node<'a>(node: Option<Node<'a>>, name: &str) -> (Option<FieldView<'a>>, Option<Node<'a>>) {
    match node.and_then(Node::as_struct).and_then(|fields| fields.field(name)) {
        Some(field) => (Some(field), Some(field.node())),
        None => (None, field_node(node, name)),
    }
}

/// `f:name`.
pub(super) fn field_element(name: &str) -> Text {
    let mut element = Text::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// `k:{...}` or `v:...`, by the list's type. A key that is missing counts with its default.
pub(super) fn item_element(item: &Doc, list: Node<'_>) -> Text {
    let mut element = Vec::with_capacity(32);
    if list.list_type() == ListType::Map {
        element.extend_from_slice(b"k:");
        write_keys(item, list, &mut element);
    } else {
        element.extend_from_slice(b"v:");
        item.write_json(&mut element);
    }
    Text::from_utf8_lossy(&element)
}

fn write_keys(item: &Doc, list: Node<'_>, out: &mut Vec<u8>) {
    let mut keys: Vec<&str> = list.list_keys().iter().map(Text::as_str).collect();
    keys.sort_unstable();
    out.push(b'{');
    let opened = out.len();
    for key in keys {
        let default = || list.items().and_then(|item| item.field(key)).and_then(|key| key.rules().default.as_ref());
        let Some(value) = item.get(key).or_else(default) else { continue };
        if out.len() > opened {
            out.push(b',');
        }
        Doc::from(key).write_json(out);
        out.push(b':');
        value.write_json(out);
    }
    out.push(b'}');
}

/// What a configuration names.
pub(super) fn applied_fields(configuration: &Doc, root: Node<'_>, scope: Scope) -> FieldSet {
    let fields = configuration.as_object();
    fields.map(|fields| all_fields(fields, Some(root), Level::Root(scope), Style::Applied)).unwrap_or_default()
}

fn all_fields(fields: &Map, node: Option<Node<'_>>, level: Level, style: Style) -> FieldSet {
    let mut set = FieldSet::default();
    set.reserve(fields.len());
    for (name, value) in fields.iter().filter(|(name, value)| level.includes(name) && !value.is_null()) {
        let (field, below_node) = field_and_node(node, name);
        let adds = match style {
            Style::Applied => field.is_none(),
            Style::Changed => field.is_none_or(|field| !field.required()) && !ALWAYS_THERE.contains(&name),
        };
        let (leaf, below) = everything(value, below_node, level.below(name), style);
        set.insert(field_element(name), leaf || adds, below);
    }
    set
}

/// Whether the value itself is owned for being a leaf, and everything below it.
fn everything(value: &Doc, node: Option<Node<'_>>, level: Level, style: Style) -> (bool, FieldSet) {
    match shape(value, node) {
        Shape::Leaf => (true, FieldSet::default()),
        Shape::Fields(fields) => (fields.is_empty(), all_fields(fields, node, level, style)),
        Shape::Items(items) => {
            let mut set = FieldSet::default();
            // Invariant: only lists that the schema knows have items of their own.
            if let Some(list) = node {
                for item in items {
                    let (_, below) = everything(item, list.items(), Level::Below, style);
                    set.insert(item_element(item, list), true, below);
                }
            }
            (items.is_empty() && style == Style::Changed, set)
        }
    }
}

/// How one object differs from another.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// What was added or has another value.
    pub(super) changed: FieldSet,
    /// What is no longer there.
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn insert(&mut self, element: impl Fn() -> Text, below: Changes) {
        if !below.changed.is_empty() {
            self.changed.insert(element(), false, below.changed);
        }
        if !below.removed.is_empty() {
            self.removed.insert(element(), false, below.removed);
        }
    }

    fn add(&mut self, element: Text, value: &Doc, node: Option<Node<'_>>, level: Level, adds: bool) {
        let (leaf, below) = everything(value, node, level, Style::Changed);
        self.changed.insert(element, leaf || adds, below);
    }

    fn remove(&mut self, element: Text, value: &Doc, node: Option<Node<'_>>, level: Level) {
        let (_, below) = everything(value, node, level, Style::Changed);
        self.removed.insert(element, true, below);
    }
}

/// How `new` differs from `old`, in one walk over both.
pub(super) fn changes(old: &Doc, new: &Doc, root: Node<'_>, scope: Scope) -> Changes {
    static NONE: Map = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&NONE), new.as_object().unwrap_or(&NONE));
    compare_fields(old, new, Some(root), Level::Root(scope))
}

fn compare_fields(old: &Map, new: &Map, node: Option<Node<'_>>, level: Level) -> Changes {
    let mut changes = Changes::default();
    let taking_part = |(name, value): &(&str, &Doc)| level.includes(name) && !value.is_null();
    for (place, (name, value)) in new.iter().enumerate().filter(|(_, field)| taking_part(field)) {
        // Objects are mostly written in the order in which they were read.
        let before = match old.at(place) {
            Some((same, before)) if same == name => Some(before),
            _ => old.get(name),
        };
        let (field, below_node) = field_and_node(node, name);
        match before.filter(|before| !before.is_null()) {
            Some(before) => match compare(before, value, below_node, level.below(name)) {
                Some(below) => changes.insert(|| field_element(name), below),
                None => changes.changed.insert(field_element(name), true, FieldSet::default()),
            },
            None => {
                let required = field.is_some_and(FieldView::required);
                let adds = !required && !ALWAYS_THERE.contains(&name);
                changes.add(field_element(name), value, below_node, level.below(name), adds);
            }
        }
    }
    for (name, before) in old.iter().filter(taking_part) {
        if new.get(name).is_none_or(Doc::is_null) {
            changes.remove(field_element(name), before, field_node(node, name), level.below(name));
        }
    }
    changes
}

/// How a value that was there before differs; nothing if it is to be owned as a whole and has another value.
fn compare(old: &Doc, new: &Doc, node: Option<Node<'_>>, level: Level) -> Option<Changes> {
    match (shape(old, node), shape(new, node), node) {
        (Shape::Fields(old), Shape::Fields(new), node) => Some(compare_fields(old, new, node, level)),
        (Shape::Items(old), Shape::Items(new), Some(list)) => Some(compare_items(old, new, list)),
        _ => (old == new).then(Changes::default),
    }
}

fn compare_items(old: &[Doc], new: &[Doc], list: Node<'_>) -> Changes {
    let mut changes = Changes::default();
    if old == new {
        return changes;
    }
    let by_element = |items: &[Doc]| -> BTreeMap<Text, usize> {
        items.iter().enumerate().rev().map(|(place, item)| (item_element(item, list), place)).collect()
    };
    let (places, new_places) = (by_element(old), by_element(new));
    for (element, place) in &new_places {
        let item = &new[*place];
        match places.get(element) {
            Some(before) => match compare(&old[*before], item, list.items(), Level::Below) {
                Some(below) => changes.insert(|| element.clone(), below),
                None => changes.changed.insert(element.clone(), true, FieldSet::default()),
            },
            None => changes.add(element.clone(), item, list.items(), Level::Below, true),
        }
    }
    for (element, place) in places.iter().filter(|(element, _)| !new_places.contains_key(*element)) {
        changes.remove(element.clone(), &old[*place], list.items(), Level::Below);
    }
    changes
}
