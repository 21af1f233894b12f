//! The way from client-side to server-side apply: what kubectl's annotation says that kubectl owns.
//!
//! Client-side apply keeps its last configuration in an annotation, and its fields belong to a manager of another
//! name. Without a way across, the first server-side apply of a changed file would conflict with its own past.

use super::{
    Manager,
    compare::{self, Scope},
    field_set::FieldSet,
};
use crate::{
    doc::{Doc, Map},
    schema::Schema,
};

/// Where the configuration is kept.
const ANNOTATION: [&str; 3] = ["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"];

/// The one manager for whom the annotation speaks.
const KUBECTL: &str = "kubectl";

/// The most bytes that the annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The fields that `manager` may take from others without force: client-side apply set them, and they still have the
/// values that it gave them.
pub(super) fn takeover(live: &Doc, schema: &Schema, manager: &Manager) -> FieldSet {
    let text = live.str_at(&ANNOTATION);
    if manager.name != KUBECTL || text.is_empty() {
        return FieldSet::default();
    }
    match Doc::parse(text.as_bytes()) {
        Ok(applied) if applied.str_at(&["apiVersion"]) == manager.api_version => {
            let scope = Scope::of_apply(schema, &manager.subresource);
            let since = compare::changes(live, &applied, schema.root(), scope);
            let named = compare::applied_fields(&applied, schema.root(), scope);
            named.difference(&since.changed).difference(&since.removed)
        }
        _ => FieldSet::default(),
    }
}

/// Keeps an annotation that is there true, so that client-side apply does not undo what server-side apply did.
///
/// It is dropped when it no longer fits into the object.
pub(super) fn refresh(object: &mut Doc, configuration: &Doc, manager: &Manager) {
    if manager.name != KUBECTL || object.at(&ANNOTATION).is_none() {
        return;
    }
    let mut configuration = configuration.clone();
    configuration.remove_at(&ANNOTATION);
    let text = String::from_utf8_lossy(&configuration.to_json()).into_owned() + "\n";
    object.set_at(&ANNOTATION, Doc::from(text));
    let annotations = object.at(&ANNOTATION[..2]).and_then(Doc::as_object).into_iter().flat_map(Map::iter);
    let size: usize = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        object.remove_at(&ANNOTATION);
    }
}
