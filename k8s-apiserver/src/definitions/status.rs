//! The status of definitions: whose names are accepted, and which kinds are served.
//!
//! Follows upstream's naming controller: a name belongs to who was given it first, and is free when that one lets go.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::{doc, doc::Doc, env::Timestamp, registry::Registry};

use crate::registry::rfc3339;

/// Whether a status says that the kind is served.
pub(super) fn is_established(status: &Doc) -> bool {
    condition(status, "Established").is_some_and(|condition| condition.str_at(&["status"]) == "True")
}

/// What the status of each definition should be, in their order.
pub(super) fn judge<'d>(definitions: impl Iterator<Item = &'d Doc>, base: &Registry, now: Timestamp) -> Vec<Doc> {
    let definitions: Vec<&Doc> = definitions.collect();
    let mut taken = Taken::default();
    for info in base.all() {
        let resources = [info.plural.as_str(), info.singular.as_str()].into_iter();
        let short = info.short_names.iter().map(|name| name.as_str());
        taken.resources(&info.group).extend(resources.chain(short).map(str::to_owned));
        taken.kinds(&info.group).extend([info.kind.to_string(), info.list_kind()]);
    }
    for definition in &definitions {
        taken.claim(definition, definition.at(&["status", "acceptedNames"]).unwrap_or(&Doc::Null));
    }
    // Who came first chooses first.
    let mut order: Vec<usize> = (0..definitions.len()).collect();
    order.sort_by_key(|at| definitions[*at].str_at(&["metadata", "creationTimestamp"]));
    let mut statuses = vec![Doc::Null; definitions.len()];
    for at in order {
        statuses[at] = status(definitions[at], &mut taken, now);
    }
    statuses
}

/// The names in use, by group.
#[derive(Default)]
struct Taken {
    resources: BTreeMap<String, BTreeSet<String>>,
    kinds: BTreeMap<String, BTreeSet<String>>,
}

impl Taken {
    fn resources(&mut self, group: &str) -> &mut BTreeSet<String> {
        self.resources.entry(group.to_owned()).or_default()
    }

    fn kinds(&mut self, group: &str) -> &mut BTreeSet<String> {
        self.kinds.entry(group.to_owned()).or_default()
    }

    fn claim(&mut self, definition: &Doc, names: &Doc) {
        let group = definition.str_at(&["spec", "group"]);
        let texts = |fields: [&str; 2]| fields.map(|field| names.str_at(&[field]).to_owned());
        let own = texts(["plural", "singular"]).into_iter().chain(short_names(names));
        self.resources(group).extend(own.filter(|name| !name.is_empty()));
        self.kinds(group).extend(texts(["kind", "listKind"]).into_iter().filter(|name| !name.is_empty()));
    }
}

fn short_names(names: &Doc) -> Vec<String> {
    let listed = names.get("shortNames").map_or(&[][..], Doc::items);
    listed.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn status(definition: &Doc, taken: &mut Taken, now: Timestamp) -> Doc {
    let mut status = definition.get("status").cloned().unwrap_or_default();
    let (accepted, conflict) = accept(definition, taken);
    status.set_at(&["acceptedNames"], accepted.clone());
    taken.claim(definition, &accepted);
    let names_accepted = match &conflict {
        None => {
            doc!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"})
        }
        Some((reason, message)) => {
            doc!({"type": "NamesAccepted", "status": "False", "reason": *reason, "message": message.as_str()})
        }
    };
    set_condition(&mut status, names_accepted, now);
    if !is_established(&status) {
        let established = match conflict {
            None => doc!({"type": "Established", "status": "True", "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted"}),
            Some(_) => doc!({"type": "Established", "status": "False", "reason": "NotAccepted",
                "message": "not all names are accepted"}),
        };
        set_condition(&mut status, established, now);
    }
    if !definition.str_at(&["metadata", "deletionTimestamp"]).is_empty() {
        let terminating = doc!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
            "message": "CustomResource deletion is in progress"});
        set_condition(&mut status, terminating, now);
    }
    status
}

/// The names that a definition has from now on, and why one of those that it wants is not among them.
fn accept(definition: &Doc, taken: &mut Taken) -> (Doc, Option<(&'static str, String)>) {
    let null = Doc::Null;
    let group = definition.str_at(&["spec", "group"]);
    let wanted = definition.at(&["spec", "names"]).unwrap_or(&null);
    let had = definition.at(&["status", "acceptedNames"]).unwrap_or(&null);
    let mut names = had.clone();
    let mut conflict = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let fields = [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ];
    for (field, reason) in fields {
        let (name, own) = (wanted.str_at(&[field]), had.str_at(&[field]));
        let used = if field.ends_with("ind") { taken.kinds(group) } else { taken.resources(group) };
        if name != own && used.contains(name) {
            conflict = Some((reason, in_use(name)));
        } else if !name.is_empty() {
            names.set_at(&[field], name.into());
        }
    }
    let (own, resources) = (short_names(had), taken.resources(group));
    let is_own = |name: &String| {
        own.contains(name)
            || [&had, &wanted].iter().any(|of| *name == of.str_at(&["plural"]) || *name == of.str_at(&["singular"]))
    };
    let foreign: Vec<String> =
        short_names(wanted).into_iter().filter(|name| !is_own(name) && resources.contains(name)).collect();
    match foreign.first() {
        Some(name) => conflict = Some(("ShortNamesConflict", in_use(name))),
        None => copy(&mut names, wanted, "shortNames"),
    }
    copy(&mut names, wanted, "categories");
    (names, conflict)
}

fn copy(names: &mut Doc, wanted: &Doc, field: &str) {
    match wanted.get(field).filter(|list| !list.items().is_empty()) {
        Some(list) => names.set_at(&[field], list.clone()),
        None => drop(names.remove_at(&[field])),
    }
}

fn condition<'d>(status: &'d Doc, kind: &str) -> Option<&'d Doc> {
    let conditions = status.get("conditions").map_or(&[][..], Doc::items);
    conditions.iter().find(|condition| condition.str_at(&["type"]) == kind)
}

/// Enters a condition. The time moves when its status does.
fn set_condition(status: &mut Doc, mut wanted: Doc, now: Timestamp) {
    let before = condition(status, wanted.str_at(&["type"])).cloned().unwrap_or_default();
    let since = match before.str_at(&["status"]) == wanted.str_at(&["status"]) {
        true => before.str_at(&["lastTransitionTime"]).to_owned(),
        false => rfc3339(now),
    };
    wanted.set_at(&["lastTransitionTime"], since.into());
    let conditions = status.entry_at(&["conditions"]);
    if conditions.as_array().is_none() {
        *conditions = Doc::Array(Vec::new());
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|known| known.str_at(&["type"]) == wanted.str_at(&["type"])) {
        Some(known) => *known = wanted,
        None => conditions.push(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, kind: &str, short: &str, created: &str) -> Doc {
        doc!({
            "metadata": {"name": format!("{name}.example.com"), "creationTimestamp": created},
            "spec": {"group": "example.com", "names": {"plural": name, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": [short]}}
        })
    }

    fn judged(definitions: &mut [Doc]) -> Vec<String> {
        let statuses = judge(definitions.iter(), &Registry::builtin(), Timestamp::UNIX_EPOCH);
        for (definition, status) in definitions.iter_mut().zip(&statuses) {
            definition.set_at(&["status"], status.clone());
        }
        statuses
            .iter()
            .map(|status| {
                let reason = condition(status, "NamesAccepted").map_or("", |found| found.str_at(&["reason"]));
                format!("{reason} {}", is_established(status))
            })
            .collect()
    }

    #[test]
    fn who_came_first_has_the_name_until_it_lets_go() {
        let mut all = [
            definition("as", "Wheel", "w", "2026-01-02T00:00:00Z"),
            definition("bs", "Wheel", "x", "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(judged(&mut all), ["ListKindConflict false", "NoConflicts true"]);
        let before = all.clone();
        assert_eq!(judged(&mut all), ["ListKindConflict false", "NoConflicts true"]);
        assert_eq!(all, before, "nothing changes without a cause");
        let [mut first, _] = all;
        assert_eq!(judged(std::slice::from_mut(&mut first)), ["NoConflicts true"]);
    }

    #[test]
    fn a_conflict_that_comes_later_leaves_what_is_served() {
        let mut all =
            [definition("as", "A", "a", "2026-01-01T00:00:00Z"), definition("bs", "B", "b", "2026-01-01T00:00:00Z")];
        assert_eq!(judged(&mut all), ["NoConflicts true", "NoConflicts true"]);
        all[1].set_at(&["spec", "names", "shortNames"], doc!(["a"]));
        assert_eq!(judged(&mut all), ["NoConflicts true", "ShortNamesConflict true"]);
        assert_eq!(all[1].at(&["status", "acceptedNames", "shortNames"]).unwrap().to_string(), r#"["b"]"#);
    }

    #[test]
    fn built_in_names_are_taken() {
        let mut role = definition("roles", "Role", "r", "2026-01-01T00:00:00Z");
        role.set_at(&["spec", "group"], "rbac.authorization.k8s.io".into());
        assert_eq!(judged(std::slice::from_mut(&mut role)), ["ListKindConflict false"]);
    }
}
