//! The audit log: who asked for what, when, and what came of it.
//!
//! Follows upstream's `audit.k8s.io/v1`: a policy decides how much of a request is noted, a request goes through stages,
//! and every stage is one event. Events are written behind the requests: a request that is noted costs a few microseconds,
//! and one that is not costs a look at the policy. Between requests and each sink stands a queue of [`MAX_QUEUED`] events
//! and [`MAX_QUEUED_BYTES`]; what does not fit is dropped and counted (`apiserver_audit_error_total`), because a disk or a
//! webhook that stands still must not stop the cluster.

mod event;
mod log;
mod ongoing;
mod policy;
mod queue;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_core::{env::Env, metrics::Samples, request::Caller};

use self::queue::Queue;
pub use self::{
    log::{LogFile, LogSettings},
    ongoing::{Arrival, Ongoing},
    policy::{Asked, AskedFor, Level, Policy, PolicyError, Stage},
    queue::{MAX_BATCH, MAX_QUEUED, MAX_QUEUED_BYTES},
    webhook::WebhookSink,
};

/// Where events go: a file, a webhook.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// For metrics and messages, such as `log`.
    fn name(&self) -> &'static str;

    /// Writes events, each one JSON object, in this order. The error says why they are lost.
    async fn write(&mut self, events: Vec<Bytes>) -> Result<(), String>;
}

/// The audit log of one server. Dropping it drops what is still queued; see [`Audit::flush`].
pub struct Audit {
    env: Env,
    policy: Policy,
    queues: Vec<Queue>,
    events: AtomicU64,
}

impl Audit {
    /// A log by this policy into these sinks.
    pub fn new(env: Env, policy: Policy, sinks: Vec<Box<dyn AuditSink>>) -> Arc<Self> {
        let queues = sinks.into_iter().map(|sink| Queue::start(&env, sink)).collect();
        Arc::new(Self { env, policy, queues, events: AtomicU64::new(0) })
    }

    /// A request begins; `None` if nothing of it is to be noted.
    pub fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        asked: &Asked<'_>,
        arrival: impl FnOnce() -> Arrival,
    ) -> Option<Arc<Ongoing>> {
        let verdict = self.policy.judge(caller, asked);
        if verdict.level == Level::None {
            return None;
        }
        let ongoing = Ongoing::new(self.clone(), verdict, caller, asked, arrival());
        ongoing.stage(Stage::RequestReceived, None);
        Some(Arc::new(ongoing))
    }

    /// Resolves when everything that was noted before has been written or given up. Cancel-safe.
    pub async fn flush(&self) {
        for queue in &self.queues {
            queue.flushed().await;
        }
    }

    /// The samples in the Prometheus text format.
    pub fn samples(&self) -> String {
        let mut out = Samples::default();
        let (name, help) = ("apiserver_audit_event_total", "Events that were noted.");
        out.single(name, "counter", help, self.events.load(Relaxed));
        let name = "apiserver_audit_error_total";
        out.family(name, "counter", "Events that were lost, by sink.");
        for queue in &self.queues {
            out.sample(name, &[("plugin", queue.sink)], queue.lost());
        }
        out.into_text()
    }

    /// Hands one event to every sink.
    fn note(&self, event: Bytes) {
        self.events.fetch_add(1, Relaxed);
        self.queues.iter().for_each(|queue| queue.push(event.clone()));
    }
}
