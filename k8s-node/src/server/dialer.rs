//! The way from an API server to nodes in the same process: no port, no TLS, the same HTTP.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_core::{
    seam::node::{ByteStream, NodeAddress, NodeDialer},
    status::{ApiError, ApiResult},
};
use parking_lot::RwLock;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{Callers, NodeServer};
use crate::agent::Agent;

/// How much may be under way in each direction, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connects to agents in this process, by node name. Cloning shares.
#[derive(Clone, Default)]
pub struct InProcessDialer {
    nodes: Arc<RwLock<BTreeMap<String, NodeServer>>>,
    /// Asked for nodes that are not in this process.
    others: Option<Arc<dyn NodeDialer>>,
}

impl InProcessDialer {
    /// Knows no node yet; nodes that it does not know are reached through `others`, if given.
    pub fn new(others: Option<Arc<dyn NodeDialer>>) -> Self {
        Self { nodes: Arc::default(), others }
    }

    /// Makes an agent reachable. A later agent of the same name takes its place.
    pub fn add(&self, agent: &Agent) {
        let server = NodeServer::new(agent, Callers::InProcess);
        self.nodes.write().insert(agent.node_name().to_owned(), server);
    }
}

#[async_trait]
impl NodeDialer for InProcessDialer {
    async fn dial(&self, node: &NodeAddress) -> ApiResult<Box<dyn ByteStream>> {
        let server = self.nodes.read().get(&node.name).cloned();
        match (server, &self.others) {
            (Some(server), _) => {
                let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
                let env = server.env.clone();
                env.spawn("node connection", Box::pin(server.serve_stream(theirs))).detach();
                Ok(Box::new(ours.compat()))
            }
            (None, Some(others)) => others.dial(node).await,
            (None, None) => {
                let message = format!("node {:?} ({}:{}) is not in this process", node.name, node.host, node.port);
                Err(ApiError::unavailable(message))
            }
        }
    }
}
