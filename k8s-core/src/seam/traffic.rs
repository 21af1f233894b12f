//! What still comes in for a pod, as the node agent asks before it ends one.
//!
//! Called by `k8s-node`; given by `k8s-net`, which reads it from the kernel, so that it holds whichever process the
//! service proxy runs in and while it does not run at all.

use std::net::IpAddr;

use async_trait::async_trait;

/// Knows what comes in for pods of this machine.
#[async_trait]
pub trait PodTraffic: Send + Sync + 'static {
    /// What comes in for a pod with these addresses now.
    ///
    /// Cancel-safe: it only looks.
    async fn inflow(&self, addresses: &[IpAddr]) -> Result<Inflow, TrafficError>;
}

/// What a pod still takes in, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inflow {
    /// Nothing that its end would cut off.
    Nothing,
    /// Connections that were opened before.
    Open,
    /// New connections: whoever leads clients to pods does not know yet that this one is on its way out.
    New,
}

/// Why nobody can tell. The agent does not wait then.
#[derive(Debug, Clone, thiserror::Error)]
#[error("traffic of a pod: {message}")]
pub struct TrafficError {
    /// What was asked, and what went wrong.
    pub message: String,
}
