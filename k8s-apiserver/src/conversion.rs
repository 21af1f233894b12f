//! Conversion of custom objects between versions by a webhook (`spec.conversion.strategy: Webhook`).
//!
//! The watch cache holds objects as they are stored, whatever version that is, and never asks a webhook: one task feeds
//! every kind, and a webhook that is slow or away must cost its own kind alone. So conversion stands where objects leave
//! the cache towards a client and where they enter the store ([`crate::registry`]), and those that are at the right
//! version already pass by. Kinds without a webhook have no [`Converter`], and nothing waits for one.
//!
//! - Objects of one answer are converted together: a list in a few reviews, a watch in one for all that has come, and
//!   watches of the same kind and version one after the other.
//! - What was converted is kept, within a bound, until the object or the definition changes.
//! - A selector is judged after conversion, since a webhook may change labels and move fields: the cache lets objects of
//!   another version pass ([`crate::cache::Filter::version`]).
//! - When the webhook does not answer, reads and writes of what needs it fail, and a watch ends with an error in front of
//!   the change that could not be told: whoever resumes gets that change, and nothing is lost.

mod review;
mod selected;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    custom::CustomKind,
    doc::Doc,
    env::{self, Env},
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    status::{ApiError, ApiResult, Reason, Status},
};
use parking_lot::Mutex;

pub(crate) use self::selected::Selected;
use crate::{
    admission::Cluster,
    webhook::{ClientConfig, Webhooks},
};

/// How long a review may take, as upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long one watch waits for another that converts.
const TURN: Duration = Duration::from_secs(1);
/// At most this many objects are sent at once.
pub(crate) const BATCH: usize = 256;
/// About so many bytes of JSON are sent at once, unless one object alone has more.
const BATCH_BYTES: usize = 4 << 20;
/// About so many bytes of converted objects are kept for each version of a kind.
const KEPT_BYTES: usize = 16 << 20;

/// Turns objects of one kind into those of one version, and back into those that are stored.
pub struct Converter {
    client: ClientConfig,
    /// Of `ConversionReview`; `None` if none that the webhook knows is known here.
    review_version: Option<&'static str>,
    api_version: String,
    custom: Arc<CustomKind>,
    kept: Mutex<Kept>,
    /// Whose turn it is among those who watch.
    turn: tokio::sync::Mutex<()>,
}

/// What was converted last.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    bytes: usize,
}

/// What it takes to ask a webhook.
pub struct Asking<'a> {
    /// Draws the names of questions.
    pub env: &'a Env,
    /// Calls.
    pub webhooks: &'a Webhooks,
    /// Where services are looked up.
    pub cluster: &'a Cluster,
}

impl Converter {
    /// Of a version of a custom kind; `None` for a kind that no webhook converts.
    pub fn of(info: &ResourceInfo) -> Option<Self> {
        let custom = info.custom.as_ref()?;
        let conversion = custom.conversion.as_ref()?;
        let known = |name: &str| review::VERSIONS.into_iter().find(|version| *version == name);
        Some(Self {
            client: ClientConfig::of(&conversion.client),
            review_version: conversion.review_versions.iter().find_map(|version| known(version)),
            api_version: info.api_version(),
            custom: custom.clone(),
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// `objects` at this version, in their order. 500 when the webhook does not answer as it should.
    pub async fn shown(&self, asking: &Asking<'_>, mut objects: Vec<Arc<Object>>) -> ApiResult<Vec<Arc<Object>>> {
        let mut strange = Vec::new();
        for (place, object) in objects.iter_mut().enumerate() {
            if object.meta.api_version == self.api_version {
                continue;
            }
            match self.kept.lock().get(object) {
                Some(known) => *object = known,
                None => strange.push(place),
            }
        }
        let mut rest = &strange[..];
        while !rest.is_empty() {
            let sizes = rest.iter().map(|place| objects[*place].stored_json().len());
            let (now, later) = rest.split_at(batch(sizes));
            rest = later;
            let parsed = now.iter().map(|place| Doc::parse(objects[*place].stored_json()));
            let docs = parsed.collect::<Result<Vec<Doc>, _>>();
            let docs = docs.map_err(|why| ApiError::internal(format!("stored object: {why}")))?;
            let converted = self.ask(asking, docs, &self.api_version).await?;
            for (place, mut doc) in now.iter().zip(converted) {
                self.custom.shape(&self.api_version, &mut doc);
                let object = Arc::new(Object::from_doc(&mut doc, objects[*place].revision())?);
                self.kept.lock().put(&object);
                objects[*place] = object;
            }
        }
        Ok(objects)
    }

    /// The same for one of several who are told of the same changes: they take turns, so that one asks and the others find
    /// what it was told. Nobody waits for others longer than [`TURN`].
    pub async fn shown_in_turn(&self, asking: &Asking<'_>, objects: Vec<Arc<Object>>) -> ApiResult<Vec<Arc<Object>>> {
        let is_unknown = |object: &Arc<Object>| {
            object.meta.api_version != self.api_version && self.kept.lock().get(object).is_none()
        };
        let _turn = match objects.iter().any(is_unknown) {
            true => env::timeout(&**asking.env, TURN, self.turn.lock()).await,
            false => None,
        };
        self.shown(asking, objects).await
    }

    /// A document at this version.
    pub async fn shown_doc(&self, asking: &Asking<'_>, doc: Doc) -> ApiResult<Doc> {
        let mut doc = self.one(asking, doc, &self.api_version).await?;
        self.custom.shape(&self.api_version, &mut doc);
        Ok(doc)
    }

    /// A document as it is stored, without a revision.
    pub async fn stored(&self, asking: &Asking<'_>, doc: &Doc) -> ApiResult<Doc> {
        let mut doc = doc.clone();
        doc.remove_at(&["metadata", "resourceVersion"]);
        let doc = self.one(asking, doc, &self.custom.stored_as).await?;
        Ok(self.custom.store(&doc))
    }

    async fn one(&self, asking: &Asking<'_>, doc: Doc, api_version: &str) -> ApiResult<Doc> {
        if doc.str_at(&["apiVersion"]) == api_version {
            return Ok(doc);
        }
        let mut converted = self.ask(asking, vec![doc], api_version).await?;
        // Invariant: as many come back as were sent.
        Ok(converted.pop().unwrap_or_default())
    }

    /// Asks once, for documents of other versions than the one that is wanted; at least one.
    async fn ask(&self, asking: &Asking<'_>, docs: Vec<Doc>, api_version: &str) -> ApiResult<Vec<Doc>> {
        let version = self.review_version.ok_or_else(|| failed("no supported conversion review versions"))?;
        let uid = asking.env.uuid();
        let (first, docs) = (review::described(&docs), Doc::Array(docs));
        let body = review::write(version, &uid, api_version, docs.clone());
        let parameters = format!("timeout={}s", TIMEOUT.as_secs());
        let answer = asking.webhooks.call(asking.cluster, &self.client, &parameters, TIMEOUT, body).await;
        let answer = answer.map_err(|why| failed(format!("conversion webhook for {first} failed: {why}")))?;
        review::read(&answer, version, &uid, api_version, docs.items())
            .map_err(|why| failed(format!("conversion webhook for {first} {why}")))
    }
}

impl Kept {
    fn get(&self, object: &Object) -> Option<Arc<Object>> {
        let known = self.objects.get(&object.meta.key())?;
        let is_same = known.revision() == object.revision() && known.meta.uid == object.meta.uid;
        is_same.then(|| known.clone())
    }

    /// Keeps an object in place of an older form of it. What is full begins anew.
    fn put(&mut self, object: &Arc<Object>) {
        let size = object.stored_json().len();
        if self.bytes + size > KEPT_BYTES {
            *self = Self::default();
        }
        let key = object.meta.key();
        if self.objects.get(&key).is_some_and(|known| known.revision() > object.revision()) {
            return;
        }
        self.bytes += size;
        if let Some(before) = self.objects.insert(key, object.clone()) {
            self.bytes -= before.stored_json().len();
        }
    }
}

/// How many objects of these sizes are sent at once: at least one.
fn batch(sizes: impl Iterator<Item = usize>) -> usize {
    let mut total = 0;
    let fits = |size: &usize| {
        total += size;
        total <= BATCH_BYTES
    };
    sizes.take(BATCH).take_while(fits).count().max(1)
}

/// 500, and as upstream without a reason: what the message says is all that is known.
fn failed(why: impl Into<String>) -> ApiError {
    let status = ApiError::new(500, Reason::Unknown, why).status().clone();
    ApiError::from_status(Status { reason: None, ..status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_number_and_size_and_hold_one_at_least() {
        assert_eq!(batch(std::iter::repeat_n(10, 1000)), BATCH);
        assert_eq!(batch([BATCH_BYTES / 2, BATCH_BYTES / 2, 1].into_iter()), 2);
        assert_eq!(batch([BATCH_BYTES * 2, 1].into_iter()), 1);
    }
}
