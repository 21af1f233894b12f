//! Server-side apply and the tracking of who set which field.
//!
//! Follows upstream's `managedfields` and `structured-merge-diff`: a [`FieldSet`] says which places of an object a
//! manager owns; an apply merges its configuration in, takes what it names, and drops what it no longer names and
//! nobody else owns; any other write takes the fields that it changes.

mod compare;
mod conflict;
mod field_set;
mod last_applied;
mod managed;
mod merge;

use crate::{
    doc::Doc,
    env::Timestamp,
    schema::Schema,
    status::{ApiError, ApiResult},
};

pub use field_set::FieldSet;
pub use managed::{MAX_UPDATE_MANAGERS, ManagedEntry};

use compare::{Changes, Scope};
use managed::ManagedFields;

/// Who writes, and how: what identifies an entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    /// The field manager's name, as the client gave it or derived from its user agent.
    pub name: String,
    /// Apply, or any other write.
    pub operation: Operation,
    /// The version through which the object is written, such as `apps/v1`.
    pub api_version: String,
    /// The subresource written through, such as `status`; empty for the object itself.
    pub subresource: String,
    /// When.
    pub time: Timestamp,
}

/// `managedFields[].operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply: the entry is what the last configuration named.
    Apply,
    /// Create, update, patch: the entry is what was changed.
    Update,
}

impl Operation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// The object after `manager` applied `configuration` to `live` (nothing, when it is created), with its new
/// `metadata.managedFields`.
///
/// `configuration` must have been checked against the schema; it must not have been defaulted, since what it names is
/// what the manager will own. With `force`, fields that others own and that change are taken from them; so are, for
/// `kubectl`, those that its client-side apply set and nobody changed since.
///
/// Errors: 400 when the configuration brings `managedFields` or names a list item twice; 409 with one cause per field
/// that somebody else owns.
pub fn apply_configuration(
    live: Option<&Doc>,
    configuration: &Doc,
    schema: &Schema,
    manager: &Manager,
    force: bool,
) -> ApiResult<Doc> {
    let empty = Doc::object();
    let scope = Scope::of_apply(schema, &manager.subresource);
    if configuration.at(&["metadata", "managedFields"]).is_some_and(|fields| !fields.items().is_empty()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    merge::check_unique(configuration, schema.root())?;
    let mut managed = live.map(|live| ManagedFields::of_applied(live, schema, manager)).unwrap_or_default();
    let before = live.unwrap_or(&empty);
    let mut merged = merge::merge(before, configuration, schema.root(), scope);
    let applied = compare::applied_fields(configuration, schema.root(), scope);
    let last = managed.replace(manager, applied);
    merge::prune(&mut merged, schema.root(), &last, &managed.sets());
    let changes = compare::changes(before, &merged, schema.root(), scope);
    if !force {
        conflict::check(&managed, manager, &changes, || last_applied::takeover(before, schema, manager))?;
    }
    managed.yield_to(manager, &changes);
    last_applied::refresh(&mut merged, configuration, manager);
    managed.store(&mut merged);
    Ok(merged)
}

/// `live` with everything that `configuration` names, merged as an apply would, but owned by nobody: what mutating
/// policies do. 400 when the configuration names a list item twice, or a list, map or struct that is replaced as a
/// whole: what is there and is not named would be lost, which is hardly what its author means.
pub fn merge_configuration(live: &Doc, configuration: &Doc, schema: &Schema) -> ApiResult<Doc> {
    let mut wholes = Vec::new();
    merge::find_wholes(configuration, schema.root(), "", &mut wholes);
    if !wholes.is_empty() {
        let places = wholes.join(", ");
        let why = format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}");
        return Err(ApiError::bad_request(why));
    }
    merge::check_unique(configuration, schema.root())?;
    Ok(merge::merge(live, configuration, schema.root(), Scope::of_apply(schema, "")))
}

/// Brings `new`'s `metadata.managedFields` up to date after a create (`live` is nothing), update or patch by
/// `manager`, who gets every field that differs from `live`.
///
/// What the client sent in `metadata.managedFields` counts as upstream has it: a single empty entry forgets all
/// owners, an empty list or a write to a subresource keeps those of `live`, anything else replaces them.
pub fn track_update(live: Option<&Doc>, new: &mut Doc, schema: &Schema, manager: &Manager) {
    let empty = Doc::object();
    let scope = Scope::of_update(schema, &manager.subresource, live.is_none());
    let changes = compare::changes(live.unwrap_or(&empty), new, schema.root(), scope);
    let unchanged = |new: &Doc, live: &Doc| managed::raw(new) == managed::raw(live);
    if changes.is_empty() && live.is_some_and(|live| unchanged(new, live)) {
        return;
    }
    let mut managed = ManagedFields::of_updated(live, new, manager);
    managed.yield_to(manager, &changes);
    managed.grant(manager, changes);
    managed.cap();
    managed.store(new);
}

#[cfg(test)]
mod tests;
