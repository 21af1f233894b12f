//! Reads and writes of kinds whose versions a webhook converts ([`crate::conversion`]). All others pass by at once.

use std::{borrow::Cow, sync::Arc};

use futures::{StreamExt, future, stream};
use k8s_core::{
    doc::Doc,
    object::Object,
    request::{ObjectList, Options, WatchEvent, WatchStream},
    status::{ApiError, ApiResult, Reason, Status},
};

use super::operation::Operation;
use crate::{
    admission::Cluster,
    cache::{Filter, KindCache},
    conversion::{Asking, BATCH, Selected},
    server::Inner,
};

impl Operation<'_> {
    /// An object of the store or the cache at the version that was asked for.
    pub async fn converted(&self, object: Arc<Object>) -> ApiResult<Arc<Object>> {
        let Some(converter) = &self.kind.converter else { return Ok(object) };
        let mut converted = converter.shown(&asking(self.server), vec![object]).await?;
        // Invariant: as many come back as were given.
        converted.pop().ok_or_else(|| ApiError::internal("an object was lost in its conversion"))
    }

    /// A document of this kind as it is stored.
    pub(super) async fn stored_form<'d>(&self, doc: &'d Doc) -> ApiResult<Cow<'d, Doc>> {
        if self.kind.is_stored_form() {
            return Ok(Cow::Borrowed(doc));
        }
        match (&self.kind.converter, &self.kind.info.custom) {
            (Some(converter), _) => converter.stored(&asking(self.server), doc).await.map(Cow::Owned),
            (None, Some(custom)) => Ok(Cow::Owned(custom.store(doc))),
            (None, None) => Ok(Cow::Borrowed(doc)),
        }
    }

    /// A list of the cache at the version that was asked for.
    pub async fn listed(&self, filter: &Filter, options: &Options) -> ApiResult<ObjectList> {
        let list = self.server.cache.list(self.kind, filter, options).await?;
        let Some(converter) = &self.kind.converter else { return Ok(list) };
        let mut items = converter.shown(&asking(self.server), list.items).await?;
        // With selectors, a page of fewer than were asked for is a page.
        items.retain(|object| filter.matches(object));
        Ok(ObjectList { items, ..list })
    }

    /// A watch of the cache at the version that was asked for. It ends with an error in front of what could not be
    /// converted.
    pub async fn watched(&self, filter: Filter) -> ApiResult<WatchStream> {
        let mut selected = (!filter.version.is_empty()).then(|| Selected::by(&filter));
        let events = self.server.cache.watch(self.kind, filter, self.options()).await?;
        if self.kind.converter.is_none() {
            return Ok(events);
        }
        let (kind, caller) = (self.kind.clone(), Arc::new(Caller::of(self.server)));
        let converted = events.ready_chunks(BATCH).then(move |chunk| {
            let (kind, caller) = (kind.clone(), caller.clone());
            async move { told(&kind, &caller, chunk).await }
        });
        let judged = converted.flat_map(stream::iter).filter_map(move |event| {
            future::ready(match (event, &mut selected) {
                (Ok(event), Some(selected)) => selected.judge(event).map(Ok),
                (event, _) => Some(event),
            })
        });
        let ended = judged.scan(false, |has_ended, event| {
            let before = std::mem::replace(has_ended, event.is_err());
            future::ready((!before).then_some(event))
        });
        Ok(Box::pin(ended))
    }
}

/// What a watch needs for as long as it goes on.
struct Caller {
    env: k8s_core::env::Env,
    webhooks: Arc<crate::webhook::Webhooks>,
    cluster: Cluster,
}

impl Caller {
    fn of(server: &Inner) -> Self {
        Self {
            env: server.env.clone(),
            webhooks: server.webhooks.clone(),
            cluster: Cluster::new(server.cache.clone(), server.kinds.clone()),
        }
    }
}

fn asking(server: &Inner) -> Asking<'_> {
    Asking { env: &server.env, webhooks: &server.webhooks, cluster: &server.cluster }
}

/// Events with their objects at the version of the kind, or the error that stands for all of them.
async fn told(kind: &KindCache, caller: &Caller, events: Vec<ApiResult<WatchEvent>>) -> Vec<ApiResult<WatchEvent>> {
    let Some(converter) = &kind.converter else { return events };
    let asking = Asking { env: &caller.env, webhooks: &caller.webhooks, cluster: &caller.cluster };
    let objects = events.iter().flatten().filter_map(WatchEvent::object).cloned().collect();
    let mut objects = match converter.shown_in_turn(&asking, objects).await {
        Ok(objects) => objects.into_iter(),
        Err(error) => return vec![Err(in_a_watch(&error))],
    };
    let next = |event| match event {
        Ok(event) => Ok(with_object(event, &mut objects)),
        Err(error) => Err(error),
    };
    events.into_iter().map(next).collect()
}

/// An event with the next object in place of its own, if it has one.
fn with_object(event: WatchEvent, objects: &mut impl Iterator<Item = Arc<Object>>) -> WatchEvent {
    let mut next = |object| objects.next().unwrap_or(object);
    match event {
        WatchEvent::Added(object) => WatchEvent::Added(next(object)),
        WatchEvent::Modified(object) => WatchEvent::Modified(next(object)),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(next(object)),
        bookmark @ WatchEvent::Bookmark { .. } => bookmark,
    }
}

/// Upstream gives the errors that end watches a reason that it does not give others.
fn in_a_watch(error: &ApiError) -> ApiError {
    let status = error.status().clone();
    ApiError::from_status(Status { reason: status.reason.or(Some(Reason::InternalError)), ..status })
}
