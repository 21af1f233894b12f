//! Custom kinds: what CustomResourceDefinitions say becomes what is served.
//!
//! One task looks at all definitions whenever one changes: it accepts names, serves the kinds that were accepted, says
//! so in each status, and empties a kind before its definition goes. It works by level: what it does follows from what
//! is there, so it may stop and start anywhere, and several servers on one store come to the same result.

mod catalog;
mod cleanup;
mod status;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_core::{
    doc::Doc,
    env,
    object::Object,
    registry::Registry,
    request::{ApiRequest, Caller, Options, RequestBody, ResourceType, Target, Verb},
    status::{ApiError, ApiResult},
};
use k8s_store::{Page, Store};

pub(crate) use self::catalog::Served;
use crate::{
    admission::Trail,
    cache::{Filter, KindCache},
    server::Inner,
};

/// How soon to look again at a kind that is being emptied, and after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// The resource of definitions.
pub(crate) fn definitions() -> ResourceType {
    ResourceType::new("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// The server's own identity, under which it keeps definitions.
fn own() -> Caller {
    Caller::new("system:apiserver", &["system:masters"]).with_agent("kube-apiserver")
}

/// Runs until the cache is closed.
pub(crate) async fn run(inner: Arc<Inner>, mut served: Served) {
    let Some(kind) = inner.cache.kind(&definitions()) else { return };
    loop {
        let seen = kind.state().revision;
        let wait = match reconcile(&inner, &kind, &mut served).await {
            Ok(true) => None,
            Ok(false) => Some(AGAIN),
            Err(error) => {
                tracing::warn!(%error, "custom resource definitions are looked at again");
                Some(AGAIN)
            }
        };
        if inner.cache.is_closed() {
            return;
        }
        match wait {
            None => changed_after(&inner, &kind, seen).await,
            Some(wait) => drop(env::timeout(&*inner.env, wait, changed_after(&inner, &kind, seen)).await),
        }
    }
}

/// Waits until a definition changes after a revision, or the cache is closed.
async fn changed_after(inner: &Inner, kind: &Arc<KindCache>, revision: u64) {
    let options = Options { resource_version: Some(revision.max(1)), ..Options::default() };
    match inner.cache.watch(kind, Filter::default(), &options).await {
        Ok(mut watch) => drop(watch.next().await),
        // What changed meanwhile is no longer known one by one.
        Err(_) => inner.env.sleep(AGAIN).await,
    }
}

/// The table of kinds as the definitions in a store have it.
pub(crate) async fn stored(store: &Arc<dyn Store>, served: &mut Served) -> ApiResult<Arc<Registry>> {
    let Some(info) = served.base.find(&definitions()).filter(|info| info.is_served()).cloned() else {
        return Ok(served.base.clone());
    };
    let listing = store.list(&info.storage_prefix(), Page::all()).await;
    let listing = listing.map_err(|error| ApiError::unavailable(format!("the store cannot be read: {error}")))?;
    // What cannot be read is left out here as it is by the cache, which tells of it.
    let objects = listing
        .entries
        .into_iter()
        .filter_map(|entry| Object::from_json(entry.value, Some(entry.modified.0)).ok().map(Arc::new));
    served.stored(objects)
}

/// Brings everything where it should be; whether nothing is left to be looked at without a change.
async fn reconcile(inner: &Inner, kind: &KindCache, served: &mut Served) -> ApiResult<bool> {
    served.read(&kind.state())?;
    let statuses = status::judge(served.definitions(), &served.base, inner.env.now());
    if let Some(registry) = served.registry(&statuses) {
        // The cache first: what is found in the table of kinds is there to be read.
        inner.cache.hold(registry.clone()).await?;
        inner.kinds.set(registry);
    }
    let mut is_done = true;
    for (definition, status) in served.definitions().zip(&statuses) {
        if definition.get("status") != Some(status) {
            is_done &= write_status(inner, definition, status).await?;
        }
    }
    for definition in served.definitions() {
        is_done &= cleanup::finish(inner, definition).await?;
    }
    Ok(is_done)
}

/// Writes a status; whether it was written. Who changed the definition meanwhile makes us look again.
async fn write_status(inner: &Inner, definition: &Doc, status: &Doc) -> ApiResult<bool> {
    let mut new = definition.clone();
    new.set_at(&["status"], status.clone());
    match ask(inner, Verb::Update, named(definition).subresource("status"), new).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn named(definition: &Doc) -> Target {
    Target::one(definitions(), "", definition.str_at(&["metadata", "name"]))
}

async fn ask(inner: &Inner, verb: Verb, target: Target, body: Doc) -> ApiResult<()> {
    let info = inner.kinds.now().served(&target.resource)?.clone();
    let request = ApiRequest { verb, target, body: RequestBody::Doc(body), ..ApiRequest::default() };
    inner.answer(&own(), &info, request, &Trail::default()).await.map(drop)
}
