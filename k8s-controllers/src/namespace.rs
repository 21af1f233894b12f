//! The namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! Follows upstream's ordered deletion: pods first, everything else after the last pod is gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_core::{
    api::api::core::v1::Namespace,
    registry::{Kinds, ResourceInfo},
    request::{ApiRequest, Options, Propagation, RequestBody, ResourceType, Target, Verb},
    resource::{Resource, Stored, encode},
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{Controller, Cx, Next, Reconciler};

/// How soon to look again while something is still there.
const AGAIN: Duration = Duration::from_secs(1);

/// The namespace controller for these kinds, also those that come later, ready to start.
pub fn controller(kinds: Arc<Kinds>) -> Controller<Namespaces> {
    Controller::new("namespace-controller", Namespaces { kinds }).workers(2)
}

/// Its reconciler.
pub struct Namespaces {
    kinds: Arc<Kinds>,
}

impl Reconciler for Namespaces {
    type Object = Namespace;
    type Error = ApiError;

    async fn reconcile(&self, namespace: Stored<Namespace>, cx: Cx) -> Result<Next, ApiError> {
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if namespace.object().meta.deleted.is_none() || !finalizers.iter().any(|name| name == "kubernetes") {
            return Ok(Next::Done);
        }
        if !self.empty(&namespace, &cx).await? {
            return Ok(Next::After(AGAIN));
        }
        finalize(&namespace, &cx).await?;
        Ok(Next::Done)
    }
}

impl Namespaces {
    /// Deletes what is left; answers whether nothing is.
    async fn empty(&self, namespace: &Stored<Namespace>, cx: &Cx) -> ApiResult<bool> {
        let pods = ResourceType::new("", "v1", "pods");
        if !empty_of(cx, namespace.name(), pods.clone()).await? {
            return Ok(false);
        }
        let (mut is_empty, mut seen) = (true, BTreeSet::new());
        for resource in self.kinds.now().iter().filter(|resource| is_deletable(resource)) {
            let kind = ResourceType::new(&*resource.group, &*resource.version, &*resource.plural);
            // All versions of a kind hold the same objects.
            if kind != pods && seen.insert((resource.group.clone(), resource.plural.clone())) {
                is_empty &= empty_of(cx, namespace.name(), kind).await?;
            }
        }
        Ok(is_empty)
    }
}

fn is_deletable(resource: &ResourceInfo) -> bool {
    resource.is_namespaced() && resource.supports(Verb::DeleteCollection) && resource.supports(Verb::List)
}

async fn empty_of(cx: &Cx, namespace: &str, resource: ResourceType) -> ApiResult<bool> {
    let target = Target::all(resource, namespace);
    let options = Options { limit: Some(1), ..Default::default() };
    match cx.client().list_objects(target.clone(), options.clone()).await {
        Ok(list) if list.items.is_empty() => return Ok(true),
        // The kind itself has gone, and its objects with it.
        Err(error) if error.is_not_found() => return Ok(true),
        found => drop(found?),
    }
    let deletion = Options { propagation: Some(Propagation::Background), ..Default::default() };
    let request =
        ApiRequest { verb: Verb::DeleteCollection, target: target.clone(), options: deletion, ..Default::default() };
    cx.client().call(request).await?;
    Ok(cx.client().list_objects(target, options).await?.items.is_empty())
}

/// Takes the `kubernetes` finalizer off, through the subresource that alone may do so.
async fn finalize(namespace: &Stored<Namespace>, cx: &Cx) -> ApiResult<()> {
    let mut draft = namespace.draft();
    if let Some(finalizers) = draft.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|name| name != "kubernetes");
    }
    let target = Target::one(Namespace::resource(), "", namespace.name()).subresource("finalize");
    let body = RequestBody::Doc(encode(&*draft)?);
    match cx.client().call(ApiRequest { verb: Verb::Update, target, body, ..Default::default() }).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
