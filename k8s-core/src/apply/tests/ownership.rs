//! Who owns what after any sequence of applies and updates, against a second telling of the rules.
//!
//! The oracle knows no schema and no trees: an object is a flat map from places to values, an owner a set of places.
//! Its rules are those of structured merge, one sentence each.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A document of the shape that the histories write: fields of a map, a scalar, a keyed list with a scalar and a list
/// that is owned as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
struct Written {
    labels: BTreeMap<&'static str, u8>,
    replicas: Option<u8>,
    containers: BTreeMap<&'static str, (Option<u8>, Option<u8>)>,
}

#[derive(Debug, Clone)]
struct Step {
    who: &'static str,
    how: How,
    what: Written,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Apply,
    ApplyByForce,
    Update,
}

type Flat = BTreeMap<String, String>;
type Owners = BTreeMap<(&'static str, Operation), BTreeSet<String>>;

const CONTAINERS: &str = ".spec.template.spec.containers";

impl Written {
    fn doc(&self) -> Doc {
        let mut doc = doc!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        for (label, value) in &self.labels {
            doc.set_at(&["metadata", "labels", label], value.to_string().into());
        }
        if let Some(replicas) = self.replicas {
            doc.set_at(&["spec", "replicas"], i64::from(replicas).into());
        }
        let containers: Vec<Doc> = self.containers.iter().map(|(name, what)| container(name, what)).collect();
        if !containers.is_empty() {
            doc.set_at(&["spec", "template", "spec", "containers"], Doc::Array(containers));
        }
        doc
    }

    /// The same as places and values. An item is a place, too.
    fn flat(&self) -> Flat {
        let mut flat = Flat::new();
        for (label, value) in &self.labels {
            flat.insert(format!(".metadata.labels.{label}"), value.to_string());
        }
        if let Some(replicas) = self.replicas {
            flat.insert(".spec.replicas".into(), replicas.to_string());
        }
        for (name, (image, argument)) in &self.containers {
            let item = format!("{CONTAINERS}[name=\"{name}\"]");
            flat.insert(format!("{item}.name"), (*name).into());
            if let Some(image) = image {
                flat.insert(format!("{item}.image"), image.to_string());
            }
            if let Some(argument) = argument {
                flat.insert(format!("{item}.args"), format!("[{argument}]"));
            }
            flat.insert(item, "item".into());
        }
        flat
    }
}

fn container(name: &str, (image, argument): &(Option<u8>, Option<u8>)) -> Doc {
    let mut container = doc!({"name": name});
    if let Some(image) = image {
        container.set_at(&["image"], image.to_string().into());
    }
    if let Some(argument) = argument {
        container.set_at(&["args"], Doc::Array(vec![argument.to_string().into()]));
    }
    container
}

/// What a document holds, as the oracle sees it.
fn flattened(doc: &Doc) -> Flat {
    let mut flat = Flat::new();
    let number = |doc: &Doc| doc.as_str().map_or_else(|| doc.to_string(), str::to_owned);
    for (label, value) in doc.at(&["metadata", "labels"]).and_then(Doc::as_object).into_iter().flat_map(|l| l.iter()) {
        flat.insert(format!(".metadata.labels.{label}"), number(value));
    }
    if let Some(replicas) = doc.at(&["spec", "replicas"]) {
        flat.insert(".spec.replicas".into(), number(replicas));
    }
    for container in doc.at(&["spec", "template", "spec", "containers"]).map_or(&[][..], Doc::items) {
        let item = format!("{CONTAINERS}[name=\"{}\"]", container.str_at(&["name"]));
        for (field, value) in container.as_object().into_iter().flat_map(|fields| fields.iter()) {
            let text = if field == "args" { format!("[{}]", number(&value.items()[0])) } else { number(value) };
            flat.insert(format!("{item}.{field}"), text);
        }
        flat.insert(item, "item".into());
    }
    flat
}

/// The places that the oracle knows; containers of places are nobody's business here.
fn is_told(place: &str) -> bool {
    place.starts_with(".metadata.labels.") || place == ".spec.replicas" || place.contains("[name=")
}

/// What `metadata.managedFields` says.
fn owned(doc: &Doc) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut owners = BTreeMap::new();
    for entry in managed::raw(doc) {
        let fields = FieldSet::decode(entry.get("fieldsV1").unwrap());
        let places: BTreeSet<String> = fields.paths().into_iter().filter(|place| is_told(place)).collect();
        if !places.is_empty() {
            owners.insert((entry.str_at(&["manager"]).to_owned(), entry.str_at(&["operation"]).to_owned()), places);
        }
    }
    owners
}

/// The second telling.
#[derive(Debug, Default)]
struct Oracle {
    live: Flat,
    owners: Owners,
}

impl Oracle {
    /// What differs from what is there.
    fn changed(&self, new: &Flat) -> BTreeSet<String> {
        new.iter()
            .filter(|(place, value)| self.live.get(*place) != Some(value))
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// Whoever else owned what changed loses it, and everybody what is gone.
    fn settle(&mut self, me: (&'static str, Operation), new: Flat) {
        let changed = self.changed(&new);
        for (owner, places) in &mut self.owners {
            places.retain(|place| new.contains_key(place) && (*owner == me || !changed.contains(place)));
        }
        self.owners.retain(|_, places| !places.is_empty());
        self.live = new;
    }

    /// An update owns what it changes, beside what it owned.
    fn update(&mut self, who: &'static str, new: Flat) {
        let (me, changed) = ((who, Operation::Update), self.changed(&new));
        self.owners.entry(me).or_default().extend(changed);
        self.settle(me, new);
    }

    /// An apply owns what it names and nothing else; what it no longer names goes, unless somebody else owns it. It
    /// changes what others own only by force. Answers the places that it may not have.
    fn apply(&mut self, who: &'static str, named: &Flat, force: bool) -> BTreeSet<(String, String)> {
        let me = (who, Operation::Apply);
        let changed = self.changed(named);
        let lost =
            self.owners.iter().filter(|(owner, _)| **owner != me).flat_map(|(owner, places)| {
                places.intersection(&changed).map(|place| (owner.0.to_owned(), place.clone()))
            });
        let lost: BTreeSet<_> = lost.collect();
        if !force && !lost.is_empty() {
            return lost;
        }
        let last = self.owners.remove(&me).unwrap_or_default();
        let mut new = self.live.clone();
        new.extend(named.clone());
        for place in last.iter().filter(|place| !named.contains_key(*place)) {
            if !self.owners.values().any(|places| places.contains(place)) {
                // With an item goes all that is in it.
                let inside = format!("{place}.");
                new.retain(|other, _| other != place && !(place.ends_with(']') && other.starts_with(&inside)));
            }
        }
        self.owners.insert(me, named.keys().cloned().collect());
        self.settle(me, new);
        BTreeSet::new()
    }
}

fn conflicts(error: &ApiError) -> BTreeSet<(String, String)> {
    let causes = &error.status().details.as_ref().unwrap().causes;
    let owner = |message: &str| message.split('"').nth(1).unwrap().to_owned();
    let told = causes.iter().map(|cause| (owner(&cause.message), cause.field.clone()));
    told.filter(|(_, place)| is_told(place)).collect()
}

fn written() -> impl Strategy<Value = Written> {
    let labels = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), 0u8..3, 0..3);
    let inside = (prop::option::of(0u8..3), prop::option::of(0u8..2));
    let containers = prop::collection::btree_map(prop::sample::select(vec!["x", "y"]), inside, 0..3);
    let replicas = prop::option::of(0u8..3);
    (labels, replicas, containers).prop_map(|(labels, replicas, containers)| Written { labels, replicas, containers })
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop::sample::select(vec!["ann", "bob", "cem"]);
    let how = prop::sample::select(vec![How::Apply, How::Apply, How::ApplyByForce, How::Update]);
    (who, how, written()).prop_map(|(who, how, what)| Step { who, how, what })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn owners_are_those_of_the_second_telling(steps in prop::collection::vec(step(), 1..10)) {
        let schema = deployment();
        let (mut live, mut oracle) = (None::<Doc>, Oracle::default());
        for Step { who, how, what } in steps {
            let force = how == How::ApplyByForce;
            if how == How::Update {
                let mut new = what.doc();
                if let Some(live) = &live {
                    new.set_at(&["metadata", "managedFields"], Doc::Array(managed::raw(live).to_vec()));
                }
                track_update(live.as_ref(), &mut new, &schema, &manager(who, Operation::Update));
                oracle.update(who, what.flat());
                live = Some(new);
            } else {
                let by = manager(who, Operation::Apply);
                let applied = apply_configuration(live.as_ref(), &what.doc(), &schema, &by, force);
                let refused = oracle.apply(who, &what.flat(), force);
                match applied {
                    Ok(new) => {
                        prop_assert!(refused.is_empty(), "applied although {refused:?}");
                        live = Some(new);
                    }
                    Err(error) => prop_assert_eq!(conflicts(&error), refused, "{}", error),
                }
            }
            let shown = live.clone().unwrap_or_default();
            prop_assert_eq!(flattened(&shown), oracle.live.clone());
            let told: BTreeMap<_, _> = oracle
                .owners
                .iter()
                .map(|((who, how), places)| (((*who).to_owned(), how.as_str().to_owned()), places.clone()))
                .collect();
            prop_assert_eq!(owned(&shown), told);
        }
    }
}
