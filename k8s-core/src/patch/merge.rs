//! JSON merge patch, RFC 7386.

use crate::doc::{Doc, Map};

/// `current` with `patch` merged in: `null` deletes, objects merge, everything else replaces.
pub(super) fn apply(patch: &Doc, current: &Doc) -> Doc {
    let mut result = current.clone();
    merge(&mut result, patch);
    result
}

fn merge(target: &mut Doc, patch: &Doc) {
    let Doc::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    let target = target.make_object();
    delete_nulls(target, fields);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        merge(target.get_or_insert_with(name, Doc::default), value);
    }
}

/// At once, since removing one field moves those behind it.
fn delete_nulls(target: &mut Map, patch: &Map) {
    if patch.values().any(Doc::is_null) {
        target.retain(|name, _| !patch.get(name).is_some_and(Doc::is_null));
    }
}
