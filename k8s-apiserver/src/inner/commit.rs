//! The last step of every write: one transaction, guarded, encoded once.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::{Meta, Object},
    registry::ResourceInfo,
    request::Fence,
    status::{ApiError, ApiResult},
};
use k8s_store::{Guard, Key, Op, Revision, StoreError, Transaction};

use super::Shared;
use crate::cache::Written;

/// The largest object, encoded: upstream's limit with etcd.
pub const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// A write that is ready.
pub(super) struct Write<'a> {
    pub info: &'a ResourceInfo,
    pub key: String,
    /// The object that is replaced; `None` for a creation.
    pub old: Option<&'a Arc<Object>>,
    /// What becomes of it; `None` for a deletion.
    pub doc: Option<&'a mut Doc>,
    pub fence: Option<&'a Fence>,
    /// Allocations that are taken or given back with it.
    pub extra: Transaction,
}

/// Why a write did not happen.
pub(super) enum Refused {
    /// Somebody else wrote the object first.
    Changed,
    /// An allocation was taken by somebody else first.
    Taken(String),
    /// Anything else.
    Error(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// The key whose revision marks the last change of a Lease's holder.
fn fence_key(namespace: &str, name: &str) -> String {
    format!("/registry/fences/{namespace}/{name}")
}

impl Shared {
    /// Commits a write; answers the object as stored (for a deletion: as it last was, at the deleting revision).
    pub(super) async fn commit(&self, write: Write<'_>) -> Result<Arc<Object>, Refused> {
        let Write { info, key, old, doc, fence, extra } = write;
        let key = Key::from(key);
        let guard = match old {
            Some(old) => Guard::At(key.clone(), Revision(old.revision())),
            None => Guard::Absent(key.clone()),
        };
        let mut transaction = extra.guard(guard);
        if let Some(fence) = fence {
            let fence_key = Key::from(fence_key(&fence.namespace, &fence.name));
            transaction = transaction.guard(Guard::At(fence_key, Revision(fence.revision)));
        }
        let written = match doc {
            Some(doc) => {
                let new_holder = (info.plural == "leases").then(|| new_holder(old, doc)).flatten();
                let (json, splice, meta) = Object::encode(doc)?;
                check_size(info, &meta, json.len())?;
                if let Some(holder) = new_holder {
                    transaction = transaction.put(fence_key(&meta.namespace, &meta.name), holder);
                }
                let written = Arc::new(Written::new(json.clone(), splice, meta));
                let attachment: k8s_store::Attachment = written.clone();
                transaction =
                    transaction.op(Op::Put { key: key.clone(), value: json, lease: None, attachment: Some(attachment) });
                Outcome::Written(written)
            }
            None => {
                transaction = transaction.delete(key.clone());
                Outcome::Deleted(old.ok_or_else(|| ApiError::internal("a deletion of nothing"))?.clone())
            }
        };
        match self.store.commit(transaction).await {
            Ok(committed) => {
                let revision = committed.revision.0;
                // Whoever decides by this kind has seen the write before its writer goes on.
                if self.kind(info)?.is_followed() {
                    self.cache.wait_for(revision).await?;
                }
                Ok(match written {
                    Outcome::Written(written) => written.object(revision),
                    Outcome::Deleted(old) => Arc::new(old.at_revision(revision)),
                })
            }
            Err(StoreError::Conflict { key: at, .. }) if at == key => Err(Refused::Changed),
            Err(StoreError::Conflict { key: at, .. }) if at.starts_with("/registry/fences/") => Err(lost_fence(info)),
            Err(StoreError::Conflict { key: at, .. }) => Err(Refused::Taken(at.to_string())),
            Err(error) => Err(unavailable(error).into()),
        }
    }
}

/// What a commit leaves.
enum Outcome {
    Written(Arc<Written>),
    Deleted(Arc<Object>),
}

fn lost_fence(info: &ResourceInfo) -> Refused {
    let why = "the leadership that this write depends on is lost";
    Refused::Error(ApiError::conflict(&info.plural, &info.group, "", why))
}

fn check_size(info: &ResourceInfo, meta: &Meta, bytes: usize) -> ApiResult<()> {
    if bytes <= MAX_OBJECT_BYTES {
        return Ok(());
    }
    let what = format!("{} {:?}", info.plural, meta.name);
    Err(ApiError::too_large(format!("{what} has {bytes} bytes; the limit is {MAX_OBJECT_BYTES}")))
}

/// A store that cannot answer, as the API says it.
pub(super) fn unavailable(error: StoreError) -> ApiError {
    match error {
        StoreError::TooLarge { bytes, limit } => {
            ApiError::too_large(format!("the object has {bytes} bytes; the limit is {limit}"))
        }
        StoreError::Closed => ApiError::unavailable("the API server is stopping"),
        other => ApiError::unavailable(format!("storage: {other}")),
    }
}

/// The holder that a write of a Lease brings in, if it changes.
fn new_holder(old: Option<&Arc<Object>>, new: &Doc) -> Option<String> {
    let holder = |doc: &Doc| doc.str_at(&["spec", "holderIdentity"]).to_owned();
    let before = old.and_then(|old| Doc::parse(old.stored_json()).ok()).map(|doc| holder(&doc));
    let after = holder(new);
    (before.as_deref() != Some(&after)).then_some(after)
}
