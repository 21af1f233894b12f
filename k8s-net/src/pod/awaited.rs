//! The pod network of a node that learns from its Node object which addresses its pods have.
//!
//! Until the Node has a pod CIDR there is no network: the agent is told so, and the Node is not ready. What was learnt once
//! is kept: pods have addresses of it.

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_core::{
    api::api::core::v1::Node,
    env::{Env, Task},
    seam::network::{Attached, Attachment, NetworkError, PodNetwork},
    signal::Signal,
};
use k8s_reconcile::{Client, InformerScope, queue::BackOff};
use parking_lot::Mutex;

use super::{Routed, RoutedConfig};

/// How failed attempts to open the network are spaced.
const BACK_OFF: BackOff =
    BackOff { base: std::time::Duration::from_millis(500), max: std::time::Duration::from_secs(30) };

/// A pod network that is opened as soon as the Node says with which addresses.
#[derive(Clone)]
pub struct AwaitedNetwork(Arc<State>);

struct State {
    opened: Signal<Option<Arc<Routed>>>,
    /// What is waited for.
    waits: Mutex<String>,
}

impl Default for AwaitedNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl AwaitedNetwork {
    /// A network that is not there yet.
    pub fn new() -> Self {
        let waits =
            "the node has no pod CIDR yet; it is given one by the controller manager with --allocate-node-cidrs";
        Self(Arc::new(State { opened: Signal::new(None), waits: Mutex::new(waits.to_owned()) }))
    }

    /// Waits for the Node's pod CIDRs and opens the network. `config` says everything else.
    pub fn await_node(&self, client: Client, env: &Env, node: &str, config: RoutedConfig) -> Task {
        let (network, node, sleeper) = (self.clone(), node.to_owned(), env.clone());
        let work = async move {
            let nodes = client.informer::<Node>(InformerScope::field("metadata.name", &node));
            nodes.wait_until(|known| known.iter().any(|node| !pod_cidrs(node).is_empty())).await;
            let pod_cidrs = nodes.list().first().map(|node| pod_cidrs(node)).unwrap_or_default();
            let config = RoutedConfig { pod_cidrs, ..config };
            for failures in 0.. {
                match Routed::open(config.clone()).await {
                    Ok(routed) => return network.0.opened.modify(|opened| *opened = Some(Arc::new(routed))),
                    Err(error) => {
                        tracing::warn!(%error, "the pod network cannot be opened");
                        *network.0.waits.lock() = error.message;
                    }
                }
                sleeper.sleep(BACK_OFF.wait(failures)).await;
            }
        };
        env.spawn("pod network", Box::pin(work))
    }

    fn network(&self) -> Result<Arc<Routed>, NetworkError> {
        self.0.opened.get().ok_or_else(|| NetworkError { message: self.0.waits.lock().clone() })
    }
}

/// The networks that a Node's pods have their addresses from.
pub fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let all = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

#[async_trait]
impl PodNetwork for AwaitedNetwork {
    async fn attach(&self, attachment: Attachment) -> Result<Attached, NetworkError> {
        self.network()?.attach(attachment).await
    }

    async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        self.network()?.detach(id).await
    }

    async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        self.network()?.attached().await
    }

    fn status(&self) -> Result<(), NetworkError> {
        self.network().map(drop)
    }

    async fn ready(&self) {
        self.0.opened.wait_for(Option::is_some).await;
    }

    fn pod_cidrs(&self) -> Vec<String> {
        self.network().map(|network| network.pod_cidrs()).unwrap_or_default()
    }
}
