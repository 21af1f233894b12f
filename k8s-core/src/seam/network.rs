//! The pod network, as the node agent sees it.
//!
//! Called by `k8s-node` when a pod sandbox starts and stops; given by `k8s-net` (bridge and veth), or by nothing
//! at all for simulated nodes. Follows the shape of the CNI's ADD, DEL, CHECK and STATUS.

use std::{net::IpAddr, path::PathBuf};

use async_trait::async_trait;

/// Gives network namespaces an address and takes it back.
///
/// Every verb is idempotent: attaching what is attached answers the same addresses, detaching what is gone succeeds.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the namespace at `attachment.netns` and answers its addresses, primary first.
    ///
    /// Cancel-safe in this sense: a dropped call may have attached; the next `attach` or `detach` with the same
    /// `id` picks up from there.
    async fn attach(&self, attachment: Attachment) -> Result<Attached, NetworkError>;

    /// Disconnects and frees the addresses. Succeeds when there is nothing to do.
    async fn detach(&self, id: &str) -> Result<(), NetworkError>;

    /// The ids that hold addresses now, so that the agent can return what no pod uses any more.
    async fn attached(&self) -> Result<Vec<String>, NetworkError>;

    /// Whether namespaces can be connected now; the error says what is waited for. Does not block. The CNI's STATUS.
    fn status(&self) -> Result<(), NetworkError> {
        Ok(())
    }

    /// Resolves when [`PodNetwork::status`] is good. Cancel-safe.
    async fn ready(&self) {}

    /// The networks that pods get their addresses from, primary first, as a Node's `podCIDRs` has them. Empty while they
    /// are not known, and where nobody else is told.
    fn pod_cidrs(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What to connect.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Chosen by the agent: the sandbox id. At most 64 characters of `[a-z0-9-]`.
    pub id: String,
    /// Path of a network namespace (a bind mount or `/proc/PID/ns/net`).
    pub netns: PathBuf,
    /// `(container port, host port, host address or None for every address, protocol)`.
    pub host_ports: Vec<HostPort>,
}

/// One port of the host that leads into the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The port inside the pod.
    pub container_port: u16,
    /// The port on the host.
    pub host_port: u16,
    /// The host address, or every address.
    pub host_ip: Option<IpAddr>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// The result of connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Addresses of the pod, primary first. Never empty.
    pub addresses: Vec<IpAddr>,
}

/// Why the network refused. The agent reports the message as an event and tries again with back-off.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pod network: {message}")]
pub struct NetworkError {
    /// What was being done, to what, and what went wrong.
    pub message: String,
}
