//! The node agent: keeps the pods that are bound to this node as their plans want them.
//!
//! One worker per pod carries out what [`crate::plan`] decides; this shell decides nothing. The agent may end and start
//! again at any time: containers run on, and what there is of each pod is read from the runtime. Upstream's
//! counterpart is the kubelet.

mod admission;
mod builder;
mod counter_network;
mod events;
mod hollow_nodes;
mod image_keeper;
mod inbox;
mod keyring;
mod log_keeper;
mod observatory;
mod perform;
mod probes;
pub(crate) mod provision;
mod pull;
mod start;
mod stop;
mod withdraw;
mod worker;

pub use builder::{AgentBuilder, StartError};
pub use counter_network::{CounterNetwork, NoNetwork};
pub use hollow_nodes::{HollowNodes, HollowNodesBuilder};
pub use image_keeper::ImageLimits;
pub use log_keeper::LogLimits;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use k8s_core::{
    api::api::core::v1::{Node, Pod},
    env::{Env, Task},
    object::ObjectKey,
    quantity::Quantity,
    resource::Stored,
    seam::{network::PodNetwork, traffic::PodTraffic},
};
use k8s_reconcile::{Client, Informer, informer::Subscription};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    plan::{Host, Rejection, total_requests},
    runtime::PodRuntime,
};
use admission::NodeFacts;
use events::Events;
use inbox::{Inbox, Letter};
use observatory::Observatory;
use provision::Provision;
use worker::{Bell, Worker};

/// How long a worker that panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// A running agent. Dropping it stops its tasks at once; [`Agent::stop`] lets them end in order. Containers run on
/// either way.
pub struct Agent {
    shared: Arc<Shared>,
    tasks: Vec<Task>,
    _subscription: Option<Subscription>,
}

/// What all parts of one agent share.
pub(crate) struct Shared {
    pub node_name: String,
    pub client: Client,
    pub env: Env,
    pub runtime: Arc<dyn PodRuntime>,
    pub network: Arc<dyn PodNetwork>,
    pub traffic: Option<Arc<dyn PodTraffic>>,
    pub provision: Arc<dyn Provision>,
    pub pods: Informer<Pod>,
    pub events: Events,
    pub observatory: Observatory,
    pub host: Host,
    pub inbox: Inbox,
    /// Turns for pulling images.
    pub pulls: Semaphore,
    /// What the node can give.
    pub allocatable: BTreeMap<String, Quantity>,
    /// The node's labels as last read.
    pub labels: Mutex<BTreeMap<String, String>>,
    /// What admitted pods ask for, by uid.
    admitted: Mutex<BTreeMap<String, BTreeMap<String, Quantity>>>,
    workers: Mutex<BTreeMap<String, Employed>>,
}

/// A worker at work.
struct Employed {
    bell: Arc<Bell>,
    _task: Task,
}

impl Agent {
    /// An agent for the node `node_name` that reaches the cluster through `client` and runs pods by `runtime`.
    pub fn builder(
        client: Client,
        runtime: Arc<dyn PodRuntime>,
        env: Env,
        node_name: impl Into<String>,
    ) -> AgentBuilder {
        AgentBuilder::new(client, runtime, env, node_name.into())
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.shared.node_name
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops the agent in order; containers run on. A later agent over the same runtime goes on from there.
    pub async fn stop(self) {
        for task in self.tasks {
            task.stop().await;
        }
        let workers = std::mem::take(&mut *self.shared.workers.lock());
        for (_, worker) in workers {
            worker._task.stop().await;
        }
    }
}

impl Shared {
    /// Checks a new pod against what the node has left, and counts it; pods that are here already are only counted.
    pub async fn admit(&self, pod: &Stored<Pod>, is_new: bool) -> Result<(), Rejection> {
        let first = self.try_admit(pod, is_new);
        if first.as_ref().is_err_and(|rejection| rejection.reason == admission::NODE_AFFINITY)
            && let Ok(node) = self.client.all::<Node>().get(&self.node_name).await
        {
            // Labels that others set may be newer than what was read last.
            *self.labels.lock() = node.metadata.labels.clone().unwrap_or_default();
            return self.try_admit(pod, is_new);
        }
        first
    }

    fn try_admit(&self, pod: &Stored<Pod>, is_new: bool) -> Result<(), Rejection> {
        let uid = pod.uid().to_owned();
        let mut admitted = self.admitted.lock();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            admitted.remove(&uid);
            return Ok(());
        }
        if admitted.contains_key(&uid) {
            return Ok(());
        }
        if is_new {
            let mut used: BTreeMap<String, Quantity> = BTreeMap::new();
            for (name, amount) in admitted.values().flatten() {
                let sum = used.entry(name.clone()).or_default();
                *sum = *sum + *amount;
            }
            let facts = NodeFacts {
                name: &self.node_name,
                labels: self.labels.lock().clone(),
                allocatable: self.allocatable.clone(),
                used,
                pods: admitted.len(),
                operating_system: "linux",
            };
            admission::admit(pod, &facts)?;
        }
        admitted.insert(uid, total_requests(pod));
        Ok(())
    }

    /// Gives every pod that has news to its worker, hiring one where there is none.
    ///
    /// Nothing is done before the pods are known: a pod that is only not known yet would be taken for one that is gone.
    async fn dispatch(self: Arc<Self>) {
        self.pods.synced().await;
        loop {
            for (uid, Letter { key, runtime }) in self.inbox.take().await {
                let mut workers = self.workers.lock();
                match workers.get(&uid) {
                    Some(employed) => employed.bell.ring(runtime),
                    None => drop(workers.insert(uid.clone(), self.hire(uid, key))),
                }
            }
        }
    }

    fn hire(self: &Arc<Self>, uid: String, key: Option<ObjectKey>) -> Employed {
        let bell = Arc::<Bell>::default();
        let (shared, its_bell) = (self.clone(), bell.clone());
        let work = async move {
            loop {
                let key = key.clone().or_else(|| shared.key_of(&uid));
                let worker = Worker::new(shared.clone(), uid.clone(), key, its_bell.clone());
                // A panic about one pod must not take the others down; the pod is looked at anew after a while.
                match AssertUnwindSafe(worker.run()).catch_unwind().await {
                    Ok(()) => break,
                    Err(_) => tracing::error!(uid, "a pod's worker panicked; it starts anew"),
                }
                shared.env.sleep(AFTER_PANIC).await;
            }
            shared.dismiss(&uid);
        };
        Employed { bell, _task: self.env.spawn("pod worker", Box::pin(work)) }
    }

    fn key_of(&self, uid: &str) -> Option<ObjectKey> {
        let pods = self.pods.dynamic().on_node(&self.node_name);
        pods.iter().find(|pod| pod.meta.uid == uid).map(|pod| pod.meta.key())
    }

    fn dismiss(&self, uid: &str) {
        self.admitted.lock().remove(uid);
        let employed = self.workers.lock().remove(uid);
        if let Some(employed) = employed {
            // The task ends by itself right after this: it must not cancel itself before.
            employed._task.detach();
        }
    }

    /// Passes the runtime's hints on. Sandbox ids begin with the pod's uid.
    async fn listen(self: Arc<Self>) {
        let mut hints = self.runtime.hints();
        while let Some(hint) = hints.next().await {
            match hint.sandbox.rsplit_once('-') {
                Some((uid, _)) => self.inbox.hinted(uid),
                None => tracing::warn!(sandbox = hint.sandbox, "a hint about a sandbox that is not ours"),
            }
        }
    }

    /// Once the pods are known: finds what is here of pods that are not, and has it removed.
    async fn adopt(self: Arc<Self>) {
        self.pods.synced().await;
        let mut failures = 0;
        let sight = loop {
            match self.observatory.look().await {
                Ok(sight) => break sight,
                Err(error) => {
                    tracing::warn!(%error, "the container runtime cannot be looked at");
                    failures += 1;
                    self.env.sleep(worker::RETRY.delay(failures)).await;
                }
            }
        };
        let mut uids: Vec<String> = sight.keys().cloned().collect();
        uids.extend(self.provision.left_over().await);
        uids.iter().for_each(|uid| self.inbox.hinted(uid));
        let here: Vec<&String> =
            sight.values().flat_map(|pod| pod.sandboxes.iter().map(|sandbox| &sandbox.id)).collect();
        for id in self.network.attached().await.unwrap_or_default() {
            if !here.contains(&&id)
                && let Err(error) = self.network.detach(&id).await
            {
                tracing::warn!(id, %error, "an address that no pod uses was not given back");
            }
        }
    }
}
