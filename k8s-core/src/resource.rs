//! The typed side: which Rust types are Kubernetes kinds, and what a typed object that came from the server is.
//!
//! [`Resource`] is implemented for every type of the ecosystem's crate and for custom kinds alike: anything that has
//! `k8s_openapi::Resource` and `Metadata`. [`Stored`] is what was read; [`Draft`] is what is about to be written.

mod codec;

use std::{any::TypeId, fmt, ops::Deref, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta},
    doc::Doc,
    object::{Object, ObjectKey},
    request::ResourceType,
    status::ApiError,
};

/// A Rust type that is a Kubernetes kind.
pub trait Resource: Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// Group, version and plural name, as paths and rules have them.
    fn resource() -> ResourceType;
    /// `apiVersion`, such as `apps/v1`.
    fn api_version() -> &'static str;
    /// `kind`, such as `Deployment`.
    fn kind() -> &'static str;
    /// Whether objects live in namespaces.
    fn is_namespaced() -> bool;
    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// Namespace and name.
    fn key(&self) -> ObjectKey {
        let meta = self.metadata();
        ObjectKey::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
    }
}

impl<K> Resource for K
where
    K: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static,
    K::Scope: 'static,
{
    fn resource() -> ResourceType {
        ResourceType::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
    }
    fn api_version() -> &'static str {
        K::API_VERSION
    }
    fn kind() -> &'static str {
        K::KIND
    }
    fn is_namespaced() -> bool {
        TypeId::of::<K::Scope>() != TypeId::of::<crate::api::ClusterResourceScope>()
    }
    fn metadata(&self) -> &ObjectMeta {
        Metadata::metadata(self)
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        Metadata::metadata_mut(self)
    }
}

/// A typed object that came from the server: its name, uid and revision are there.
///
/// Derefs to the Kubernetes type. Cloning shares.
pub struct Stored<K> {
    object: Arc<Object>,
    typed: Arc<K>,
}

impl<K: Resource> Stored<K> {
    /// Types an object in flight. Fails when it is of another shape than `K`.
    pub fn new(object: Arc<Object>) -> Result<Self, ApiError> {
        let typed = object.typed::<K>()?;
        Ok(Self { object, typed })
    }

    /// A copy to change and write back.
    pub fn draft(&self) -> Draft<K> {
        Draft { base: Some(self.object.revision()), value: (*self.typed).clone() }
    }
}

impl<K> Stored<K> {
    /// The object in flight.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The typed form, shared.
    pub fn typed(&self) -> &Arc<K> {
        &self.typed
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.object.meta.name
    }

    /// `metadata.namespace`, empty for cluster scope.
    pub fn namespace(&self) -> &str {
        &self.object.meta.namespace
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.object.meta.uid
    }

    /// `metadata.resourceVersion`.
    pub fn revision(&self) -> u64 {
        self.object.revision()
    }

    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        self.object.meta.key()
    }
}

impl<K> Clone for Stored<K> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), typed: self.typed.clone() }
    }
}

impl<K> Deref for Stored<K> {
    type Target = K;
    fn deref(&self) -> &K {
        &self.typed
    }
}

impl<K> fmt::Debug for Stored<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

/// A typed object that is about to be written.
#[derive(Debug, Clone)]
pub struct Draft<K> {
    base: Option<u64>,
    value: K,
}

impl<K: Resource> Draft<K> {
    /// A new object.
    pub fn new(value: K) -> Self {
        Self { base: None, value }
    }

    /// The revision it was read at, if it was read; an update is then refused if somebody else wrote since.
    pub fn base(&self) -> Option<u64> {
        self.base
    }

    /// The value.
    pub fn into_inner(self) -> K {
        self.value
    }
}

impl<K> Deref for Draft<K> {
    type Target = K;
    fn deref(&self) -> &K {
        &self.value
    }
}

impl<K> std::ops::DerefMut for Draft<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.value
    }
}

/// Decodes a typed object.
pub(crate) fn decode<K: Resource>(json: &[u8]) -> Result<K, ApiError> {
    codec::from_json(json).map_err(|why| ApiError::internal(format!("object is no {}: {why}", K::kind())))
}

/// A typed object as a document, to be written.
pub fn encode<K: Resource>(value: &K) -> Result<Doc, ApiError> {
    codec::to_doc(value).map_err(|why| ApiError::internal(format!("{} cannot be encoded: {why}", K::kind())))
}
