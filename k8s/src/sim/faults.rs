//! What can be made to go wrong in a simulation, and the trace of what happened.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_core::{
    env::Env,
    request::{ApiRequest, ApiResponse, ResponseBody, Verb},
    seam::transport::Transport,
    signal::Signal,
    status::{ApiError, ApiResult},
};
use parking_lot::Mutex;

/// Faults to inject and the trace so far. Cloning shares.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    trace: Mutex<Vec<String>>,
    writes: Mutex<u64>,
    conflicts: Mutex<VecDeque<String>>,
    /// Components whose requests reach nobody.
    silent: Mutex<BTreeSet<String>>,
    /// Watches end when this changes.
    watch_epoch: Signal<u64>,
}

impl Faults {
    pub(crate) fn new(env: Env) -> Self {
        let shared = Shared {
            env,
            trace: Mutex::default(),
            writes: Mutex::default(),
            conflicts: Mutex::default(),
            silent: Mutex::default(),
            watch_epoch: Signal::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends every watch that is open now, without a word, as a lost connection does.
    pub fn drop_watches(&self) {
        self.shared.watch_epoch.modify(|epoch| *epoch += 1);
    }

    /// The next write by `who` (a component's name in the trace) fails with a conflict and does nothing.
    pub fn conflict(&self, who: &str) {
        self.shared.conflicts.lock().push_back(who.to_owned());
    }

    /// Nothing that `who` asks reaches the API server from now on; watches that are open go on.
    pub fn silence(&self, who: &str) {
        self.shared.silent.lock().insert(who.to_owned());
    }

    /// Ends a silence.
    pub fn hear(&self, who: &str) {
        self.shared.silent.lock().remove(who);
    }

    /// Every request so far and what became of it, in order.
    pub fn trace(&self) -> Vec<String> {
        self.shared.trace.lock().clone()
    }

    /// How many writes there were, heartbeats and events left out.
    pub(crate) fn writes(&self) -> u64 {
        *self.shared.writes.lock()
    }

    /// A transport that goes through these faults.
    pub(crate) fn wrap(&self, who: &str, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(Faulty { who: who.to_owned(), inner, shared: self.shared.clone() })
    }
}

struct Faulty {
    who: String,
    inner: Arc<dyn Transport>,
    shared: Arc<Shared>,
}

impl Faulty {
    fn takes_conflict(&self, request: &ApiRequest) -> bool {
        let mut conflicts = self.shared.conflicts.lock();
        let due = request.verb.is_write() && conflicts.front() == Some(&self.who);
        due && conflicts.pop_front().is_some()
    }

    fn record(&self, line: &str, outcome: &ApiResult<ApiResponse>) {
        let now = self.shared.env.monotonic();
        let what = match outcome {
            Ok(answer) => format!("{} {:?}", answer.code, answer.body),
            Err(error) => format!("{error:?}"),
        };
        self.shared.trace.lock().push(format!("{:.6} {} {line} -> {what}", now.as_secs_f64(), self.who));
    }
}

#[async_trait]
impl Transport for Faulty {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let target = &request.target;
        let line = format!(
            "{} {}/{} {}/{}",
            request.verb.as_str(),
            target.resource,
            target.subresource,
            target.namespace,
            target.name
        );
        let is_news = !matches!(target.resource.plural.as_str(), "leases" | "events");
        let is_write = request.verb.is_write();
        let is_watch = request.verb == Verb::Watch;
        let outcome = if self.shared.silent.lock().contains(&self.who) {
            Err(ApiError::unavailable("the connection is lost"))
        } else if self.takes_conflict(&request) {
            Err(ApiError::modified(&target.resource.plural, &target.resource.group, &target.name))
        } else {
            self.inner.call(request).await
        };
        self.record(&line, &outcome);
        if is_write && is_news && outcome.is_ok() {
            *self.shared.writes.lock() += 1;
        }
        let mut answer = outcome?;
        if is_watch && let ResponseBody::Watch(stream) = answer.body {
            let (shared, begun) = (self.shared.clone(), self.shared.watch_epoch.get());
            let dropped = async move { shared.watch_epoch.wait_for(|epoch| *epoch != begun).await };
            answer.body = ResponseBody::Watch(Box::pin(stream.take_until(Box::pin(dropped))));
        }
        Ok(answer)
    }
}
