//! The served resources, as discovery, tables and OpenAPI need to know them.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use k8s_core::{
    doc::{Doc, Text},
    env::Timestamp,
    object::Object,
    request::ResourceType,
};

/// Tells what is served now. Built-in and custom resources alike.
pub trait Catalog: Send + Sync + 'static {
    /// One resource by group, version and plural name.
    fn find(&self, resource: &ResourceType) -> Option<Arc<Served>>;

    /// Every served resource, with a number that changes whenever the list does.
    fn all(&self) -> (u64, Arc<[Arc<Served>]>);

    /// The table that shows a resource to people.
    fn table(&self, resource: &ResourceType) -> Arc<dyn Tabulate>;
}

/// Columns and cells of one kind.
pub trait Tabulate: Send + Sync + 'static {
    /// `columnDefinitions`.
    fn columns(&self) -> Doc;

    /// The cells of one object, as many as there are columns; ages are as of `now`.
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Doc>;
}

/// One served resource at one version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Served {
    /// Group, version and plural name.
    pub resource: ResourceType,
    /// The singular name.
    pub singular: Text,
    /// The kind of one object.
    pub kind: Text,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The verbs that work on it.
    pub verbs: Vec<Text>,
    /// The abbreviations that people type.
    pub short_names: Vec<Text>,
    /// The groupings that people type, such as `all`.
    pub categories: Vec<Text>,
    /// What hangs below one object.
    pub subresources: Vec<ServedSubresource>,
    /// The OpenAPI version 3 schema of a custom kind; the built-in ones have theirs in the object model.
    pub schema: Option<Arc<Doc>>,
}

/// What hangs below one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServedSubresource {
    /// Such as `status`.
    pub name: Text,
    /// Group, version and kind of what it takes and answers.
    pub group: Text,
    /// See [`ServedSubresource::group`].
    pub version: Text,
    /// See [`ServedSubresource::group`].
    pub kind: Text,
    /// The verbs that work on it.
    pub verbs: Vec<Text>,
}

/// The resources by group, then by version: groups in the order of [`group_order`], versions best first.
pub fn by_group(all: &[Arc<Served>]) -> Vec<(Text, Vec<(Text, Vec<&Served>)>)> {
    let mut groups: BTreeMap<&Text, BTreeMap<&Text, Vec<&Served>>> = BTreeMap::new();
    for served in all {
        let versions = groups.entry(&served.resource.group).or_default();
        versions.entry(&served.resource.version).or_default().push(served);
    }
    let mut groups: Vec<_> =
        groups.into_iter().map(|(group, versions)| (group.clone(), sorted_versions(versions))).collect();
    groups.sort_by(|(a, _), (b, _)| group_order(a).cmp(&group_order(b)).then_with(|| a.cmp(b)));
    groups
}

fn sorted_versions<'a>(versions: BTreeMap<&Text, Vec<&'a Served>>) -> Vec<(Text, Vec<&'a Served>)> {
    let mut versions: Vec<(Text, Vec<&Served>)> =
        versions.into_iter().map(|(version, resources)| (version.clone(), resources)).collect();
    for (_, resources) in &mut versions {
        resources.sort_by(|a, b| a.resource.plural.cmp(&b.resource.plural));
    }
    versions.sort_by(|(a, _), (b, _)| version_order(a, b));
    versions
}

/// The groups that people use most come first: a short name that two groups share means the first one's.
fn group_order(group: &str) -> usize {
    const FIRST: [&str; 8] = [
        "",
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
    ];
    let built_in = if group.ends_with(".k8s.io") || !group.contains('.') { 0 } else { 1 };
    FIRST.iter().position(|first| *first == group).unwrap_or(FIRST.len() + built_in)
}

/// Upstream's order of versions: stable before beta before alpha, newer first, anything else after by name.
fn version_order(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `(stability, major, minor)` of `v1`, `v2beta3`, ...
fn rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let major = rest[..digits].parse().ok()?;
    match &rest[digits..] {
        "" => Some((2, major, 0)),
        tail => {
            let (stability, minor) =
                tail.strip_prefix("beta").map(|n| (1, n)).or_else(|| tail.strip_prefix("alpha").map(|n| (0, n)))?;
            Some((stability, major, minor.parse().ok()?))
        }
    }
}
