//! Custom kinds: with or without a status that has its own subresource.

use super::{Strategy, differs_in_spec, keep_status};
use crate::doc::Doc;

/// A custom kind; `status` says whether its status is written through its subresource alone.
pub(super) struct Custom {
    pub(super) status: bool,
}

impl Strategy for Custom {
    fn prepare_create(&self, doc: &mut Doc) {
        if self.status {
            super::drop_status(doc);
        }
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        if self.status {
            keep_status(new, old);
        }
        // Without a subresource the status is a field like any other.
        let changed = differs_in_spec(new, old) || !self.status && new.get("status") != old.get("status");
        let former = old.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
        new.set_at(&["metadata", "generation"], (former + i64::from(changed)).into());
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}
