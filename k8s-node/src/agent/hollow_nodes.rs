//! Many simulated nodes over one client and one informer: for scale tests and for simulations.
//!
//! No I/O, no threads: everything comes from the environment. Pods become running and ready after a small delay, with
//! addresses from a counter per node, and do what the annotations that [`crate::hollow`] reads tell them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_core::{
    api::api::core::v1::Pod,
    env::Env,
    seam::network::{Attached, Attachment, NetworkError, PodNetwork},
};
use k8s_reconcile::{Client, Informer, InformerScope, informer::Subscription};

use super::{Agent, AgentBuilder, CounterNetwork, StartError};
use crate::{hollow::Hollow, node::Machine};

/// How long a simulated pod takes to get its address, unless said otherwise.
const DELAY: Duration = Duration::from_millis(200);

/// A number of simulated nodes. Dropping it stops them.
pub struct HollowNodes {
    agents: BTreeMap<String, Agent>,
    subscription: Subscription,
    _pods: Informer<Pod>,
}

/// Simulated nodes in the making.
pub struct HollowNodesBuilder {
    client: Client,
    env: Env,
    count: u32,
    prefix: String,
    machine: Machine,
    labels: BTreeMap<String, String>,
    delay: Duration,
    identity: Box<dyn Fn(&str) -> Client + Send>,
}

impl HollowNodes {
    /// `count` nodes named `hollow-0` and so on. `client` must be able to list all pods.
    pub fn builder(client: Client, env: Env, count: u32) -> HollowNodesBuilder {
        let shared = client.clone();
        HollowNodesBuilder {
            client,
            env,
            count,
            prefix: "hollow".to_owned(),
            machine: Machine::simulated(),
            labels: BTreeMap::new(),
            delay: DELAY,
            identity: Box::new(move |_| shared.clone()),
        }
    }

    /// The nodes, by name.
    pub fn agents(&self) -> &BTreeMap<String, Agent> {
        &self.agents
    }

    /// Stops all nodes in order.
    pub async fn stop(self) {
        drop(self.subscription);
        for (_, agent) in self.agents {
            agent.stop().await;
        }
    }
}

impl HollowNodesBuilder {
    /// Names the nodes `PREFIX-0` and so on.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What each node is said to be.
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// Labels of every node.
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// How long a pod takes to get its address.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The client that each node writes with, by node name, where nodes have identities of their own.
    pub fn identity(mut self, client: impl Fn(&str) -> Client + Send + 'static) -> Self {
        self.identity = Box::new(client);
        self
    }

    /// Starts the nodes.
    pub fn start(self) -> Result<HollowNodes, StartError> {
        let pods = self.client.informer::<Pod>(InformerScope::all());
        let mut agents = BTreeMap::new();
        for number in 0..self.count {
            let name = format!("{}-{number}", self.prefix);
            let addresses = CounterNetwork::of_node(number);
            let address = addresses.node_address();
            let network = SlowNetwork { addresses, env: self.env.clone(), delay: self.delay };
            let runtime = Arc::new(Hollow::new(self.env.clone()));
            let agent = AgentBuilder::new((self.identity)(&name), runtime, self.env.clone(), name.clone())
                .network(Arc::new(network))
                .addresses(vec![address])
                .labels(self.labels.clone())
                .machine(self.machine.clone())
                .shared_pods(pods.clone())
                .quiet()
                .start()?;
            agents.insert(name, agent);
        }
        let inboxes: BTreeMap<String, std::sync::Weak<super::Shared>> =
            agents.iter().map(|(name, agent)| (name.clone(), Arc::downgrade(&agent.shared))).collect();
        let subscription = pods.subscribe(Arc::new(move |delta| {
            let mut names: Vec<&str> =
                [&delta.old, &delta.new].into_iter().flatten().map(|object| object.meta.node_name.as_str()).collect();
            names.dedup();
            for name in names {
                if let Some(shared) = inboxes.get(name).and_then(std::sync::Weak::upgrade) {
                    shared.inbox.informed(name, delta);
                }
            }
        }));
        Ok(HollowNodes { agents, subscription, _pods: pods })
    }
}

/// A network whose answers take a while.
struct SlowNetwork {
    addresses: CounterNetwork,
    env: Env,
    delay: Duration,
}

#[async_trait]
impl PodNetwork for SlowNetwork {
    async fn attach(&self, attachment: Attachment) -> Result<Attached, NetworkError> {
        self.env.sleep(self.delay).await;
        self.addresses.attach(attachment).await
    }

    async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        self.addresses.detach(id).await
    }

    async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        self.addresses.attached().await
    }
}
