//! Which kinds the names of an `EncryptionConfiguration` mean.

use k8s_core::registry::{Registry, ResourceInfo};

use super::wrong;
use crate::storage::{encryption::CustomKinds, keys::KeyError};

/// The prefixes of kinds that are there from the start, and the custom kinds, that `names` mean.
pub(super) fn chosen(
    names: &[String],
    field: &str,
    registry: &Registry,
) -> Result<(Vec<String>, Vec<CustomKinds>), KeyError> {
    if names.is_empty() {
        return Err(wrong(field, "at least one is expected".into()));
    }
    overlap(names, field)?;
    let (mut prefixes, mut custom) = (Vec::new(), Vec::new());
    for (number, name) in names.iter().enumerate() {
        let place = format!("{field}[{number}]");
        refuse(name).map_or(Ok(()), |why| Err(wrong(&place, why.into())))?;
        let (plural, group) = parts(name);
        let before = prefixes.len();
        let meant = registry.iter().filter(|info| info.is_stored() && is_meant(info, plural, group));
        prefixes.extend(meant.map(|info| info.storage_prefix()));
        let is_known = group != "*" && registry.iter().any(|info| info.group == group);
        if group == "*" {
            custom.push(CustomKinds { group: None, plural: None });
        } else if group.contains('.') && !is_known {
            // Whoever defines it may come later.
            let plural = (plural != "*").then(|| plural.to_owned());
            custom.push(CustomKinds { group: Some(group.into()), plural });
        } else if prefixes.len() == before {
            return Err(wrong(&place, format!("{name:?} is no kind that is stored")));
        }
    }
    Ok((prefixes, custom))
}

/// `plural` of the core group, `plural.group`, `*.group`, `*.` (the core group), or `*.*`.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

fn is_meant(info: &ResourceInfo, plural: &str, group: &str) -> bool {
    (plural == "*" || plural == info.plural) && (group == info.group || (plural == "*" && group == "*"))
}

/// Why a name cannot stand there, by upstream's rules.
fn refuse(name: &str) -> Option<&'static str> {
    let (plural, group) = parts(name);
    if name.chars().any(char::is_uppercase) {
        Some("resource name should not contain capital letters")
    } else if name == "*" {
        Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
    } else if ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"].contains(&name) {
        Some("resources which do not have REST API/s cannot be encrypted")
    } else if group == "events.k8s.io" {
        Some("Events are kept with those of the core group: name 'events'")
    } else if group == "extensions" {
        Some("'extensions' group has been removed and cannot be used for encryption")
    } else if group == "*" && plural != "*" {
        Some("encrypting the same resource across groups is not supported")
    } else {
        None
    }
}

/// Names in one list must not mean the same kind twice.
fn overlap(names: &[String], field: &str) -> Result<(), KeyError> {
    for (number, one) in names.iter().enumerate() {
        for other in &names[..number] {
            if one == other {
                return Err(wrong(field, "the same resource cannot be specified multiple times".into()));
            }
            let (one, other) = (parts(one), parts(other));
            let all = [one, other].contains(&("*", "*"));
            if all || (one.1 == other.1 && (one.0 == "*" || other.0 == "*")) {
                let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not \
                           allowed as they will be masked";
                return Err(wrong(field, why.into()));
            }
        }
    }
    Ok(())
}
