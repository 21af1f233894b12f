//! What the agent tells people, in order and without ever waiting for it.

use std::sync::Arc;

use k8s_core::{
    env::{Env, Task},
    object::Object,
};
use k8s_reconcile::{
    Client,
    event::{EventType, Recorder},
};
use tokio::sync::mpsc;

use crate::plan::Severity;

/// How many events may wait to be written; further ones are dropped with a trace: events are advice, not state.
const MAX_QUEUED: usize = 1024;

/// Where events go. Cloning shares.
#[derive(Clone, Default)]
pub(crate) struct Events {
    queue: Option<mpsc::Sender<Event>>,
}

struct Event {
    object: Arc<Object>,
    field: String,
    kind: EventType,
    reason: &'static str,
    message: String,
}

impl Events {
    /// Writes events as `kubelet` on a node until the task is dropped.
    pub fn start(client: Client, env: &Env, node_name: &str) -> (Self, Task) {
        let (queue, mut waiting) = mpsc::channel::<Event>(MAX_QUEUED);
        let recorder = Recorder::new(client, "kubelet", node_name);
        let write = async move {
            while let Some(event) = waiting.recv().await {
                recorder.record_field(&event.object, &event.field, event.kind, event.reason, event.message).await;
            }
        };
        (Self { queue: Some(queue) }, env.spawn("node events", Box::pin(write)))
    }

    /// Tells about an object, or about one container of a pod.
    pub fn tell(
        &self,
        object: &Arc<Object>,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let Some(queue) = &self.queue else { return };
        let kind = match severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        let field = container.map(|name| format!("spec.containers{{{name}}}")).unwrap_or_default();
        let event = Event { object: object.clone(), field, kind, reason, message: message.into() };
        if queue.try_send(event).is_err() {
            tracing::debug!(reason, "too many events: one is not written");
        }
    }
}
