//! Writing to the store: at most one object per transaction, with what must hold and what changes beside it.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::{Object, ObjectKey},
    request::Fence,
    status::{ApiError, ApiResult},
};
use k8s_store::{Attachment, Guard, Key, Op, Revision, StoreError, Transaction};

use super::{
    encode::{Encoded, encode},
    operation::Operation,
    services::AddressChange,
};
use crate::cache::Written;

/// What a write needs and changes beside its object: allocations, fences.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What changes.
    pub ops: Vec<Op>,
}

/// Kinds that say what may be written next: who was answered can count on them.
const HELD_AT_ONCE: [&str; 6] =
    ["namespaces", "resourcequotas", "storageclasses", "ingressclasses", "runtimeclasses", "servicecidrs"];

/// Why nothing was written.
#[derive(Debug)]
pub enum Refused {
    /// The object is not as it was taken to be.
    Changed,
    /// Something beside the object is not as it was taken to be: its key.
    Beside(Key),
    /// Anything else.
    Failed(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// Where the epoch of a leadership is kept: written when the holder of the Lease changes.
pub fn fence_key(namespace: &str, name: &str) -> Key {
    format!("/registry/fences/{namespace}/{name}").into()
}

impl Operation<'_> {
    /// Stores an object that was at `before` (`None`: was not there), and answers it as stored.
    pub async fn put(
        &self,
        key: &ObjectKey,
        doc: &Doc,
        before: Option<u64>,
        beside: Beside,
    ) -> Result<Arc<Object>, Refused> {
        if !self.kind.is_stored_form() {
            return self.put_converted(key, doc, before, beside).await;
        }
        let Encoded { json, splice, meta } = encode(doc)?;
        let storage_key = self.kind.storage_key(key);
        let written = Arc::new(Written::new(self.kind.info.clone(), json.clone(), splice, meta));
        let attachment: Attachment = written.clone();
        let guard = as_before(&storage_key, before);
        let put = Op::Put { key: storage_key, value: json, lease: None, attachment: Some(attachment) };
        let revision = self.commit(guard, put, beside).await?;
        Ok(written.object(revision))
    }

    /// The same for an object that is stored at another version, and answered at this one.
    async fn put_converted(
        &self,
        key: &ObjectKey,
        doc: &Doc,
        before: Option<u64>,
        beside: Beside,
    ) -> Result<Arc<Object>, Refused> {
        let Encoded { json, .. } = encode(&*self.stored_form(doc).await?)?;
        let storage_key = self.kind.storage_key(key);
        let guard = as_before(&storage_key, before);
        let put = Op::Put { key: storage_key, value: json.clone(), lease: None, attachment: None };
        let revision = self.commit(guard, put, beside).await?;
        let stored = Object::from_json(json, Some(revision))?;
        Ok(self.converted(Arc::new(self.kind.shown(stored)?)).await?)
    }

    /// Removes an object that is as `object` shows it, and answers it at the revision of its end.
    pub async fn remove(&self, object: &Object, beside: Beside) -> Result<Arc<Object>, Refused> {
        let key = self.kind.storage_key(&object.meta.key());
        let guard = Guard::At(key.clone(), Revision(object.revision()));
        let revision = self.commit(guard, Op::Delete { key }, beside).await?;
        Ok(Arc::new(object.at_revision(revision)))
    }

    async fn commit(&self, guard: Guard, op: Op, beside: Beside) -> Result<u64, Refused> {
        let key = guard.key().clone();
        let fence = self.request.fence.as_ref().map(|fence| {
            let Fence { namespace, name, revision } = fence;
            Guard::At(fence_key(namespace, name), Revision(*revision))
        });
        let mut transaction = Transaction::new();
        transaction.guards.extend(fence);
        transaction.guards.push(guard);
        transaction.guards.extend(beside.guards);
        transaction.ops.push(op);
        transaction.ops.extend(beside.ops);
        let addresses =
            if self.info.plural == "services" { AddressChange::among(&transaction.ops) } else { Vec::new() };
        let fenced = self.request.fence.as_ref().map(|fence| fence_key(&fence.namespace, &fence.name));
        match self.server.store.commit(transaction).await {
            Ok(committed) => {
                // Rights, tokens and what admission reads hold from the answer on. The write is done, whatever the cache
                // does.
                if self.kind.is_followed() || HELD_AT_ONCE.contains(&self.info.plural.as_str()) {
                    drop(self.server.cache.wait_for(committed.revision.0).await);
                }
                self.show_addresses(addresses).await;
                Ok(committed.revision.0)
            }
            Err(StoreError::Conflict { key: failed, .. }) if Some(&failed) == fenced.as_ref() => {
                Err(Refused::Failed(self.conflict("the leadership that this write depends on was lost")))
            }
            Err(StoreError::Conflict { key: failed, .. }) if failed == key => Err(Refused::Changed),
            Err(StoreError::Conflict { key: failed, .. }) => Err(Refused::Beside(failed)),
            Err(error) => Err(Refused::Failed(store_error(&error))),
        }
    }

    /// The object as it is in the store now, whatever the cache shows; at the version that it is stored at where a
    /// webhook converts.
    pub async fn current(&self, key: &ObjectKey) -> ApiResult<Option<Arc<Object>>> {
        let entry = self.server.store.get(&self.kind.storage_key(key)).await.map_err(|error| store_error(&error))?;
        entry.map(|entry| self.kind.object(&entry)).transpose()
    }

    /// Whether an object has to be written although nothing in it changes: with another encryption key, or encrypted
    /// at all, or at another version or with other defaults than it is stored with. So writing every object as it is
    /// completes a rotation or a migration.
    pub async fn is_stale(&self, key: &ObjectKey, doc: &Doc) -> ApiResult<bool> {
        if self.kind.info.custom.is_some() {
            let entry =
                self.server.store.get(&self.kind.storage_key(key)).await.map_err(|error| store_error(&error))?;
            let mut wanted = self.stored_form(doc).await?.into_owned();
            wanted.remove_at(&["metadata", "resourceVersion"]);
            if entry.is_some_and(|entry| Doc::parse(&entry.value).ok().as_ref() != Some(&wanted)) {
                return Ok(true);
            }
        }
        match &self.server.encrypted {
            Some(store) => store.is_stale(&self.kind.storage_key(key)).await.map_err(|error| store_error(&error)),
            None => Ok(false),
        }
    }
}

fn as_before(key: &Key, before: Option<u64>) -> Guard {
    match before {
        Some(revision) => Guard::At(key.clone(), Revision(revision)),
        None => Guard::Absent(key.clone()),
    }
}

/// A failure of the store as clients are told of it.
pub fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::TooLarge { .. } => ApiError::too_large(error.to_string()),
        StoreError::Unavailable(_) | StoreError::ReadOnly { .. } | StoreError::Full { .. } | StoreError::Closed => {
            ApiError::unavailable(error.to_string())
        }
        other => ApiError::internal(other),
    }
}
