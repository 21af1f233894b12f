//! One pod's worker: looks, plans, writes status, starts operations, waits. It decides nothing itself.
//!
//! Everything about one pod happens in one task, in one order. Operations run side by side inside it, at most one per
//! [`OpKey`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use k8s_core::{
    api::api::core::v1::{Pod, PodStatus},
    env::{Timestamp, timeout},
    object::ObjectKey,
    resource::Stored,
    status::ApiError,
};
use tokio::sync::Notify;

use super::{
    Shared,
    perform::{self, Outcome},
    probes,
};
use crate::{
    plan::{Ladder, Notice, Observed, Op, OpKey, Plan, Severity, Volumes, plan, plan_orphan},
    probe::{Due, Prober},
    status::means_the_same,
};

/// How failed looks and status writes are spaced.
pub(crate) const RETRY: Ladder = Ladder { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// How long one status write may take before it is tried again.
const WRITE_LIMIT: Duration = Duration::from_secs(15);

/// How others wake a worker.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Arc<Notify>,
    runtime_news: AtomicBool,
}

impl Bell {
    /// The pod changed, or, with `runtime_news`, what the runtime has of it.
    pub fn ring(&self, runtime_news: bool) {
        if runtime_news {
            self.runtime_news.store(true, Ordering::Release);
        }
        self.rung.notify_one();
    }
}

/// The state of one worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    uid: String,
    key: Option<ObjectKey>,
    bell: Arc<Bell>,
    /// Told when something that the volumes show changes.
    volumes_changed: Arc<Notify>,
    pod: Option<Stored<Pod>>,
    observed: Observed,
    prober: Prober,
    running: FuturesUnordered<Abortable<BoxFuture<'static, Done>>>,
    under_way: BTreeMap<OpKey, (Op, AbortHandle)>,
    told: Vec<Notice>,
    /// Whether the runtime must be looked at before the next plan.
    stale: bool,
    failures: u32,
}

/// Something that ended.
// One lives from its end to the next turn of the loop: a box for each would save nothing.
#[allow(clippy::large_enum_variant)]
enum Done {
    Op(Box<Op>, Outcome),
    Probe(Box<Due>, Result<(), String>),
}

/// What a round of the worker leads to.
enum Next {
    Wait(Option<Timestamp>),
    Again,
    Over,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, uid: String, key: Option<ObjectKey>, bell: Arc<Bell>) -> Self {
        let observed = Observed { host: shared.host.clone(), ..Observed::default() };
        Self {
            shared,
            uid,
            key,
            bell,
            volumes_changed: Arc::default(),
            pod: None,
            observed,
            prober: Prober::default(),
            running: FuturesUnordered::new(),
            under_way: BTreeMap::new(),
            told: vec![],
            stale: true,
            failures: 0,
        }
    }

    /// Works until nothing is left of the pod.
    pub async fn run(mut self) {
        loop {
            match self.round().await {
                Next::Over => return,
                Next::Again => {}
                Next::Wait(wake) => self.wait(wake).await,
            }
        }
    }

    async fn round(&mut self) -> Next {
        if self.bell.runtime_news.swap(false, Ordering::AcqRel) {
            self.stale = true;
        }
        self.read_pod();
        if self.stale
            && let Err(error) = self.look().await
        {
            tracing::warn!(uid = self.uid, %error, "the container runtime cannot be looked at");
            return self.retry();
        }
        let now = self.shared.env.now();
        let Some(pod) = self.pod.clone() else { return self.orphan(now) };
        self.admit(&pod).await;
        self.follow_probes(&pod, now);
        let plan = plan(&pod, &self.observed, now);
        if plan.stopping {
            self.observed.history.stopping_since.get_or_insert(now);
            self.abort_starts();
        }
        self.tell(&pod, &plan);
        if !pod.status.as_ref().is_some_and(|known| means_the_same(known, &plan.status)) {
            return self.write(pod, plan.status.clone(), &plan).await;
        }
        self.failures = 0;
        if self.start(&pod, plan.ops) {
            return Next::Over;
        }
        Next::Wait(earliest(plan.next_wake, self.prober.next_wake()))
    }

    /// The pod as the informer has it, unless our own write is newer.
    fn read_pod(&mut self) {
        let read = self.key.as_ref().and_then(|key| self.shared.pods.get(key)).filter(|pod| pod.uid() == self.uid);
        match (&self.pod, &read) {
            (Some(known), Some(read)) if read.revision() < known.revision() => return,
            (Some(known), Some(read)) if shows_other_metadata(known, read) => self.refresh_volumes(),
            _ => {}
        }
        self.pod = read;
    }

    fn refresh_volumes(&mut self) {
        if let Volumes::Ready { refresh_at } = &mut self.observed.volumes {
            *refresh_at = Some(self.shared.env.now());
        }
    }

    async fn look(&mut self) -> Result<(), crate::runtime::RuntimeError> {
        let sight = self.shared.observatory.look().await?;
        let sight = sight.get(&self.uid).cloned().unwrap_or_default();
        (self.observed.sandboxes, self.observed.containers) = (sight.sandboxes, sight.containers);
        self.stale = false;
        let sandboxes: BTreeSet<&String> = self.observed.sandboxes.iter().map(|sandbox| &sandbox.id).collect();
        self.observed.addresses.retain(|id, _| sandboxes.contains(id));
        self.read_messages().await;
        Ok(())
    }

    async fn read_messages(&mut self) {
        let Some(pod) = &self.pod else { return };
        for container in &self.observed.containers {
            let ended = crate::plan::exit_of(container).is_some();
            if ended && !self.observed.messages.contains_key(&container.id) {
                let message = self.shared.provision.termination_message(pod, container).await;
                self.observed.messages.insert(container.id.clone(), message);
            }
        }
        let there: BTreeSet<&String> = self.observed.containers.iter().map(|container| &container.id).collect();
        self.observed.messages.retain(|id, _| there.contains(id));
    }

    fn retry(&mut self) -> Next {
        self.failures += 1;
        let wait = RETRY.delay(self.failures);
        Next::Wait(self.shared.env.now().checked_add(wait).ok())
    }

    /// A pod that has left traces here was admitted before.
    async fn admit(&mut self, pod: &Stored<Pod>) {
        if self.observed.history.rejection.is_some() {
            return;
        }
        let is_new = self.observed.sandboxes.is_empty() && pod.metadata.deletion_timestamp.is_none();
        if let Err(rejection) = self.shared.admit(pod, is_new).await {
            self.shared.events.tell(
                pod.object(),
                None,
                Severity::Warning,
                "FailedAdmission",
                rejection.message.clone(),
            );
            self.observed.history.rejection = Some(rejection);
        }
    }

    fn follow_probes(&mut self, pod: &Stored<Pod>, now: Timestamp) {
        probes::follow(&mut self.prober, pod, &self.observed);
        for due in self.prober.take_due(now) {
            let work = probes::perform(self.shared.clone(), pod, &self.observed, &due);
            self.spawn(Box::pin(async move {
                let result = work.await;
                Done::Probe(Box::new(due), result)
            }));
        }
        self.observed.probes = self.prober.results();
    }

    /// A stopping pod waits for no start: what a start has made so far is found by the next look.
    fn abort_starts(&mut self) {
        let starts = |op: &Op| matches!(op, Op::RunContainer { .. } | Op::MountVolumes);
        for (op, abort) in self.under_way.values() {
            if starts(op) {
                abort.abort();
            }
        }
        self.stale |= self.under_way.values().any(|(op, _)| starts(op));
        self.under_way.retain(|_, (op, _)| !starts(op));
        self.observed.starting.clear();
    }

    fn tell(&mut self, pod: &Stored<Pod>, plan: &Plan) {
        for notice in plan.notices.iter().filter(|notice| !self.told.contains(notice)) {
            let container = notice.container.as_deref();
            self.shared.events.tell(pod.object(), container, notice.severity, notice.reason, notice.message.clone());
        }
        self.told.clone_from(&plan.notices);
    }

    /// Writes the status, and starts what may start before it is written.
    async fn write(&mut self, pod: Stored<Pod>, status: PodStatus, plan: &Plan) -> Next {
        // What takes traces away waits until the status that tells of them is written.
        let safe = |op: &&Op| !matches!(op, Op::RemoveSandbox { .. } | Op::CleanUp | Op::Finish);
        let ops = plan.ops.iter().filter(safe).cloned().collect();
        self.start(&pod, ops);
        let mut draft = pod.draft();
        draft.status = Some(status);
        let pods = self.shared.client.namespaced::<Pod>(pod.namespace());
        let env = self.shared.env.clone();
        let writing = async move { timeout(&*env, WRITE_LIMIT, pods.update_status(draft)).await };
        let written = self.meanwhile(writing).await;
        match written.unwrap_or_else(|| Err(ApiError::timeout("the API server does not answer"))) {
            Ok(written) => {
                // A server that keeps the status in a form of its own must not be asked again and again.
                let same = means_the_same(&written.status, &pod.status);
                self.pod = Some(written);
                if same { self.retry() } else { Next::Again }
            }
            Err(error) => self.not_written(&pod, &error).await,
        }
    }

    /// Awaits `work` while operations go on.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T> + Send) -> T {
        let mut work = std::pin::pin!(work);
        let mut done = vec![];
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                Some(finished) = self.running.next(), if !self.running.is_empty() => done.extend(finished.ok()),
            }
        };
        done.into_iter().for_each(|done| self.settle(done));
        result
    }

    async fn not_written(&mut self, pod: &Stored<Pod>, error: &ApiError) -> Next {
        tracing::debug!(?pod, %error, "pod status was not written");
        if error.is_conflict() || error.is_not_found() {
            let pods = self.shared.client.namespaced::<Pod>(pod.namespace());
            match pods.find(pod.name()).await {
                Ok(Some(fresh)) if fresh.uid() == self.uid => {
                    let moved = fresh.revision() != pod.revision();
                    self.pod = Some(fresh);
                    return if moved { Next::Again } else { self.retry() };
                }
                Ok(_) => {
                    // Gone: the informer will say so too; until then nothing is planned from the stale copy.
                    (self.pod, self.key) = (None, None);
                    return Next::Again;
                }
                Err(_) => {}
            }
        }
        self.retry()
    }

    fn orphan(&mut self, now: Timestamp) -> Next {
        self.observed.history.stopping_since.get_or_insert(now);
        self.abort_starts();
        self.prober = Prober::default();
        let ops = plan_orphan(&self.observed, now);
        if ops.is_empty() && self.under_way.is_empty() && self.observed.history.failures.is_empty() {
            return Next::Over;
        }
        for op in ops {
            self.begin(None, op);
        }
        let until = self.observed.history.failures.values().map(|failure| failure.until).min();
        Next::Wait(until.filter(|until| *until > now))
    }

    /// Starts what is not under way already; answers whether the pod's object is gone for good.
    fn start(&mut self, pod: &Stored<Pod>, ops: Vec<Op>) -> bool {
        for op in ops {
            if op == Op::Finish && self.observed.history.finished {
                return true;
            }
            self.begin(Some(pod.clone()), op);
        }
        false
    }

    fn begin(&mut self, pod: Option<Stored<Pod>>, op: Op) {
        let key = op.key();
        if let Some((running, abort)) = self.under_way.get(&key) {
            if !op.replaces(running) {
                return;
            }
            abort.abort();
        }
        // The last steps wait for everything else: nothing may come up behind their back.
        if matches!(op, Op::CleanUp | Op::Finish) && !self.under_way.is_empty() {
            return;
        }
        if let Op::RunContainer { id, .. } = &op {
            self.observed.starting.insert(id.clone());
        }
        let work = perform::perform(self.shared.clone(), pod, op.clone(), self.scene());
        if let Op::StopContainer { id, .. } = &op {
            self.observed.history.hooks_run.insert(id.clone());
        }
        let done = op.clone();
        let abort = self.spawn(Box::pin(async move {
            let outcome = work.await;
            Done::Op(Box::new(done), outcome)
        }));
        self.under_way.insert(key, (op, abort));
    }

    fn scene(&self) -> perform::Scene {
        perform::Scene {
            uid: self.uid.clone(),
            addresses: self.observed.addresses.clone(),
            sandboxes: self.observed.sandboxes.clone(),
            stopped: self.observed.history.hooks_run.clone(),
            volumes_changed: self.volumes_changed.clone(),
        }
    }

    fn spawn(&mut self, work: BoxFuture<'static, Done>) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        self.running.push(Abortable::new(work, registration));
        handle
    }

    async fn wait(&mut self, wake: Option<Timestamp>) {
        let shared = self.shared.clone();
        let sleep = async {
            match wake.map(|wake| wake.duration_since(shared.env.now())) {
                Some(left) => shared.env.sleep(Duration::try_from(left).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(done) = self.running.next(), if !self.running.is_empty() => {
                // An aborted operation was taken off the books when it was aborted.
                if let Ok(done) = done {
                    self.settle(done);
                }
            }
            () = self.bell.rung.notified() => {}
            () = self.volumes_changed.notified() => self.refresh_volumes(),
            () = sleep => {}
        }
    }

    fn settle(&mut self, done: Done) {
        let now = self.shared.env.now();
        match done {
            Done::Op(op, outcome) => {
                if self.under_way.get(&op.key()).is_some_and(|(running, _)| *running == *op) {
                    self.under_way.remove(&op.key());
                }
                if let Op::RunContainer { id, .. } = &*op {
                    self.observed.starting.remove(id);
                }
                self.stale |= !matches!(*op, Op::MountVolumes | Op::CleanUp | Op::Finish);
                perform::record(&mut self.observed, &op, outcome, now);
            }
            Done::Probe(due, result) => {
                self.prober.record(&due.id, due.kind, result.is_ok(), now);
                if let (Err(message), Some(pod)) = (result, &self.pod) {
                    let message = format!("{} probe failed: {message}", due.kind);
                    self.shared.events.tell(pod.object(), Some(&due.name), Severity::Warning, "Unhealthy", message);
                }
            }
        }
    }
}

/// Whether downward API volumes may show something else now.
fn shows_other_metadata(one: &Pod, other: &Pod) -> bool {
    let (one, other) = (&one.metadata, &other.metadata);
    one.labels != other.labels || one.annotations != other.annotations
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
