//! How the API server reaches a node's own server (logs, exec, attach, port-forward), and pods.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::io::{AsyncRead, AsyncWrite};

use crate::status::ApiResult;

/// A duplex stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Opens connections to nodes: TLS to port 10250, or a call in the same process. HTTP/1.1 is spoken on it.
///
/// The connection is authenticated as the API server's; the node trusts it with what the API server authorized.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    /// Connects to a node. 503 when it cannot be reached, with the address in the message.
    async fn dial(&self, node: &NodeAddress) -> ApiResult<Box<dyn ByteStream>>;
}

/// Opens connections to what runs in pods. HTTP/1.1 is spoken on them.
#[async_trait]
pub trait PodDialer: Send + Sync + 'static {
    /// Connects to an address, by TLS if asked for; the pod's certificate is not verified, and none is shown to it. 503
    /// when it cannot be reached, with the address in the message.
    async fn dial(&self, address: SocketAddr, tls: bool) -> ApiResult<Box<dyn ByteStream>>;
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The Node object's name.
    pub name: String,
    /// The address of `status.addresses` to connect to.
    pub host: String,
    /// `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
}
