//! The scheduler as a service: a snapshot kept true by informers, a queue, and the binding of what was decided.
//!
//! One loop owns the snapshot and the queue; bindings run beside it. A pod counts on its node from the decision on
//! (it is assumed there), so that the next decision need not wait for the write.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_core::{
    api::api::core::v1::{Node, Pod},
    doc::{Doc, Text},
    env::Task,
    object::{Object, ObjectKey},
    request::{ApiRequest, PatchKind, RequestBody, Target, Verb},
    resource::Resource,
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{
    Client, InformerScope,
    event::{EventType, Recorder},
    informer::{Delta, DynamicInformer, Handler, Subscription},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    decide::{Decision, schedule_one},
    framework::{ClusterChange, Profile},
    metrics::{AttemptResult, SchedulerMetrics},
    pod::PodInfo,
    queue::{Attempt, PodQueue},
    snapshot::Snapshot,
};

/// A scheduler to be.
pub struct Scheduler {
    profiles: Vec<Profile>,
}

/// A running scheduler. Dropping it stops it.
pub struct Running {
    task: Task,
    inbox: Arc<Inbox>,
    informers: Vec<DynamicInformer>,
    metrics: Arc<SchedulerMetrics>,
    _subscriptions: Vec<Subscription>,
}

impl Running {
    /// Stops it and waits until it has stopped.
    pub async fn stop(self) {
        self.task.stop().await;
    }

    /// Whether its caches have seen the cluster once.
    pub fn is_synced(&self) -> bool {
        self.informers.iter().all(DynamicInformer::is_synced)
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<SchedulerMetrics> {
        &self.metrics
    }

    /// Whether it has seen `revision` and has no pod to try and no binding on its way.
    pub fn is_settled(&self, revision: u64) -> bool {
        let inbox = self.inbox.state.lock();
        self.informers.iter().all(|informer| informer.revision() >= revision)
            && inbox.deltas.is_empty()
            && inbox.is_idle
    }
}

/// What the informers told and the loop has not taken yet.
#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Notify,
}

#[derive(Default)]
struct InboxState {
    deltas: VecDeque<Delta>,
    /// Whether the loop sleeps with nothing to do.
    is_idle: bool,
}

impl Scheduler {
    /// A scheduler with one profile.
    pub fn new(profile: Profile) -> Self {
        Self { profiles: vec![profile] }
    }

    /// The same with one more profile, for the pods that name it. The queue is in the order of the first one.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profiles.push(profile);
        self
    }

    /// Starts it.
    pub fn start(self, client: Client) -> Running {
        let inbox = Arc::new(Inbox::default());
        let informers = vec![
            client.dynamic_informer(Node::resource(), InformerScope::all()),
            client.dynamic_informer(Pod::resource(), InformerScope::all()),
        ];
        let subscriptions = informers.iter().map(|informer| informer.subscribe(deliver(inbox.clone()))).collect();
        let metrics = Arc::new(SchedulerMetrics::default());
        let mut work = Loop::new(self.profiles, client.clone(), inbox.clone(), informers.clone());
        work.metrics = metrics.clone();
        let task = client.env().spawn("scheduler", Box::pin(work.run()));
        Running { task, inbox, informers, metrics, _subscriptions: subscriptions }
    }
}

fn deliver(inbox: Arc<Inbox>) -> Handler {
    Arc::new(move |delta| {
        inbox.state.lock().deltas.push_back(delta.clone());
        inbox.arrived.notify_one();
    })
}

type Binding = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What became of a decision.
enum Outcome {
    Bound(ObjectKey),
    Failed(Attempt, ApiError),
    Told,
}

struct Loop {
    profiles: BTreeMap<String, Arc<Served>>,
    client: Client,
    metrics: Arc<SchedulerMetrics>,
    inbox: Arc<Inbox>,
    informers: Vec<DynamicInformer>,
    snapshot: Snapshot,
    queue: PodQueue,
    /// Pods that were decided but whose binding the informer has not shown yet, with their uid.
    assumed: BTreeMap<ObjectKey, String>,
    /// Pods as objects, for events.
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    bindings: FuturesUnordered<Binding>,
}

/// A profile, and who tells events in its name.
struct Served {
    profile: Profile,
    recorder: Recorder,
}

impl Loop {
    fn new(profiles: Vec<Profile>, client: Client, inbox: Arc<Inbox>, informers: Vec<DynamicInformer>) -> Self {
        let sort = profiles.first().map_or_else(|| Profile::default().sort, |profile| profile.sort.clone());
        let queue = PodQueue::new(sort);
        let serve = |profile: Profile| {
            let recorder = Recorder::new(client.clone(), profile.scheduler_name.as_str(), "");
            (profile.scheduler_name.clone(), Arc::new(Served { profile, recorder }))
        };
        let profiles = profiles.into_iter().map(serve).collect();
        Self {
            profiles,
            client,
            metrics: Arc::default(),
            inbox,
            informers,
            snapshot: Snapshot::default(),
            queue,
            assumed: BTreeMap::new(),
            objects: BTreeMap::new(),
            bindings: FuturesUnordered::new(),
        }
    }

    async fn run(mut self) {
        for informer in &self.informers {
            informer.synced().await;
        }
        loop {
            self.take_deltas();
            self.metrics.pending(self.queue.lengths());
            match self.queue.pop(self.now()) {
                Some(attempt) => self.attempt(attempt),
                None => self.wait().await,
            }
        }
    }

    fn now(&self) -> Duration {
        self.client.env().monotonic()
    }

    /// Sleeps until a delta, the end of a binding, or the end of a back-off.
    async fn wait(&mut self) {
        let wake = self.queue.next_ready().map(|at| at.saturating_sub(self.now()));
        let inbox = self.inbox.clone();
        {
            let mut state = inbox.state.lock();
            if !state.deltas.is_empty() {
                return;
            }
            state.is_idle = self.bindings.is_empty();
        }
        let timer: Pin<Box<dyn Future<Output = ()> + Send>> = match wake {
            Some(wait) => self.client.env().sleep(wait),
            None => Box::pin(futures::future::pending()),
        };
        let finished = tokio::select! {
            biased;
            () = inbox.arrived.notified() => None,
            Some(outcome) = self.bindings.next(), if !self.bindings.is_empty() => Some(outcome),
            () = timer => None,
        };
        inbox.state.lock().is_idle = false;
        if let Some(outcome) = finished {
            self.finish(outcome);
        }
    }

    fn take_deltas(&mut self) {
        let deltas = std::mem::take(&mut self.inbox.state.lock().deltas);
        for delta in deltas {
            match delta.object().meta.kind.as_str() {
                "Node" => self.node_changed(&delta),
                _ => self.pod_changed(&delta),
            }
        }
    }

    fn node_changed(&mut self, delta: &Delta) {
        let node = delta.new.as_ref().and_then(|object| object.typed::<Node>().ok());
        let Some(node) = node else {
            return self.snapshot.remove_node(&delta.object().meta.name);
        };
        self.snapshot.set_node(&node);
        let now = self.now();
        let old = delta.old.as_ref().and_then(|object| object.typed::<Node>().ok());
        for change in node_changes(old.as_deref(), &node) {
            self.queue.wake(change, now);
        }
    }

    fn pod_changed(&mut self, delta: &Delta) {
        let key = delta.object().meta.key();
        let now = self.now();
        let Some(object) = &delta.new else {
            self.assumed.remove(&key);
            self.objects.remove(&key);
            self.queue.remove(&key);
            self.snapshot.remove_pod(&key);
            return self.queue.wake(ClusterChange::PodRemoved, now);
        };
        if self.is_foreign(object) {
            return;
        }
        let Ok(pod) = object.typed::<Pod>() else { return };
        let pod = PodInfo::new(&pod);
        if !pod.node_name.is_empty() || pod.is_finished {
            self.assumed.remove(&key);
            self.objects.remove(&key);
            self.queue.remove(&key);
            self.snapshot.set_pod(&pod);
            let change = if pod.is_finished { ClusterChange::PodRemoved } else { ClusterChange::PodPlaced };
            return self.queue.wake(change, now);
        }
        let is_ours = self.profiles.contains_key(&pod.scheduler_name) && !pod.is_deleted;
        let is_decided = self.assumed.get(&key).is_some_and(|uid| *uid == pod.uid);
        if !is_ours {
            self.queue.remove(&key);
        } else if !is_decided {
            self.objects.insert(key, object.clone());
            self.queue.set(pod);
        }
    }

    /// Whether a pod is another scheduler's and on no node: nothing here depends on it, so it is not even decoded.
    /// The name of a pod's scheduler never changes.
    fn is_foreign(&self, object: &Object) -> bool {
        let name = || object.part::<Text>(&["spec", "schedulerName"]);
        object.meta.node_name.is_empty() && name().is_some_and(|name| !self.profiles.contains_key(name.as_str()))
    }

    fn attempt(&mut self, attempt: Attempt) {
        // Invariant: only pods of our profiles are queued, and the name of a pod's scheduler never changes.
        let Some(served) = self.profiles.get(&attempt.pod.scheduler_name).cloned() else { return };
        let (seed, began) = (self.client.env().random(), self.now());
        let decision = schedule_one(&self.snapshot, &attempt.pod, &served.profile, seed);
        let result = match &decision {
            Decision::Node { .. } => AttemptResult::Scheduled,
            Decision::Unschedulable { .. } => AttemptResult::Unschedulable,
        };
        self.metrics.attempted(&attempt.pod.scheduler_name, result, self.now().saturating_sub(began));
        match decision {
            Decision::Node { name, .. } => self.assume(attempt, name, &served),
            Decision::Unschedulable { message, filters } => {
                let wakes_on = served.profile.wakes_on(&filters);
                self.tell_unschedulable(&attempt.pod.key, message, &served);
                let now = self.now();
                match self.snapshot.len() {
                    0 => self.queue.no_nodes(attempt, now),
                    _ => self.queue.unschedulable(attempt, wakes_on, now),
                }
            }
        }
    }

    fn assume(&mut self, attempt: Attempt, node: String, served: &Served) {
        let key = attempt.pod.key.clone();
        self.assumed.insert(key.clone(), attempt.pod.uid.clone());
        self.snapshot.set_pod(&PodInfo { node_name: node.clone(), ..(*attempt.pod).clone() });
        let (client, recorder) = (self.client.clone(), served.recorder.clone());
        let object = self.objects.get(&key).cloned();
        self.bindings.push(Box::pin(async move {
            match bind(&client, &attempt.pod, &node).await {
                Ok(()) => {
                    if let Some(object) = object {
                        let message = format!("Successfully assigned {key} to {node}");
                        recorder.record(&object, EventType::Normal, "Scheduled", message).await;
                    }
                    Outcome::Bound(key)
                }
                Err(error) => Outcome::Failed(attempt, error),
            }
        }));
    }

    fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Told => {}
            Outcome::Bound(key) => {
                self.objects.remove(&key);
            }
            Outcome::Failed(attempt, error) => {
                let key = attempt.pod.key.clone();
                tracing::debug!(%key, %error, "binding failed");
                self.metrics.attempted(&attempt.pod.scheduler_name, AttemptResult::Error, Duration::ZERO);
                self.assumed.remove(&key);
                self.snapshot.remove_pod(&key);
                let now = self.now();
                self.queue.wake(ClusterChange::PodRemoved, now);
                // A pod that is gone or was bound by somebody else needs nothing: its own delta says so.
                if !error.is_not_found() {
                    self.queue.retry(attempt, now);
                }
            }
        }
    }

    /// Tells people why: a condition and an event, once per message.
    fn tell_unschedulable(&mut self, key: &ObjectKey, message: String, served: &Served) {
        let Some(object) = self.objects.get(key).cloned() else { return };
        let is_told = object.typed::<Pod>().is_ok_and(|pod| scheduled_message(&pod) == Some(&message));
        let (client, recorder) = (self.client.clone(), served.recorder.clone());
        self.bindings.push(Box::pin(async move {
            recorder.record(&object, EventType::Warning, "FailedScheduling", message.clone()).await;
            if !is_told && let Err(error) = set_unschedulable(&client, &object, &message).await {
                tracing::debug!(?object, %error, "condition was not written");
            }
            Outcome::Told
        }));
    }
}

fn scheduled_message(pod: &Pod) -> Option<&String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled")?.message.as_ref()
}

fn node_changes(old: Option<&Node>, new: &Node) -> Vec<ClusterChange> {
    let Some(old) = old else { return vec![ClusterChange::NodeAdded] };
    let taints = |node: &Node| node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable));
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let mut changes = Vec::new();
    if old.metadata.labels != new.metadata.labels {
        changes.push(ClusterChange::NodeLabels);
    }
    if taints(old) != taints(new) {
        changes.push(ClusterChange::NodeTaints);
    }
    if allocatable(old) != allocatable(new) {
        changes.push(ClusterChange::NodeAllocatable);
    }
    changes
}

async fn bind(client: &Client, pod: &PodInfo, node: &str) -> ApiResult<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.key.name.as_str(), "namespace": pod.key.namespace.as_str(), "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let target = Target::one(Pod::resource(), pod.key.namespace.clone(), pod.key.name.clone()).subresource("binding");
    let body = RequestBody::Doc(Doc::from_serialize(&binding).map_err(ApiError::internal)?);
    client.call(ApiRequest { verb: Verb::Create, target, body, ..Default::default() }).await.map(drop)
}

async fn set_unschedulable(client: &Client, object: &Object, message: &str) -> ApiResult<()> {
    let now = k8s_core::api::apimachinery::pkg::apis::meta::v1::Time(client.env().now());
    let patch = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": now,
    }]}});
    let patch = Doc::from_serialize(&patch).map_err(ApiError::internal)?;
    let pods = client.namespaced::<Pod>(object.meta.namespace.as_str());
    pods.patch_status(&object.meta.name, PatchKind::Strategic, patch).await.map(drop)
}
