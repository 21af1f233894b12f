//! Strategic merge patch: a merge patch that knows, from the schema, by which key list items are told apart.

use std::collections::BTreeMap;

use crate::{
    doc::{Doc, Map},
    schema::Node,
    status::{ApiError, ApiResult},
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// `current` with `patch` merged in as the schema at `node` says.
pub(super) fn apply(patch: &Doc, current: &Doc, node: Node<'_>) -> ApiResult<Doc> {
    let (Doc::Object(patch), Doc::Object(current)) = (patch, current) else {
        return Err(malformed("the patch must be an object"));
    };
    merge_object(current.clone(), patch, Some(node)).map(Doc::Object)
}

fn malformed(why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("invalid strategic merge patch: {why}"))
}

fn merge_object(mut target: Map, patch: &Map, node: Option<Node<'_>>) -> ApiResult<Map> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or("")) {
        None | Some("merge") => {}
        Some("replace") => return clean_object(patch),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(malformed(format_args!("unknown directive {DIRECTIVE}: {other}"))),
    }
    if let Some(kept) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut target, patch, kept)?;
    }
    if patch.values().any(Doc::is_null) {
        target.retain(|name, _| !patch.get(name).is_some_and(Doc::is_null));
    }
    for (name, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_values(&mut target, list, value)?;
        } else if let Some(list) = name.strip_prefix(ELEMENT_ORDER) {
            // With items in the patch the order is applied when those are merged.
            if !patch.contains(list) {
                let node = node.and_then(|node| node.field(list));
                reorder_field(&mut target, list, value, node)?;
            }
        } else if name != DIRECTIVE && name != RETAIN_KEYS {
            let order = patch.get(&format!("{ELEMENT_ORDER}{name}"));
            merge_field(&mut target, name, value, order, node.and_then(|node| node.field(name)))?;
        }
    }
    Ok(target)
}

fn merge_field(
    target: &mut Map,
    name: &str,
    patch: &Doc,
    order: Option<&Doc>,
    node: Option<Node<'_>>,
) -> ApiResult<()> {
    let strategy = node.map(Node::patch).unwrap_or_default();
    let merged = match (target.get_mut(name).map(Doc::take), patch) {
        (Some(Doc::Object(current)), Doc::Object(patch)) if !strategy.replace => {
            Doc::Object(merge_object(current, patch, node)?)
        }
        (Some(Doc::Array(current)), Doc::Array(patch)) if strategy.merge => {
            Doc::Array(List::of(node).merge(current, patch, order)?)
        }
        (_, patch) => clean(patch)?,
    };
    target.insert(name, merged);
    Ok(())
}

/// `$retainKeys`: only these fields may be left; the patch may not set others.
fn retain_keys(target: &mut Map, patch: &Map, kept: &Doc) -> ApiResult<()> {
    let Doc::Array(kept) = kept else {
        return Err(malformed(format_args!("{RETAIN_KEYS} must be a list")));
    };
    let is_kept = |name: &str| kept.iter().any(|key| key.as_str() == Some(name));
    let stray = patch.iter().find(|(name, value)| !name.starts_with('$') && !value.is_null() && !is_kept(name));
    if let Some((name, _)) = stray {
        return Err(malformed(format_args!("{name} is set but not listed in {RETAIN_KEYS}")));
    }
    target.retain(|name, _| is_kept(name));
    Ok(())
}

fn delete_values(target: &mut Map, name: &str, values: &Doc) -> ApiResult<()> {
    let Doc::Array(values) = values else {
        return Err(malformed(format_args!("{DELETE_FROM}{name} must be a list")));
    };
    if let Some(Doc::Array(items)) = target.get_mut(name) {
        let values: BTreeMap<Vec<u8>, ()> = values.iter().map(|value| (value.to_json(), ())).collect();
        items.retain(|item| !values.contains_key(&item.to_json()));
    }
    Ok(())
}

fn reorder_field(target: &mut Map, name: &str, order: &Doc, node: Option<Node<'_>>) -> ApiResult<()> {
    if let Some(Doc::Array(items)) = target.get_mut(name) {
        let merged = List::of(node).merge(std::mem::take(items), &[], Some(order))?;
        *items = merged;
    }
    Ok(())
}

/// A list whose items are told apart: objects by a merge key, scalars by themselves.
struct List<'a> {
    key: Option<&'a str>,
    items: Option<Node<'a>>,
}

impl<'a> List<'a> {
    fn of(node: Option<Node<'a>>) -> Self {
        Self { key: node.and_then(Node::merge_key), items: node.and_then(Node::items) }
    }

    fn merge(&self, current: Vec<Doc>, patch: &[Doc], order: Option<&Doc>) -> ApiResult<Vec<Doc>> {
        if patch.iter().any(|item| directive(item) == Some("replace")) {
            return patch.iter().filter(|item| directive(item).is_none()).map(clean).collect();
        }
        let former = self.places(&current)?;
        let merged = self.merge_items(current, patch)?;
        let wanted = match order {
            Some(Doc::Array(order)) => self.places(order)?,
            Some(_) => return Err(malformed(format_args!("{ELEMENT_ORDER} must be a list"))),
            None => self.places(patch)?,
        };
        self.in_order(merged, &former, &wanted)
    }

    /// Where the item with each identity stands; of equal ones the first.
    fn places(&self, items: &[Doc]) -> ApiResult<BTreeMap<Vec<u8>, usize>> {
        let mut places = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            places.entry(self.identity(item)?).or_insert(place);
        }
        Ok(places)
    }

    fn identity(&self, item: &Doc) -> ApiResult<Vec<u8>> {
        match (item, self.key) {
            (Doc::Object(fields), Some(key)) => match fields.get(key) {
                Some(value) => Ok(value.to_json()),
                None => Err(malformed(format_args!("a list item lacks its merge key {key}"))),
            },
            (Doc::Object(_), None) => Err(malformed("a list of objects without a merge key cannot be merged")),
            (scalar, _) => Ok(scalar.to_json()),
        }
    }

    fn merge_items(&self, current: Vec<Doc>, patch: &[Doc]) -> ApiResult<Vec<Doc>> {
        let mut places = self.places(&current)?;
        let mut slots: Vec<Option<Doc>> = current.into_iter().map(Some).collect();
        for item in patch {
            let identity = self.identity(item)?;
            match (directive(item), places.get(&identity).copied()) {
                (Some("delete"), found) => {
                    if let Some(place) = found {
                        slots[place] = None;
                        places.remove(&identity);
                    }
                }
                (None, Some(place)) => {
                    let merged = self.merge_item(slots[place].take(), item)?;
                    slots[place] = Some(merged);
                }
                (None, None) => {
                    places.insert(identity, slots.len());
                    slots.push(Some(clean(item)?));
                }
                (Some(other), _) => return Err(malformed(format_args!("{DIRECTIVE}: {other} is no list directive"))),
            }
        }
        Ok(slots.into_iter().flatten().collect())
    }

    fn merge_item(&self, current: Option<Doc>, patch: &Doc) -> ApiResult<Doc> {
        match (current, patch) {
            (Some(Doc::Object(current)), Doc::Object(patch)) => {
                merge_object(current, patch, self.items).map(Doc::Object)
            }
            (_, patch) => clean(patch),
        }
    }

    /// Items that the patch names, in its order, merged with the rest in the order that it had; where the two
    /// cannot be compared, the patch's go first.
    fn in_order(
        &self,
        items: Vec<Doc>,
        former: &BTreeMap<Vec<u8>, usize>,
        wanted: &BTreeMap<Vec<u8>, usize>,
    ) -> ApiResult<Vec<Doc>> {
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for item in items {
            let identity = self.identity(&item)?;
            let place = former.get(&identity).copied();
            match wanted.get(&identity) {
                Some(rank) => named.push((*rank, place, item)),
                None => others.push((place, item)),
            }
        }
        named.sort_by_key(|(rank, ..)| *rank);
        others.sort_by_key(|(place, _)| *place);
        let mut ordered = Vec::with_capacity(named.len() + others.len());
        let mut others = others.into_iter().peekable();
        for (_, place, item) in named {
            while let Some((_, other)) =
                others.next_if(|(other, _)| other.is_some() && place.is_some() && *other < place)
            {
                ordered.push(other);
            }
            ordered.push(item);
        }
        ordered.extend(others.map(|(_, item)| item));
        Ok(ordered)
    }
}

fn directive(item: &Doc) -> Option<&str> {
    item.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or("")).filter(|directive| *directive != "merge")
}

/// A patch value where there was nothing before: without nulls and directives.
fn clean(patch: &Doc) -> ApiResult<Doc> {
    match patch {
        Doc::Object(fields) => clean_object(fields).map(Doc::Object),
        Doc::Array(items) => items
            .iter()
            .filter(|item| directive(item) != Some("delete"))
            .map(clean)
            .collect::<ApiResult<_>>()
            .map(Doc::Array),
        scalar => Ok(scalar.clone()),
    }
}

fn clean_object(patch: &Map) -> ApiResult<Map> {
    let mut cleaned = Map::with_capacity(patch.len());
    for (name, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        let is_directive = name == DIRECTIVE
            || name == RETAIN_KEYS
            || name.starts_with(DELETE_FROM)
            || name.starts_with(ELEMENT_ORDER);
        if !is_directive {
            cleaned.insert(name, clean(value)?);
        }
    }
    Ok(cleaned)
}
