//! Merging a configuration into an object, and taking out what it no longer names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    FieldSet,
    compare::{Scope, field_element, field_node, item_element},
};
use crate::{
    doc,
    doc::{Doc, Map, Text},
    schema::{Kind, Node},
    status::{ApiError, ApiResult},
};

/// `live` with everything that `configuration` names, as far as `scope` lets it.
pub(super) fn merge(live: &Doc, configuration: &Doc, root: Node<'_>, scope: Scope) -> Doc {
    let mut merged = live.clone();
    let Some(configuration) = configuration.as_object() else { return merged };
    let fields = merged.make_object();
    for (name, value) in configuration.iter() {
        let identity = matches!(name, "apiVersion" | "kind" | "metadata");
        if !value.is_null() && (identity || scope.includes(name)) {
            merge_field(fields, name, value, Some(root));
        }
    }
    merged
}

/// The paths of the lists, maps and structs of a configuration that are owned as a whole.
pub(super) fn find_wholes(configuration: &Doc, node: Node<'_>, path: &str, found: &mut Vec<String>) {
    match configuration {
        Doc::Object(map) => {
            if node.is_atomic() && !matches!(node.kind(), Kind::Any | Kind::AnyObject) {
                found.push(path.to_owned());
            }
            for (name, value) in map.iter() {
                if let Some(below) = node.field(name) {
                    find_wholes(value, below, &format!("{path}.{name}"), found);
                }
            }
        }
        Doc::Array(items) => {
            if node.is_atomic() && !matches!(node.kind(), Kind::Any) {
                found.push(path.to_owned());
            }
            let Some(below) = node.items() else { return };
            for (at, item) in items.iter().enumerate() {
                find_wholes(item, below, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

fn merge_field(fields: &mut Map, name: &str, value: &Doc, node: Option<Node<'_>>) {
    let below = field_node(node, name);
    let former = fields.get_mut(name).map(Doc::take);
    let merged = merge_value(former, value, below);
    fields.insert(name, merged);
}

fn merge_value(former: Option<Doc>, value: &Doc, node: Option<Node<'_>>) -> Doc {
    let granular_map = node.is_none_or(|node| !node.is_atomic());
    let granular_list = node.filter(|node| !node.is_atomic());
    match (former, value, granular_list) {
        (Some(Doc::Object(mut former)), Doc::Object(value), _) if granular_map => {
            for (name, value) in value.iter().filter(|(_, value)| !value.is_null()) {
                merge_field(&mut former, name, value, node);
            }
            Doc::Object(former)
        }
        (Some(Doc::Array(former)), Doc::Array(value), Some(list)) => Doc::Array(merge_list(former, value, list)),
        (_, value, _) => value.clone(),
    }
}

/// Items in the configuration's order; those that it does not name keep their place among the others.
fn merge_list(former: Vec<Doc>, items: &[Doc], list: Node<'_>) -> Vec<Doc> {
    let elements: Vec<Text> = items.iter().map(|item| item_element(item, list)).collect();
    let ranks: BTreeMap<&Text, usize> = elements.iter().enumerate().map(|(rank, element)| (element, rank)).collect();
    let mut merging = Merging { list, items, shared: vec![None; items.len()], merged: Vec::new(), done: 0 };
    let mut others = Vec::with_capacity(former.len());
    for item in former {
        match ranks.get(&item_element(&item, list)) {
            Some(rank) => {
                merging.shared[*rank].get_or_insert(item);
                others.push(Other::Shared(*rank));
            }
            None => others.push(Other::Own(item)),
        }
    }
    for other in others {
        match other {
            Other::Own(item) => merging.merged.push(item),
            Other::Shared(rank) => merging.reach(rank),
        }
    }
    merging.advance(items.len());
    merging.merged
}

/// What stood in the list before.
enum Other {
    /// An item that the configuration does not name.
    Own(Doc),
    /// The item with this place in the configuration.
    Shared(usize),
}

struct Merging<'a> {
    list: Node<'a>,
    items: &'a [Doc],
    /// The former self of each item, until it is merged.
    shared: Vec<Option<Doc>>,
    merged: Vec<Doc>,
    /// How many items are merged.
    done: usize,
}

impl Merging<'_> {
    /// An item of the configuration stood here: if it is the next of those that stood anywhere, it stays here, with the
    /// new ones that go before it; if not, the configuration moves it.
    fn reach(&mut self, rank: usize) {
        if rank >= self.done && self.shared[self.done..rank].iter().all(Option::is_none) {
            self.advance(rank + 1);
        }
    }

    fn advance(&mut self, end: usize) {
        for rank in self.done..end {
            self.merged.push(merge_value(self.shared[rank].take(), &self.items[rank], self.list.items()));
        }
        self.done = end;
    }
}

/// Refuses a configuration that names an item of a keyed list or set twice.
pub(super) fn check_unique(value: &Doc, node: Node<'_>) -> ApiResult<()> {
    if node.is_atomic() {
        return Ok(());
    }
    match value {
        Doc::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            field_node(Some(node), name).map_or(Ok(()), |node| check_unique(value, node))
        }),
        Doc::Array(items) => {
            let mut seen = BTreeSet::new();
            for item in items {
                let element = item_element(item, node);
                if seen.contains(&element) {
                    return Err(ApiError::bad_request(format!("duplicate entries for key {}", &element[2..])));
                }
                seen.insert(element);
                node.items().map_or(Ok(()), |node| check_unique(item, node))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Takes out of `doc` what `last` named and none of `owners` has.
///
/// With a field or an item that nobody owns goes everything below it, defaults included. Only the object's own
/// `metadata` stays in any case: what identifies the object in it is nobody's.
pub(super) fn prune(doc: &mut Doc, root: Node<'_>, last: &FieldSet, owners: &[&FieldSet]) {
    let identity = FieldSet::decode(&doc!({"f:metadata": {}}));
    prune_value(doc, Some(root), last, &[owners, &[&identity]].concat());
}

fn prune_value(value: &mut Doc, node: Option<Node<'_>>, last: &FieldSet, owners: &[&FieldSet]) {
    if last.is_empty() {
        return;
    }
    match value {
        Doc::Object(fields) => prune_fields(fields, node, last, owners),
        Doc::Array(items) => {
            if let Some(list) = node {
                prune_items(items, list, last, owners);
            }
        }
        _ => {}
    }
}

fn prune_fields(fields: &mut Map, node: Option<Node<'_>>, last: &FieldSet, owners: &[&FieldSet]) {
    fields.retain(|name, value| {
        let element = field_element(name);
        let Some(below) = last.below(&element) else { return true };
        let is_owned = owners.iter().any(|owner| owner.reaches(&element));
        if is_owned {
            prune_value(value, field_node(node, name), below, &narrow(owners, &element));
        }
        is_owned
    });
}

/// An item stays with whoever owns the item itself, not only some field of it.
fn prune_items(items: &mut Vec<Doc>, list: Node<'_>, last: &FieldSet, owners: &[&FieldSet]) {
    items.retain_mut(|item| {
        let element = item_element(item, list);
        let Some(below) = last.below(&element) else { return true };
        let is_owned = owners.iter().any(|owner| owner.has_member(&element));
        if is_owned {
            prune_value(item, list.items(), below, &narrow(owners, &element));
        }
        is_owned
    });
}

fn narrow<'a>(owners: &[&'a FieldSet], element: &str) -> Vec<&'a FieldSet> {
    owners.iter().filter_map(|owner| owner.below(element)).collect()
}
