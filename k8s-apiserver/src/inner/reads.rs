//! Reads from the cache, for admission plugins and the server's own checks.

use std::sync::Arc;

use k8s_core::{
    env::Env,
    object::{Object, ObjectKey},
    request::ResourceType,
    resource::Resource,
    status::ApiResult,
};

use crate::cache::Cache;

/// What is in the cluster, as the cache has it. Cloning shares.
#[derive(Clone)]
pub struct Reads {
    env: Env,
    cache: Arc<Cache>,
}

impl Reads {
    pub(super) fn new(env: Env, cache: Arc<Cache>) -> Self {
        Self { env, cache }
    }

    /// Time and randomness.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// One object of version `v1` by group and plural name.
    pub fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let kind = self.cache.kind(&ResourceType::new(group, "v1", plural))?;
        kind.state().get(&ObjectKey::new(namespace, name)).cloned()
    }

    /// The same, and where the cache has none, again once it shows everything that was acknowledged by now: an object
    /// that was made a moment ago is never missed.
    pub async fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> ApiResult<Option<Arc<Object>>> {
        if let Some(object) = self.object(group, plural, namespace, name) {
            return Ok(Some(object));
        }
        self.cache.wait_for_head().await?;
        Ok(self.object(group, plural, namespace, name))
    }

    /// All objects of a kind.
    pub fn all<K: Resource>(&self) -> Vec<Arc<K>> {
        let Some(kind) = self.cache.kind(&K::resource()) else { return Vec::new() };
        kind.state().iter().filter_map(|(_, object)| object.typed::<K>().ok()).collect()
    }
}
