//! What holds of server-side apply whatever is written, by whom, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::{
    apply::{FieldSet, Manager, Operation, apply_configuration, track_update},
    doc,
    doc::Doc,
    env::Timestamp,
    schema::{Schema, Schemas},
};
use proptest::prelude::*;

const MANAGERS: [&str; 3] = ["one", "two", "three"];

fn schema() -> Schema {
    Schemas::builtin().schema("apps", "v1", "Deployment").unwrap()
}

fn manager(name: &str, operation: Operation, second: i64) -> Manager {
    Manager {
        name: name.into(),
        operation,
        api_version: "apps/v1".into(),
        subresource: String::new(),
        time: Timestamp::from_second(1_700_000_000 + second).unwrap(),
    }
}

/// A Deployment with a few fields of each sort: scalars, map keys, set members, keyed items, a whole list.
fn object() -> impl Strategy<Value = Doc> {
    let containers = prop::collection::btree_map("[abc]", (prop::option::of("[xy]"), any::<bool>()), 0..3);
    let scalars = (prop::option::of(0..3i64), prop::option::of(any::<bool>()));
    let metadata = (prop::collection::btree_map("[lmn]", "[12]", 0..3), prop::collection::btree_set("[fg]", 0..3));
    (metadata, scalars, containers).prop_map(|((labels, finalizers), (replicas, paused), containers)| {
        let mut doc = doc!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        for (key, value) in labels {
            doc.set_at(&["metadata", "labels", &key], value.into());
        }
        if !finalizers.is_empty() {
            doc.set_at(&["metadata", "finalizers"], finalizers.into_iter().collect::<Vec<_>>().into());
        }
        let spec = [("replicas", replicas.map(Doc::from)), ("paused", paused.map(Doc::from))];
        for (field, value) in spec.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            doc.set_at(&["spec", field], value);
        }
        if !containers.is_empty() {
            let items: Vec<Doc> = containers.into_iter().map(container).collect();
            doc.set_at(&["spec", "template", "spec", "containers"], Doc::Array(items));
        }
        doc
    })
}

fn container((name, (image, has_args)): (String, (Option<String>, bool))) -> Doc {
    let mut container = doc!({"name": name});
    if let Some(image) = image {
        container.set_at(&["image"], image.into());
    }
    if has_args {
        container.set_at(&["args"], doc!(["1", "2"]));
    }
    container
}

/// One write: of what, by whom, applied (with or without force) or replaced.
#[derive(Debug, Clone)]
enum Write {
    Apply { configuration: Doc, by: &'static str, force: bool },
    Replace { object: Doc, by: &'static str },
}

fn write() -> impl Strategy<Value = Write> {
    let by = || prop::sample::select(MANAGERS.to_vec());
    prop_oneof![
        (object(), by(), any::<bool>()).prop_map(|(configuration, by, force)| Write::Apply {
            configuration,
            by,
            force
        }),
        (object(), by()).prop_map(|(object, by)| Write::Replace { object, by }),
    ]
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec(write(), 1..7)
}

/// The object after a write; `None` if it was refused.
fn after(live: Option<&Doc>, write: &Write, second: i64) -> Option<Doc> {
    match write {
        Write::Apply { configuration, by, force } => {
            let manager = manager(by, Operation::Apply, second);
            let outcome = apply_configuration(live, configuration, &schema(), &manager, *force);
            outcome.map_err(|error| assert_eq!(error.code(), 409, "{error}")).ok()
        }
        Write::Replace { object, by } => {
            let mut new = object.clone();
            track_update(live, &mut new, &schema(), &manager(by, Operation::Update, second));
            Some(new)
        }
    }
}

fn entries(doc: &Doc) -> &[Doc] {
    doc.at(&["metadata", "managedFields"]).map_or(&[], Doc::items)
}

fn fields_of(entry: &Doc) -> FieldSet {
    FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Doc::Null))
}

/// The places that each manager owns, by name and operation.
fn owned(doc: &Doc) -> BTreeMap<String, BTreeSet<String>> {
    let who = |entry: &Doc| format!("{} {}", entry.str_at(&["manager"]), entry.str_at(&["operation"]));
    entries(doc).iter().map(|entry| (who(entry), fields_of(entry).paths().into_iter().collect())).collect()
}

/// Every leaf of an object with its value, as paths of field sets name it.
fn leaves(doc: &Doc) -> BTreeMap<String, Doc> {
    let mut found = BTreeMap::new();
    for (key, value) in doc.at(&["metadata", "labels"]).and_then(Doc::as_object).into_iter().flat_map(|map| map.iter())
    {
        found.insert(format!(".metadata.labels.{key}"), value.clone());
    }
    for finalizer in doc.at(&["metadata", "finalizers"]).map_or(&[][..], Doc::items) {
        found.insert(format!(".metadata.finalizers[={finalizer}]"), finalizer.clone());
    }
    for field in ["replicas", "paused"] {
        found.extend(doc.at(&["spec", field]).map(|value| (format!(".spec.{field}"), value.clone())));
    }
    for container in doc.at(&["spec", "template", "spec", "containers"]).map_or(&[][..], Doc::items) {
        let prefix = format!(".spec.template.spec.containers[name={}]", container.get("name").unwrap());
        let fields = container.as_object().unwrap().iter();
        found.extend(fields.map(|(field, value)| (format!("{prefix}.{field}"), value.clone())));
    }
    found
}

fn without_owners(doc: &Doc) -> Doc {
    let mut doc = doc.clone();
    doc.remove_at(&["metadata", "managedFields"]);
    doc
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_again_changes_nothing(history in writes(), configuration in object()) {
        let live = history.iter().enumerate().fold(None, |live: Option<Doc>, (second, write)| {
            after(live.as_ref(), write, second as i64).or(live)
        });
        let apply = |live: Option<&Doc>, force, second| {
            let manager = manager("me", Operation::Apply, second);
            apply_configuration(live, &configuration, &schema(), &manager, force)
        };
        let once = apply(live.as_ref(), true, 100).unwrap();
        // Not even the time moves, and force is no longer needed.
        prop_assert_eq!(apply(Some(&once), false, 200).unwrap().to_string(), once.to_string());
        // What was applied is there, and its owner is known.
        let (there, mine) = (leaves(&once), owned(&once).remove("me Apply").unwrap_or_default());
        for (path, value) in leaves(&configuration) {
            prop_assert_eq!(there.get(&path), Some(&value), "{}", path);
            prop_assert!(mine.contains(&path), "{} of {:?}", path, mine);
        }
    }

    #[test]
    fn nobody_loses_a_field_that_did_not_change(history in writes()) {
        let mut live: Option<Doc> = None;
        for (second, write) in history.iter().enumerate() {
            let Some(new) = after(live.as_ref(), write, second as i64) else { continue };
            if let Some(old) = &live {
                let (was, is) = (leaves(old), leaves(&new));
                let writer = match write {
                    Write::Apply { by, .. } => format!("{by} Apply"),
                    Write::Replace { by, .. } => format!("{by} Update"),
                };
                let now = owned(&new);
                for (who, paths) in owned(old) {
                    let unchanged = paths.iter().filter(|path| was.contains_key(*path) && was.get(*path) == is.get(*path));
                    // Who applies owns just what the configuration names.
                    for path in unchanged.filter(|_| who != writer || writer.ends_with("Update")) {
                        let kept = now.get(&who).is_some_and(|paths| paths.contains(path));
                        prop_assert!(kept, "{} lost {} by {:?}", who, path, write);
                    }
                }
            }
            live = Some(new);
        }
    }

    #[test]
    fn owners_own_what_is_there_and_everything_there_has_one(history in writes()) {
        let mut live: Option<Doc> = None;
        for (second, write) in history.iter().enumerate() {
            let Some(new) = after(live.as_ref(), write, second as i64) else { continue };
            let there = leaves(&new);
            let all: BTreeSet<String> = owned(&new).into_values().flatten().collect();
            let is_leaf = |path: &&String| there.contains_key(*path);
            prop_assert_eq!(all.iter().filter(is_leaf).count(), there.len(), "{:?} of {:?}", all, there);
            let scalars = all.iter().filter(|path| path.starts_with(".spec.replicas") || path.ends_with(".image"));
            prop_assert_eq!(scalars.filter(|path| !is_leaf(path)).count(), 0);
            live = Some(new);
        }
    }

    #[test]
    fn who_applies_alone_leaves_nothing_behind(first in object(), second in object()) {
        let apply = |live: Option<&Doc>, configuration: &Doc| {
            apply_configuration(live, configuration, &schema(), &manager("me", Operation::Apply, 0), false).unwrap()
        };
        let outcome = apply(Some(&apply(None, &first)), &second);
        prop_assert_eq!(leaves(&without_owners(&outcome)), leaves(&second));
    }

    #[test]
    fn field_sets_are_sets(history in writes()) {
        let live = history.iter().filter_map(|write| after(None, write, 0)).collect::<Vec<_>>();
        let sets: Vec<FieldSet> = live.iter().flat_map(entries).map(fields_of).collect();
        prop_assert!(!sets.is_empty() || live.iter().all(|doc| leaves(doc).is_empty()));
        for (a, b) in sets.iter().flat_map(|a| sets.iter().map(move |b| (a, b))) {
            prop_assert_eq!(&FieldSet::decode(&a.encode()), a);
            let (both, only) = (a.intersection(b), a.difference(b));
            prop_assert_eq!(&both.union(&only), a);
            prop_assert_eq!(&both, &b.intersection(a));
            prop_assert!(!only.intersects(b));
            prop_assert_eq!(both.is_empty(), !a.intersects(b));
        }
    }

    /// Anybody may write `managedFields`: what is not in their form must do no harm.
    #[test]
    fn any_value_reads_as_some_set(json in r#"(\{"[fkvix.]?:?[a-z{}:\[\]0-9]{0,4}":){0,4}(\{\}|1|null|"x")\}{0,4}"#) {
        if let Ok(doc) = Doc::parse(json.as_bytes()) {
            let set = FieldSet::decode(&doc);
            prop_assert_eq!(FieldSet::decode(&set.encode()), set);
        }
    }
}
