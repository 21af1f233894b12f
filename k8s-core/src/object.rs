//! An object in flight: immutable, shared, already encoded.
//!
//! An [`Object`] is what travels between the store, the caches, the watchers and the controllers: its JSON as
//! served, the metadata that everyone needs, and a typed form made on demand. Nobody who reads one decodes it again,
//! and nobody who sends one encodes it again.

mod part;

use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use compact_str::CompactString as Text;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{doc::Doc, env::Timestamp, resource::Resource, selector::Labels, status::ApiError};

/// One object as some revision of the cluster has it.
///
/// Invariant: `json` holds no `metadata.resourceVersion`; it is spliced in at `splice`, right after the opening
/// brace of `metadata`, on the way out.
pub struct Object {
    json: Bytes,
    splice: usize,
    revision: u64,
    /// What is known without decoding the whole. Shared by all revisions of the same bytes.
    pub meta: Arc<Meta>,
    typed: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

/// The metadata of an object in flight.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta {
    /// `apiVersion`, such as `apps/v1`.
    pub api_version: Text,
    /// `kind`.
    pub kind: Text,
    /// `metadata.name`.
    pub name: Text,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Text,
    /// `metadata.uid`.
    pub uid: Text,
    /// `metadata.generation`, 0 if absent.
    pub generation: i64,
    /// `metadata.labels`, sorted by key.
    pub labels: Box<[(Text, Text)]>,
    /// `metadata.ownerReferences`.
    pub owners: Box<[Owner]>,
    /// `metadata.finalizers`.
    pub finalizers: Box<[Text]>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp`.
    pub deleted: Option<Timestamp>,
    /// `spec.nodeName`, which watches are routed by; empty if absent.
    pub node_name: Text,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `apiVersion` of the owner.
    pub api_version: Text,
    /// `kind` of the owner.
    pub kind: Text,
    /// `name` of the owner.
    pub name: Text,
    /// `uid` of the owner.
    pub uid: Text,
    /// Whether the owner is the managing controller.
    #[serde(default)]
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// Namespace and name: how caches and queues key objects of one kind. Namespace is empty for cluster scope.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectKey {
    /// The namespace, or empty.
    pub namespace: Text,
    /// The name.
    pub name: Text,
}

impl ObjectKey {
    /// A key; pass an empty namespace for cluster-scoped objects.
    pub fn new(namespace: impl Into<Text>, name: impl Into<Text>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Owner {
    fn of(doc: &Doc) -> Self {
        let text = |key: &str| Text::from(doc.str_at(&[key]));
        let flag = |key: &str| doc.get(key).and_then(Doc::as_bool).unwrap_or(false);
        Self {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: flag("controller"),
            block_owner_deletion: flag("blockOwnerDeletion"),
        }
    }
}

impl Labels for Meta {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.label(key)
    }
}

impl Meta {
    /// The metadata of a document, as far as it has the right shape.
    pub fn of(doc: &Doc) -> Self {
        let text = |path: &[&str]| Text::from(doc.str_at(path));
        let time = |path: &[&str]| doc.str_at(path).parse().ok();
        let labels = doc.at(&["metadata", "labels"]).and_then(Doc::as_object);
        let mut labels: Vec<(Text, Text)> = labels
            .into_iter()
            .flat_map(|map| map.iter())
            .map(|(key, value)| (key.into(), value.as_str().unwrap_or("").into()))
            .collect();
        labels.sort();
        let items = |path: &[&str]| doc.at(path).map(Doc::items).unwrap_or_default();
        let finalizers = items(&["metadata", "finalizers"]).iter().filter_map(Doc::as_str).map(Text::from);
        let is_routed = is_routed_by_node(doc.str_at(&["kind"]));
        Self {
            api_version: text(&["apiVersion"]),
            kind: text(&["kind"]),
            name: text(&["metadata", "name"]),
            namespace: text(&["metadata", "namespace"]),
            uid: text(&["metadata", "uid"]),
            generation: doc.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0),
            labels: labels.into(),
            owners: items(&["metadata", "ownerReferences"]).iter().map(Owner::of).collect(),
            finalizers: finalizers.collect(),
            created: time(&["metadata", "creationTimestamp"]),
            deleted: time(&["metadata", "deletionTimestamp"]),
            node_name: if is_routed { text(&["spec", "nodeName"]) } else { Text::default() },
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The owner that manages this object, if any.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }
}

impl Object {
    /// An object from its JSON, with or without `metadata.resourceVersion` (which then gives the revision, unless
    /// `revision` is given).
    ///
    /// Fails when the bytes are no JSON object with a `metadata` object.
    pub fn from_json(json: Bytes, revision: Option<u64>) -> Result<Self, ApiError> {
        let head: Head = serde_json::from_slice(&json).map_err(|why| undecodable(&why))?;
        let embedded = head.metadata.resource_version.as_deref().unwrap_or("");
        let parsed = embedded.parse().ok();
        let (json, splice) = match head.metadata.resource_version {
            Some(_) => strip_revision(&json)?,
            None => (json.clone(), metadata_brace(&json).ok_or_else(without_metadata)?),
        };
        let revision = revision.or(parsed).unwrap_or(0);
        let meta = Arc::new(head.into_meta());
        Ok(Self { json, splice, revision, meta, typed: Mutex::new(None) })
    }

    /// An object whose metadata the writer has at hand.
    ///
    /// `json` must hold no `metadata.resourceVersion`, and `splice` must be the offset right after the opening
    /// brace of a non-empty `metadata`.
    pub fn from_parts(json: Bytes, splice: usize, revision: u64, meta: Meta) -> Self {
        debug_assert!(json[..splice].ends_with(b"{"), "the splice point follows the brace of metadata");
        Self { json, splice, revision, meta: Arc::new(meta), typed: Mutex::new(None) }
    }

    /// An object from the document of a write, which is encoded here, once. `metadata.resourceVersion` is left out.
    ///
    /// Fails when the document has no `metadata` with anything in it.
    pub fn from_doc(doc: &mut Doc, revision: u64) -> Result<Self, ApiError> {
        let (json, splice, meta) = Self::encode(doc)?;
        Ok(Self::from_parts(json, splice, revision, meta))
    }

    /// The parts of [`Object::from_parts`], made from the document of a write, while its revision is not known yet.
    pub fn encode(doc: &mut Doc) -> Result<(Bytes, usize, Meta), ApiError> {
        doc.remove_at(&["metadata", "resourceVersion"]);
        let meta = Meta::of(doc);
        let json = doc.to_json();
        let splice = metadata_brace(&json).ok_or_else(without_metadata)?;
        Ok((json.into(), splice, meta))
    }

    /// The same object at another revision (a deletion is sent with the revision that deleted). Shares the bytes.
    pub fn at_revision(&self, revision: u64) -> Self {
        let (json, meta) = (self.json.clone(), self.meta.clone());
        Self { json, splice: self.splice, revision, meta, typed: Mutex::new(None) }
    }

    /// The revision that wrote it: its `resourceVersion`.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The stored bytes: the JSON without `resourceVersion`.
    pub fn stored_json(&self) -> &Bytes {
        &self.json
    }

    /// The served JSON in two slices of the stored bytes; the text of [`Object::revision_field`] goes between.
    pub fn halves(&self) -> (Bytes, Bytes) {
        (self.json.slice(..self.splice), self.json.slice(self.splice..))
    }

    /// What stands between the halves: `"resourceVersion":"N",` (or nothing at revision 0).
    pub fn revision_field(&self) -> String {
        if self.revision == 0 { String::new() } else { format!("\"resourceVersion\":\"{}\",", self.revision) }
    }

    /// Appends the served JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.json[..self.splice]);
        out.extend_from_slice(self.revision_field().as_bytes());
        out.extend_from_slice(&self.json[self.splice..]);
    }

    /// The served JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.json.len() + 40);
        self.write_json(&mut out);
        out
    }

    /// The typed form: decoded at most once while some reader holds it, dropped after the last.
    pub fn typed<K: Resource>(&self) -> Result<Arc<K>, ApiError> {
        let mut slot = self.typed.lock();
        if let Some(shared) = slot.as_ref().and_then(Weak::upgrade)
            && let Ok(typed) = shared.downcast::<K>()
        {
            return Ok(typed);
        }
        let mut decoded = crate::resource::decode::<K>(&self.json)?;
        if self.revision != 0 {
            decoded.metadata_mut().resource_version = Some(self.revision.to_string());
        }
        let typed = Arc::new(decoded);
        let shared: Arc<dyn Any + Send + Sync> = typed.clone();
        *slot = Some(Arc::downgrade(&shared));
        Ok(typed)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.meta.kind, self.meta.key(), self.revision)
    }
}

fn without_metadata() -> ApiError {
    ApiError::internal("object without metadata")
}

fn undecodable(why: &serde_json::Error) -> ApiError {
    ApiError::internal(format!("object cannot be decoded: {why}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(default)]
    api_version: Text,
    #[serde(default)]
    kind: Text,
    #[serde(borrow)]
    metadata: HeadMeta<'a>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta<'a> {
    #[serde(default)]
    name: Text,
    #[serde(default)]
    namespace: Option<Text>,
    #[serde(default)]
    uid: Option<Text>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    resource_version: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<Text, Text>>,
    #[serde(default)]
    owner_references: Option<Vec<Owner>>,
    #[serde(default)]
    finalizers: Option<Vec<Text>>,
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    deletion_timestamp: Option<Timestamp>,
}

/// Whether objects of a kind say in `spec.nodeName` which node they are about, and are selected by that.
pub fn is_routed_by_node(kind: &str) -> bool {
    matches!(kind, "Pod" | "PodCertificateRequest" | "ResourceSlice")
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct SpecHead {
    #[serde(default)]
    node_name: Option<Text>,
}

impl Head<'_> {
    /// A `spec` of a kind that is not routed by node is somebody else's business.
    fn node_name(&self) -> Text {
        let spec = self.spec.filter(|_| is_routed_by_node(&self.kind));
        let head: SpecHead = spec.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        head.node_name.unwrap_or_default()
    }

    fn into_meta(self) -> Meta {
        let node_name = self.node_name();
        let meta = self.metadata;
        Meta {
            api_version: self.api_version,
            kind: self.kind,
            name: meta.name,
            namespace: meta.namespace.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            generation: meta.generation.unwrap_or(0),
            labels: meta.labels.unwrap_or_default().into_iter().collect(),
            owners: meta.owner_references.unwrap_or_default().into(),
            finalizers: meta.finalizers.unwrap_or_default().into(),
            created: meta.creation_timestamp,
            deleted: meta.deletion_timestamp,
            node_name,
        }
    }
}

/// Rewrites the JSON without `metadata.resourceVersion`. Only for objects that came over a network.
fn strip_revision(json: &[u8]) -> Result<(Bytes, usize), ApiError> {
    let top = raw_fields(json)?;
    let (mut out, mut splice) = (Vec::with_capacity(json.len()), None);
    out.push(b'{');
    for (index, (name, value)) in top.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_name(&mut out, name);
        if name == "metadata" {
            out.push(b'{');
            splice = Some(out.len());
            let fields = raw_fields(value.get().as_bytes())?;
            let kept = fields.iter().filter(|(name, _)| name != "resourceVersion");
            for (index, (name, value)) in kept.enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_name(&mut out, name);
                out.extend_from_slice(value.get().as_bytes());
            }
            out.push(b'}');
        } else {
            out.extend_from_slice(value.get().as_bytes());
        }
    }
    out.push(b'}');
    let splice = splice.ok_or_else(without_metadata)?;
    Ok((out.into(), splice))
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    // Invariant: a string always serializes.
    out.extend_from_slice(serde_json::to_string(name).unwrap_or_default().as_bytes());
    out.push(b':');
}

fn raw_fields(json: &[u8]) -> Result<Vec<(String, &RawValue)>, ApiError> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde::Deserializer::deserialize_map(&mut deserializer, Visitor).map_err(|why| undecodable(&why))
}

/// Finds the brace of the top-level `metadata` in valid JSON by walking strings and depth only.
fn metadata_brace(json: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = string_end(json, at)?;
                if depth == 1 && &json[at..end] == b"\"metadata\"" {
                    let after = json[end..].iter().position(|b| !b.is_ascii_whitespace())? + end;
                    if json[after] == b':' {
                        let brace = json[after + 1..].iter().position(|b| !b.is_ascii_whitespace())? + after + 1;
                        return (json[brace] == b'{').then_some(brace + 1);
                    }
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::api::core::v1::Pod;

    const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a\"metadata\":{","namespace":"n","uid":"u","labels":{"b":"2","a":"1"}},"spec":{"nodeName":"n1","containers":[]}}"#;

    #[test]
    fn the_revision_is_spliced_in_and_out() {
        let stored = Object::from_json(Bytes::from_static(POD.as_bytes()), Some(7)).unwrap();
        let served = stored.to_json();
        assert!(String::from_utf8_lossy(&served).contains(r#""metadata":{"resourceVersion":"7","name""#));
        let back = Object::from_json(served.into(), None).unwrap();
        assert_eq!(back.revision(), 7);
        assert_eq!(back.stored_json(), POD);
        assert_eq!(back.meta, stored.meta);
        assert_eq!(back.meta.node_name, "n1");
        assert_eq!(back.meta.label("a"), Some("1"));
    }

    #[test]
    fn the_typed_form_is_shared_while_held() {
        let object = Object::from_json(Bytes::from_static(POD.as_bytes()), Some(7)).unwrap();
        let one = object.typed::<Pod>().unwrap();
        let two = object.typed::<Pod>().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bytes in ["", "[]", "{}", r#"{"metadata":[]}"#, "{\"metadata\":{}"] {
            assert!(Object::from_json(Bytes::from(bytes), None).is_err(), "{bytes}");
        }
    }
}
