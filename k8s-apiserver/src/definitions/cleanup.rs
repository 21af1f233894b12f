//! Emptying a kind whose definition is being deleted.

use k8s_core::{
    custom::CLEANUP_FINALIZER,
    doc::Doc,
    registry::ResourceInfo,
    request::{ApiRequest, Options, Propagation, Target, Verb},
    status::ApiResult,
};
use k8s_store::{Page, Transaction};

use super::{ask, named, own};
use crate::{
    admission::Trail,
    registry::{metadata_list, store_error},
    server::Inner,
};

/// Deletes what is left of a kind that is ending, and lets the definition go once nothing is. Answers whether there is
/// nothing to look at again.
pub(super) async fn finish(inner: &Inner, definition: &Doc) -> ApiResult<bool> {
    let finalizers = metadata_list(definition, "finalizers");
    let is_ending = !definition.str_at(&["metadata", "deletionTimestamp"]).is_empty();
    if !is_ending || !finalizers.iter().any(|name| name == CLEANUP_FINALIZER) {
        return Ok(true);
    }
    let (group, plural) = (definition.str_at(&["spec", "group"]), definition.str_at(&["spec", "names", "plural"]));
    let prefix = format!("/registry/{group}/{plural}/");
    if !is_empty(inner, &prefix).await? {
        let registry = inner.kinds.now();
        let mut kinds = registry.iter();
        let kind = kinds.find(|info| info.custom.is_some() && info.group == group && info.plural == plural);
        match kind {
            Some(kind) => delete_all(inner, kind).await?,
            None => remove_all(inner, &prefix).await?,
        }
        if !is_empty(inner, &prefix).await? {
            return Ok(false);
        }
    }
    let mut new = definition.clone();
    let left: Vec<_> = finalizers.into_iter().filter(|name| name != CLEANUP_FINALIZER).collect();
    new.set_at(&["metadata", "finalizers"], Doc::from(left));
    match ask(inner, Verb::Update, named(definition), new).await {
        Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
        done => Ok(done.is_ok()),
    }
}

async fn is_empty(inner: &Inner, prefix: &str) -> ApiResult<bool> {
    let page = Page { limit: Some(1), ..Page::all() };
    let listing = inner.store.list(prefix, page).await.map_err(|error| store_error(&error))?;
    Ok(listing.entries.is_empty())
}

/// Asks for the end of every object; finalizers of their own may hold them for a while.
async fn delete_all(inner: &Inner, kind: &std::sync::Arc<ResourceInfo>) -> ApiResult<()> {
    let options = Options { propagation: Some(Propagation::Background), ..Options::default() };
    let target = Target::all(kind.resource(), "");
    let request = ApiRequest { verb: Verb::DeleteCollection, target, options, ..ApiRequest::default() };
    inner.answer(&own(), kind, request, &Trail::default()).await.map(drop)
}

/// Removes the objects of a kind that is not served at any version: nobody can have a say.
async fn remove_all(inner: &Inner, prefix: &str) -> ApiResult<()> {
    let listing = inner.store.list(prefix, Page::all()).await.map_err(|error| store_error(&error))?;
    for entry in listing.entries {
        inner.store.commit(Transaction::new().delete(entry.key)).await.map_err(|error| store_error(&error))?;
    }
    Ok(())
}
