//! Where the current kinds come from, and their order in discovery.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use k8s_core::{
    doc::{Doc, Text},
    registry::{Kinds, Registry, ResourceInfo, Subresource},
    request::Verb,
};

/// Tells what is served now: the built-in kinds and the custom ones of this moment.
///
/// A change shows as another registry; entries that did not change stay the same allocation.
pub trait Catalog: Send + Sync + 'static {
    /// The kinds of this moment.
    fn registry(&self) -> Arc<Registry>;

    /// The OpenAPI version 3 schema of a custom kind as it was written, with its descriptions.
    fn written_schema(&self, info: &ResourceInfo) -> Option<Arc<Doc>> {
        info.custom.as_ref().map(|custom| custom.written.clone())
    }
}

impl Catalog for Arc<Registry> {
    fn registry(&self) -> Arc<Registry> {
        self.clone()
    }
}

impl Catalog for Kinds {
    fn registry(&self) -> Arc<Registry> {
        self.now()
    }
}

/// The kinds of one group by version, best version first.
pub type Versions<'a> = Vec<(Text, Vec<&'a ResourceInfo>)>;

/// The served kinds by group, then by version: groups in the order of [`group_order`], versions best first.
pub fn by_group(registry: &Registry) -> Vec<(Text, Versions<'_>)> {
    let mut groups: BTreeMap<&Text, BTreeMap<&Text, Vec<&ResourceInfo>>> = BTreeMap::new();
    for info in registry.iter() {
        groups.entry(&info.group).or_default().entry(&info.version).or_default().push(info);
    }
    let mut groups: Vec<_> =
        groups.into_iter().map(|(group, versions)| (group.clone(), sorted_versions(versions))).collect();
    groups.sort_by(|(a, _), (b, _)| group_order(a).cmp(&group_order(b)).then_with(|| a.cmp(b)));
    groups
}

fn sorted_versions<'a>(versions: BTreeMap<&Text, Vec<&'a ResourceInfo>>) -> Versions<'a> {
    let mut versions: Versions<'a> =
        versions.into_iter().map(|(version, resources)| (version.clone(), resources)).collect();
    for (_, resources) in &mut versions {
        resources.sort_by(|a, b| a.plural.cmp(&b.plural));
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

/// Group, version and kind of what a subresource takes and gives.
pub fn body_kind(info: &ResourceInfo, below: &Subresource) -> (Text, Text, Text) {
    if let Some(body) = &below.body {
        return body.clone();
    }
    let kind = if below.verbs.contains(&Verb::Connect) {
        let what = match below.name.as_str() {
            "exec" => "Exec",
            "attach" => "Attach",
            "portforward" => "PortForward",
            _ => "Proxy",
        };
        format!("{}{what}Options", info.kind).into()
    } else {
        info.kind.clone()
    };
    (info.group.clone(), info.version.clone(), kind)
}

/// The words of discovery for verbs, sorted. A connection is opened by the verbs that its methods stand for.
pub fn verb_words(verbs: &[Verb], subresource: &str) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for verb in verbs {
        match verb {
            Verb::Connect if subresource == "proxy" => words.extend(["create", "delete", "get", "patch", "update"]),
            Verb::Connect => words.extend(["create", "get"]),
            verb => words.push(verb.as_str()),
        }
    }
    words.sort_unstable();
    words.dedup();
    words
}
