//! Connections into a pod's network namespace.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use async_trait::async_trait;

use super::{Native, namespace};
use crate::runtime::{Duplex, PortForward, RuntimeError};

#[async_trait]
impl PortForward for Native {
    async fn connect(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>, RuntimeError> {
        let missing = || RuntimeError::NotFound { what: "sandbox", id: sandbox.to_owned() };
        let found = self.inner.sandbox(sandbox).ok_or_else(missing)?;
        let doing = format!("connect to port {port} in sandbox {sandbox}");
        let connect = move || {
            let addresses =
                [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
            TcpStream::connect(addresses.as_slice())
        };
        let stream = self
            .blocking(move |_| {
                let stream = match found.has_network() {
                    true => namespace::within_network(&found.namespace("net"), connect),
                    false => connect(),
                };
                stream
                    .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
                    .map_err(|e| RuntimeError::system(doing, e))
            })
            .await?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|e| RuntimeError::system("connect", e))?;
        Ok(Box::new(stream))
    }
}
