//! `v1` Namespace.

use super::{Strategy, keep_status, metadata};
use crate::{doc, doc::Doc, status::FieldError};

/// The finalizer by which the namespace controller holds a namespace until it is empty.
const KUBERNETES: &str = "kubernetes";

pub(super) struct Namespace;

impl Strategy for Namespace {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.set_at(&["status"], doc!({"phase": "Active"}));
        let finalizers = doc.entry_at(&["spec", "finalizers"]);
        match finalizers {
            Doc::Array(items) if items.iter().any(|item| item.as_str() == Some(KUBERNETES)) => {}
            Doc::Array(items) => items.push(KUBERNETES.into()),
            other => *other = doc!([KUBERNETES]),
        }
    }

    /// The finalizers of the spec change through their own subresource only.
    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        match old.at(&["spec", "finalizers"]) {
            Some(finalizers) => new.set_at(&["spec", "finalizers"], finalizers.clone()),
            None => drop(new.remove_at(&["spec", "finalizers"])),
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        metadata::check(doc, metadata::NameRule::Label)
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "status.phase" | "name" => metadata::text_field(doc, if path == "name" { "metadata.name" } else { path }),
            _ => metadata::field(doc, path),
        }
    }
}
