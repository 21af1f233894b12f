//! The refusal of an apply that would change what others own.

use super::{
    Changes, FieldSet, Manager, Operation,
    managed::{ManagedEntry, ManagedFields},
};
use crate::status::{ApiError, ApiResult, Reason, StatusCause};

/// Refuses with 409 if anybody but `manager` owns something that changes, beyond what `takeover` allows; that is asked
/// only when there is something to allow.
pub(super) fn check(
    managed: &ManagedFields,
    manager: &Manager,
    changes: &Changes,
    takeover: impl Fn() -> FieldSet,
) -> ApiResult<()> {
    let others = managed.entries.iter().filter(|entry| !entry.is_of(manager));
    let mut lost: Vec<(&ManagedEntry, FieldSet)> =
        others.map(|entry| (entry, entry.fields.intersection(&changes.changed))).collect();
    lost.retain(|(_, fields)| !fields.is_empty());
    if !lost.is_empty() {
        let allowed = takeover();
        lost.iter_mut().for_each(|(_, fields)| *fields = fields.difference(&allowed));
        lost.retain(|(_, fields)| !fields.is_empty());
    }
    if lost.is_empty() {
        return Ok(());
    }
    let mut conflicts: Vec<(String, Vec<String>)> =
        lost.iter().map(|(entry, fields)| (describe(entry), fields.paths())).collect();
    conflicts.sort();
    Err(refusal(&conflicts))
}

fn describe(entry: &ManagedEntry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == Operation::Update {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

fn refusal(conflicts: &[(String, Vec<String>)]) -> ApiError {
    let error = ApiError::new(409, Reason::Conflict, message(conflicts));
    let pairs = conflicts.iter().flat_map(|(owner, paths)| paths.iter().map(move |path| (owner, path)));
    pairs.fold(error, |error, (owner, path)| {
        error.cause(StatusCause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {owner}"),
            field: path.clone(),
        })
    })
}

fn message(conflicts: &[(String, Vec<String>)]) -> String {
    if let [(owner, paths)] = conflicts
        && let [path] = paths.as_slice()
    {
        return format!("Apply failed with 1 conflict: conflict with {owner}: {path}");
    }
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let each = |(owner, paths): &(String, Vec<String>)| {
        let lines: Vec<String> = paths.iter().map(|path| format!("- {path}")).collect();
        format!("conflicts with {owner}:\n{}", lines.join("\n"))
    };
    let owners: Vec<String> = conflicts.iter().map(each).collect();
    format!("Apply failed with {count} conflicts: {}", owners.join("\n"))
}
