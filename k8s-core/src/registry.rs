//! The table of kinds: a kind is an entry here, not a handler.
//!
//! Built-in kinds come from `registry/builtin.kinds`; custom ones are added as the same value. An entry may say that
//! its effect is not there yet: it is then absent from discovery, and a request for it is told what it waits for.

mod kinds;

use std::{collections::BTreeMap, sync::Arc};

pub use self::kinds::Kinds;
use crate::{
    custom::CustomKind,
    doc::{Doc, Text},
    request::{ResourceType, Verb},
    schema::{Schema, Schemas},
    status::ApiError,
};

const BUILTIN: &str = include_str!("registry/builtin.kinds");
const ALL_VERBS: [Verb; 8] =
    [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// One kind at one version: everything about it that is data.
#[derive(Clone)]
pub struct ResourceInfo {
    /// The API group; empty for the core group.
    pub group: Text,
    /// The version.
    pub version: Text,
    /// The plural name, as paths have it.
    pub plural: Text,
    /// The singular name.
    pub singular: Text,
    /// The kind.
    pub kind: Text,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Abbreviations that people type.
    pub short_names: Vec<Text>,
    /// Groupings that people type, such as `all`.
    pub categories: Vec<Text>,
    /// What can be done.
    pub verbs: Vec<Verb>,
    /// What hangs below one object.
    pub subresources: Vec<Subresource>,
    /// The fields that selectors may name, beyond `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<Text>,
    /// Whether it is served.
    pub served: Served,
    /// The schema of a custom kind; built-in ones are looked up.
    pub schema: Option<Schema>,
    /// What a CustomResourceDefinition says beyond that; `None` for kinds that are there from the start.
    pub custom: Option<Arc<CustomKind>>,
}

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// Whether a kind is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// It has its effect.
    Yes,
    /// It has none yet; the text says what it waits for.
    NotYet(String),
}

/// What hangs below one object, such as `status` or `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// Its name.
    pub name: Text,
    /// What can be done.
    pub verbs: Vec<Verb>,
    /// Group, version and kind of what it takes and gives, where that is not the object itself.
    pub body: Option<(Text, Text, Text)>,
}

impl ResourceInfo {
    /// A namespaced kind with all verbs and a status: the usual shape of a custom kind.
    pub fn custom(group: &str, version: &str, plural: &str, kind: &str, schema: Schema) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            kind: kind.into(),
            scope: Scope::Namespaced,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: ALL_VERBS.to_vec(),
            subresources: vec![Subresource { name: "status".into(), verbs: object_verbs(), body: None }],
            selectable_fields: Vec::new(),
            served: Served::Yes,
            schema: Some(schema),
            custom: None,
        }
    }

    /// Group, version and plural name.
    pub fn resource(&self) -> ResourceType {
        ResourceType::new(self.group.clone(), self.version.clone(), self.plural.clone())
    }

    /// `apiVersion` of objects.
    pub fn api_version(&self) -> String {
        self.resource().api_version()
    }

    /// The kind of lists.
    pub fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.to_string())
    }

    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether it is served.
    pub fn is_served(&self) -> bool {
        self.served == Served::Yes
    }

    /// Whether a verb works on it.
    pub fn supports(&self, verb: Verb) -> bool {
        self.is_served() && self.verbs.contains(&verb)
    }

    /// Whether objects are kept, as opposed to answered and forgotten (reviews).
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&Verb::Get)
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Where objects are kept, ending in `/`: upstream's layout, which operators know.
    pub fn storage_prefix(&self) -> String {
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "services") => "/registry/services/specs/".into(),
            ("", "endpoints") => "/registry/services/endpoints/".into(),
            ("", "nodes") => "/registry/minions/".into(),
            ("", plural) => format!("/registry/{plural}/"),
            // Upstream keeps its own groups without the group's name, custom ones with it.
            (group, plural) if self.schema.is_some() || group == "apiextensions.k8s.io" => {
                format!("/registry/{group}/{plural}/")
            }
            (_, plural) => format!("/registry/{plural}/"),
        }
    }

    /// The key of one object.
    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        let prefix = self.storage_prefix();
        if self.is_namespaced() { format!("{prefix}{namespace}/{name}") } else { format!("{prefix}{name}") }
    }

    /// The value of a selectable field of an object: the text at its path.
    pub fn field<'a>(&self, doc: &'a Doc, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        let mut at = doc;
        for step in path.split('.') {
            at = at.get(step)?;
        }
        match at {
            Doc::String(text) => Some(text.as_str().into()),
            Doc::Bool(value) => Some(value.to_string().into()),
            Doc::Number(number) => Some(number.as_str().to_owned().into()),
            _ => None,
        }
    }

    /// Whether a selector may name this field.
    pub fn is_selectable(&self, path: &str) -> bool {
        matches!(path, "metadata.name" | "metadata.namespace") || self.selectable_fields.iter().any(|f| f == path)
    }
}

fn object_verbs() -> Vec<Verb> {
    vec![Verb::Get, Verb::Patch, Verb::Update]
}

/// The kinds of one cluster.
#[derive(Clone)]
pub struct Registry {
    entries: Vec<Arc<ResourceInfo>>,
    by_resource: BTreeMap<ResourceType, usize>,
    by_kind: BTreeMap<(Text, Text, Text), usize>,
    schemas: Arc<Schemas>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        let empty = Self {
            entries: Vec::new(),
            by_resource: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            schemas: Arc::new(Schemas::builtin()),
        };
        let lines = BUILTIN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.filter_map(parse).fold(empty, Self::with)
    }

    /// The same with one more kind.
    pub fn with(self, info: ResourceInfo) -> Self {
        self.with_shared(Arc::new(info))
    }

    /// The same with the kind, and shared with who has it already.
    pub fn with_shared(mut self, info: Arc<ResourceInfo>) -> Self {
        let place = self.entries.len();
        self.by_resource.insert(info.resource(), place);
        self.by_kind.insert((info.group.clone(), info.version.clone(), info.kind.clone()), place);
        self.entries.push(info);
        self
    }

    /// All kinds, served or not, in the order of the table.
    pub fn all(&self) -> &[Arc<ResourceInfo>] {
        &self.entries
    }

    /// The served kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.entries.iter().filter(|info| info.is_served())
    }

    /// The kind of a resource, served or not.
    pub fn find(&self, resource: &ResourceType) -> Option<&Arc<ResourceInfo>> {
        self.by_resource.get(resource).map(|place| &self.entries[*place])
    }

    /// The kind by group, version and kind, served or not.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        let key = (group.into(), version.into(), kind.into());
        self.by_kind.get(&key).map(|place| &self.entries[*place])
    }

    /// The kind of a resource that is served; else the 404 that says why not.
    pub fn served(&self, resource: &ResourceType) -> Result<&Arc<ResourceInfo>, ApiError> {
        let info = self.find(resource).ok_or_else(ApiError::no_such_path)?;
        match &info.served {
            Served::Yes => Ok(info),
            Served::NotYet(why) => {
                let message = format!("{resource} is not served yet: it waits for {why}");
                Err(ApiError::new(404, crate::status::Reason::NotFound, message))
            }
        }
    }

    /// The schema of a kind.
    pub fn schema(&self, info: &ResourceInfo) -> Option<Schema> {
        info.schema.clone().or_else(|| self.schemas.schema(&info.group, &info.version, &info.kind))
    }

    /// The built-in schemas, for kinds that are no resource (`Scale`, `Status`).
    pub fn schemas(&self) -> &Arc<Schemas> {
        &self.schemas
    }
}

fn parse(line: &str) -> Option<ResourceInfo> {
    let mut words = line.split_whitespace();
    let (group, version) = split_version(words.next()?);
    let (plural, kind, scope) = (words.next()?, words.next()?, words.next()?);
    let mut info = ResourceInfo {
        group,
        version,
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        kind: kind.into(),
        scope: if scope == "ns" { Scope::Namespaced } else { Scope::Cluster },
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: ALL_VERBS.to_vec(),
        subresources: Vec::new(),
        selectable_fields: Vec::new(),
        served: Served::Yes,
        schema: None,
        custom: None,
    };
    for word in words {
        let (name, value) = word.split_once('=')?;
        let list = || value.split(',').map(Text::from).collect();
        match name {
            "short" => info.short_names = list(),
            "categories" => info.categories = list(),
            "verbs" => info.verbs = verbs(value, ','),
            "sub" => info.subresources = value.split(',').map(subresource).collect(),
            "fields" => info.selectable_fields = list(),
            "not-yet" => info.served = Served::NotYet(value.replace('-', " ")),
            _ => return None,
        }
    }
    Some(info)
}

fn split_version(text: &str) -> (Text, Text) {
    text.split_once('/').map_or((Text::default(), text.into()), |(group, version)| (group.into(), version.into()))
}

fn verbs(text: &str, separator: char) -> Vec<Verb> {
    let known = ALL_VERBS.into_iter().chain([Verb::Connect]);
    let named = |word: &str| known.clone().find(|verb| verb.as_str() == word);
    text.split(separator).filter_map(named).collect()
}

fn subresource(text: &str) -> Subresource {
    let mut parts = text.splitn(3, ':');
    let name = parts.next().unwrap_or_default().into();
    let verbs = parts.next().map_or_else(object_verbs, |text| verbs(text, '+'));
    let body = parts.next().and_then(|text| text.rsplit_once('/')).map(|(version, kind)| {
        let (group, version) = split_version(version);
        (group, version, kind.into())
    });
    Subresource { name, verbs, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_entry_with_a_schema() {
        let lines = BUILTIN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        let registry = Registry::builtin();
        assert_eq!(registry.all().len(), lines);
        for info in registry.all() {
            assert!(!info.verbs.is_empty(), "{}", info.plural);
            assert!(info.subresources.iter().all(|sub| !sub.verbs.is_empty()), "{}", info.plural);
            assert!(registry.schema(info).is_some(), "{} {} has no schema", info.api_version(), info.kind);
        }
    }

    #[test]
    fn no_two_served_kinds_share_a_place() {
        let registry = Registry::builtin();
        let mut places: Vec<String> =
            registry.iter().filter(|info| info.is_stored()).map(|info| info.storage_prefix()).collect();
        places.sort();
        let shared: Vec<_> = places.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].as_str()).collect();
        let expected = ["/registry/events/", "/registry/horizontalpodautoscalers/"];
        assert_eq!(shared, expected, "only Events and autoscalers have two names for one place");
    }

    #[test]
    fn what_is_not_served_yet_says_what_it_waits_for() {
        let line = "example.com/v1 strangers Stranger ns not-yet=somebody-who-knows-them";
        let registry = Registry::builtin().with(parse(line).expect("a line of the table"));
        let error = registry.served(&ResourceType::new("example.com", "v1", "strangers")).err();
        let expected = "strangers.example.com is not served yet: it waits for somebody who knows them";
        assert_eq!(error.map(|error| (error.code(), error.to_string())), Some((404, expected.to_owned())));
        assert!(registry.served(&ResourceType::new("", "v1", "pods")).is_ok());
        assert_eq!(registry.served(&ResourceType::new("x", "v1", "y")).err().map(|e| e.code()), Some(404));
    }

    #[test]
    fn keys_are_where_operators_look() {
        let registry = Registry::builtin();
        let key = |group: &str, plural: &str| {
            let info = registry.find(&ResourceType::new(group, "v1", plural));
            info.map(|info| info.storage_key("n", "x")).unwrap_or_default()
        };
        assert_eq!(key("", "pods"), "/registry/pods/n/x");
        assert_eq!(key("", "services"), "/registry/services/specs/n/x");
        assert_eq!(key("", "nodes"), "/registry/minions/x");
        assert_eq!(key("apps", "deployments"), "/registry/deployments/n/x");
        let definitions = key("apiextensions.k8s.io", "customresourcedefinitions");
        assert_eq!(definitions, "/registry/apiextensions.k8s.io/customresourcedefinitions/x");
    }
}
