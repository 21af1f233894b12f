//! One kind under two names: `events.k8s.io` shows the Events of the core group in newer words, and the first version
//! of autoscalers shows those of the second in older ones.
//!
//! Both are stored once, Events in the form of the core group and autoscalers in that of version 2, as upstream stores
//! them. What comes in under the other name is judged and patched in its own words, and turned before it is stored; what
//! goes out is turned back. Names of top-level fields are turned by renaming, all else by the kind's own code.

mod autoscaler;

use std::{borrow::Cow, sync::Arc};

use futures::StreamExt;
use k8s_core::{
    doc::{Doc, Map},
    object::Object,
    registry::ResourceInfo,
    request::{ObjectList, ResponseBody, WatchEvent},
    status::{ApiError, ApiResult},
};

/// How a kind differs from the one that is stored.
pub struct View {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// `apiVersion` as it is shown and as it is stored.
    versions: (&'static str, &'static str),
    /// Fields as they are shown and as they are stored.
    fields: &'static [(&'static str, &'static str)],
    /// What is no renaming: how a document is shown and how it is stored.
    convert: Option<(Convert, Convert)>,
}

type Convert = fn(&mut Doc);

static VIEWS: [View; 2] = [AUTOSCALER, EVENT];

const AUTOSCALER: View = View {
    group: "autoscaling",
    version: "v1",
    kind: "HorizontalPodAutoscaler",
    versions: ("autoscaling/v1", "autoscaling/v2"),
    fields: &[],
    convert: Some((autoscaler::show, autoscaler::store)),
};

const EVENT: View = View {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    versions: ("events.k8s.io/v1", "v1"),
    fields: &[
        ("deprecatedCount", "count"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedSource", "source"),
        ("note", "message"),
        ("regarding", "involvedObject"),
        ("reportingController", "reportingComponent"),
    ],
    convert: None,
};

impl View {
    /// How this kind is shown, if it is not the stored one.
    pub fn of(info: &ResourceInfo) -> Option<&'static Self> {
        let is = |view: &&Self| view.group == info.group && view.version == info.version && view.kind == info.kind;
        VIEWS.iter().find(is)
    }

    /// A document as it is shown.
    pub fn show(&self, doc: &mut Doc) {
        self.rename(doc, self.versions.0, |(shown, stored)| (stored, shown));
        if let Some((show, _)) = self.convert {
            show(doc);
        }
    }

    /// A document as it is stored.
    pub fn store(&self, doc: &mut Doc) {
        self.rename(doc, self.versions.1, |(shown, stored)| (shown, stored));
        if let Some((_, store)) = self.convert {
            store(doc);
        }
    }

    /// The stored field that a selector means.
    pub fn stored_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let (first, rest) = path.find('.').map_or((path, ""), |dot| path.split_at(dot));
        match self.fields.iter().find(|(shown, _)| *shown == first) {
            Some((_, stored)) => format!("{stored}{rest}").into(),
            None => path.into(),
        }
    }

    /// An answer as it is shown.
    pub fn show_answer(&'static self, body: ResponseBody) -> ApiResult<ResponseBody> {
        Ok(match body {
            ResponseBody::Object(object) => ResponseBody::Object(self.object(&object)?),
            ResponseBody::Doc(mut doc) => {
                self.show(&mut doc);
                ResponseBody::Doc(doc)
            }
            ResponseBody::List(list) => {
                let items = list.items.iter().map(|object| self.object(object)).collect::<ApiResult<_>>()?;
                ResponseBody::List(ObjectList { items, ..list })
            }
            ResponseBody::Watch(events) => ResponseBody::Watch(Box::pin(events.map(|event| self.event(event?)))),
            other => other,
        })
    }

    fn event(&self, event: WatchEvent) -> ApiResult<WatchEvent> {
        Ok(match event {
            WatchEvent::Added(object) => WatchEvent::Added(self.object(&object)?),
            WatchEvent::Modified(object) => WatchEvent::Modified(self.object(&object)?),
            WatchEvent::Deleted(object) => WatchEvent::Deleted(self.object(&object)?),
            bookmark @ WatchEvent::Bookmark { .. } => bookmark,
        })
    }

    fn object(&self, object: &Object) -> ApiResult<Arc<Object>> {
        let parsed = Doc::parse(object.stored_json());
        let mut doc = parsed.map_err(|why| ApiError::internal(format!("stored object: {why}")))?;
        self.show(&mut doc);
        Ok(Arc::new(Object::from_doc(&mut doc, object.revision())?))
    }

    /// Renames the fields of a document, also where its managed fields name them.
    fn rename(
        &self,
        doc: &mut Doc,
        api_version: &str,
        way: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
    ) {
        let Some(object) = doc.as_object_mut() else { return };
        let renamed = |name: &str| self.fields.iter().map(|pair| way(*pair)).find(|(from, _)| *from == name);
        *object = turned(object, |name| renamed(name).map(|(_, to)| to.to_owned()));
        object.insert("apiVersion", api_version.into());
        let managers = doc.at_mut(&["metadata", "managedFields"]).map_or(&mut [][..], Doc::items_mut);
        for manager in managers {
            if let Some(owned) = manager.at_mut(&["fieldsV1"]).and_then(Doc::as_object_mut) {
                let of_owned = |name: &str| Some(format!("f:{}", renamed(name.strip_prefix("f:")?)?.1));
                *owned = turned(owned, of_owned);
            }
        }
    }
}

fn turned(map: &mut Map, renamed: impl Fn(&str) -> Option<String>) -> Map {
    let mut new = Map::with_capacity(map.len());
    for (name, value) in map.iter_mut() {
        let value = value.take();
        match renamed(name) {
            Some(name) => new.insert(name, value),
            None => new.insert(name.to_owned(), value),
        };
    }
    new
}
