//! Events: what people read in `kubectl describe`. Repeats are counted, not repeated.
//!
//! Follows client-go's recorder and its aggregation: the same reason and message about the same object raises the
//! count of the event that says so.

use std::{collections::VecDeque, sync::Arc};

use compact_str::CompactString as Text;
use k8s_core::{
    api::{
        api::core::v1::{Event, EventSource, ObjectReference},
        apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    },
    doc::Doc,
    object::Object,
    request::PatchKind,
    status::ApiResult,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::client::Client;

/// How many different events a recorder remembers in order to count repeats; older ones start anew.
pub const MAX_REMEMBERED: usize = 1024;

/// The longest message that is kept, in bytes, as upstream's.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes the events of one component. Cloning shares what is remembered.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    component: Text,
    host: Text,
    seen: Arc<Mutex<VecDeque<Seen>>>,
}

struct Seen {
    uid: Text,
    kind: EventType,
    reason: String,
    message: String,
    name: String,
    count: i32,
}

impl Recorder {
    /// A recorder that signs as `component` on `host` (empty where there is no host to speak of).
    pub fn new(client: Client, component: impl Into<Text>, host: impl Into<Text>) -> Self {
        Self { client, component: component.into(), host: host.into(), seen: Arc::default() }
    }

    /// Tells what happened to an object. A failure to tell is logged: events are advice, not state.
    pub async fn record(&self, object: &Object, kind: EventType, reason: &str, message: String) {
        self.record_field(object, "", kind, reason, message).await;
    }

    /// The same, about one part of the object, such as `spec.containers{web}`.
    pub async fn record_field(&self, object: &Object, field: &str, kind: EventType, reason: &str, message: String) {
        let message = clipped(message);
        let told = match self.count(object, kind, reason, &message) {
            Some((name, count)) => self.repeat(object, &name, count).await,
            None => self.create(object, field, kind, reason, message).await,
        };
        if let Err(error) = told {
            tracing::debug!(?object, reason, %error, "event was not recorded");
        }
    }

    /// Counts a repeat of a remembered event.
    fn count(&self, object: &Object, kind: EventType, reason: &str, message: &str) -> Option<(String, i32)> {
        let mut seen = self.seen.lock();
        let uid = &object.meta.uid;
        let same = |s: &&mut Seen| s.uid == *uid && s.kind == kind && s.reason == reason && s.message == message;
        let known = seen.iter_mut().find(same)?;
        known.count += 1;
        Some((known.name.clone(), known.count))
    }

    async fn repeat(&self, object: &Object, name: &str, count: i32) -> ApiResult<()> {
        let now = self.client.env().now();
        let patch = json!({"count": count, "lastTimestamp": Time(now)});
        let patch = Doc::from_serialize(&patch).map_err(k8s_core::status::ApiError::internal)?;
        let events = self.client.namespaced::<Event>(event_namespace(object));
        events.patch(name, PatchKind::Merge, patch).await.map(drop)
    }

    async fn create(
        &self,
        object: &Object,
        field: &str,
        kind: EventType,
        reason: &str,
        message: String,
    ) -> ApiResult<()> {
        let env = self.client.env();
        let now = Time(env.now());
        let name = format!("{}.{:016x}", object.meta.name, env.random());
        let namespace = event_namespace(object);
        self.remember(object, kind, reason, &message, &name);
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.into()), ..Default::default() },
            involved_object: reference(object, field),
            type_: Some(kind.as_str().into()),
            reason: Some(reason.into()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(self.component.to_string()),
                host: (!self.host.is_empty()).then(|| self.host.to_string()),
            }),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: (!self.host.is_empty()).then(|| self.host.to_string()),
            ..Default::default()
        };
        self.client.namespaced::<Event>(namespace).create(event).await.map(drop)
    }

    fn remember(&self, object: &Object, kind: EventType, reason: &str, message: &str, name: &str) {
        let mut seen = self.seen.lock();
        if seen.len() == MAX_REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Seen {
            uid: object.meta.uid.clone(),
            kind,
            reason: reason.into(),
            message: message.into(),
            name: name.into(),
            count: 1,
        });
    }
}

/// Events about cluster-scoped objects live in `default`, as upstream's.
fn event_namespace(object: &Object) -> &str {
    if object.meta.namespace.is_empty() { "default" } else { &object.meta.namespace }
}

fn clipped(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

fn reference(object: &Object, field: &str) -> ObjectReference {
    let meta = &object.meta;
    let text = |text: &Text| (!text.is_empty()).then(|| text.to_string());
    ObjectReference {
        api_version: text(&meta.api_version),
        kind: text(&meta.kind),
        name: text(&meta.name),
        namespace: text(&meta.namespace),
        uid: text(&meta.uid),
        resource_version: (object.revision() > 0).then(|| object.revision().to_string()),
        field_path: (!field.is_empty()).then(|| field.to_owned()),
    }
}
