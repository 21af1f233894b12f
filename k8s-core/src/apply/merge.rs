//! Merging a configuration into an object, and taking out what it no longer names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    FieldSet,
    compare::{Scope, field_element, field_node, item_element},
};
use crate::{
    doc::{Doc, Map, Text},
    schema::Node,
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
    let named: BTreeSet<&Text> = elements.iter().collect();
    let former_elements: Vec<Text> = former.iter().map(|item| item_element(item, list)).collect();
    let places: BTreeMap<&Text, usize> =
        former_elements.iter().enumerate().rev().map(|(place, element)| (element, place)).collect();
    let mut former: Vec<Option<Doc>> = former.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(former.len() + items.len());
    let mut next = 0;
    for (item, element) in items.iter().zip(&elements) {
        let place = places.get(element).copied();
        let until = place.unwrap_or(former.len());
        while next < until && (place.is_some() || !named.contains(&former_elements[next])) {
            if !named.contains(&former_elements[next]) {
                merged.extend(former[next].take());
            }
            next += 1;
        }
        merged.push(merge_value(place.and_then(|place| former[place].take()), item, list.items()));
    }
    let rest = former.into_iter().zip(&former_elements).filter(|(_, element)| !named.contains(element));
    merged.extend(rest.filter_map(|(item, _)| item));
    merged
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
/// With a field or an item that nobody owns goes everything below it, defaults included.
pub(super) fn prune(doc: &mut Doc, root: Node<'_>, last: &FieldSet, owners: &[&FieldSet]) {
    prune_value(doc, Some(root), last, owners);
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
