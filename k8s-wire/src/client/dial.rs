//! Connections that we speak HTTP/1.1 on: to nodes, to pods, and to API servers for upgrades.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_core::{
    env::{self, Env},
    seam::node::{ByteStream, NodeAddress, NodeDialer, PodDialer},
    status::{ApiError, ApiResult},
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    pki::Identity,
    tls::{self, ServerTrust, TlsError, UPGRADE_PROTOCOLS},
};

/// How long connecting, and the TLS handshake after it, may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens TLS connections with one identity and one trust.
pub struct Dialer {
    env: Env,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    /// A dialer that offers HTTP/1.1.
    pub fn new(env: Env, trust: ServerTrust<'_>, identity: Option<&Identity>) -> Result<Self, TlsError> {
        let tls = Arc::new(tls::client(&env, trust, identity, UPGRADE_PROTOCOLS)?);
        Ok(Self { env, tls })
    }

    /// Connects; `server_name` is what the server's certificate must be for. 503 says what could not be reached.
    pub async fn dial(&self, host: &str, port: u16, server_name: &str) -> ApiResult<Box<dyn ByteStream>> {
        let unreachable =
            |why: &dyn std::fmt::Display| ApiError::unavailable(format!("error dialing {host}:{port}: {why}"));
        let name = ServerName::try_from(server_name.to_owned()).map_err(|why| unreachable(&why))?;
        let connecting = async {
            let socket = TcpStream::connect((host, port)).await?;
            socket.set_nodelay(true)?;
            TlsConnector::from(self.tls.clone()).connect(name, socket).await
        };
        match env::timeout(&*self.env, CONNECT_TIMEOUT, connecting).await {
            Some(Ok(stream)) => Ok(Box::new(stream.compat())),
            Some(Err(why)) => Err(unreachable(&why)),
            None => Err(unreachable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }
}

/// Reaches nodes by TLS on the port that they report, with the API server's own client certificate.
pub struct HttpNodeDialer(pub Dialer);

#[async_trait]
impl NodeDialer for HttpNodeDialer {
    async fn dial(&self, node: &NodeAddress) -> ApiResult<Box<dyn ByteStream>> {
        self.0.dial(&node.host, node.port, &node.host).await
    }
}

/// Reaches pods over the network, as a stranger to them.
pub struct HttpPodDialer(Dialer);

impl HttpPodDialer {
    /// A dialer that has no identity and trusts anyone.
    pub fn new(env: Env) -> Result<Self, TlsError> {
        Dialer::new(env, ServerTrust::Anyone, None).map(Self)
    }
}

#[async_trait]
impl PodDialer for HttpPodDialer {
    async fn dial(&self, address: SocketAddr, tls: bool) -> ApiResult<Box<dyn ByteStream>> {
        let host = address.ip().to_string();
        if tls {
            return self.0.dial(&host, address.port(), &host).await;
        }
        let unreachable =
            |why: &dyn std::fmt::Display| ApiError::unavailable(format!("error dialing {address}: {why}"));
        match env::timeout(&*self.0.env, CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Some(Ok(stream)) => Ok(Box::new(stream.compat())),
            Some(Err(why)) => Err(unreachable(&why)),
            None => Err(unreachable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }
}
