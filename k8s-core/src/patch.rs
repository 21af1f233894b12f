//! The patch types that need nothing but the object: JSON patch, merge patch, strategic merge patch.
//!
//! Server-side apply is no patch in this sense; it is in [`crate::apply`].

mod json;
mod merge;
mod strategic;

use crate::{
    doc::Doc,
    request::PatchKind,
    schema::Schema,
    status::{ApiError, ApiResult},
};

/// The most operations that one JSON patch may hold.
pub const MAX_OPERATIONS: usize = 10_000;

/// The most bytes (of JSON) that the `copy` operations of one JSON patch may add.
pub const MAX_COPIED_BYTES: usize = 3 << 20;

/// `current` with `patch` applied to it.
///
/// Errors: 400 for a malformed patch, 413 above [`MAX_OPERATIONS`] or [`MAX_COPIED_BYTES`], 415 for a strategic patch
/// of a kind without schema and for [`PatchKind::Apply`], 422 where a JSON patch does not fit the object.
pub fn apply(kind: PatchKind, patch: &Doc, current: &Doc, schema: Option<&Schema>) -> ApiResult<Doc> {
    match kind {
        PatchKind::Json => json::apply(patch, current),
        PatchKind::Merge => Ok(merge::apply(patch, current)),
        PatchKind::Strategic => match schema {
            Some(schema) => strategic::apply(patch, current, schema.root()),
            None => Err(unsupported("application/strategic-merge-patch+json")),
        },
        PatchKind::Apply => Err(unsupported("application/apply-patch+yaml")),
    }
}

fn unsupported(media_type: &str) -> ApiError {
    ApiError::unsupported_media_type(format!("{media_type} is not supported here: use application/merge-patch+json"))
}

#[cfg(test)]
mod tests;
