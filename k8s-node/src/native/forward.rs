//! Connections into a pod's network namespace.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use async_trait::async_trait;

use super::{Native, namespace};
use crate::runtime::{Duplex, PortForward, RuntimeError};

/// How long a program may take to accept; a full queue would else hold a thread for minutes.
const CONNECT: Duration = Duration::from_secs(5);

#[async_trait]
impl PortForward for Native {
    async fn connect(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>, RuntimeError> {
        let missing = || RuntimeError::NotFound { what: "sandbox", id: sandbox.to_owned() };
        let found = self.inner.sandbox(sandbox).ok_or_else(missing)?;
        let doing = format!("connect to port {port} in sandbox {sandbox}");
        let connect = move || loopback(port);
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

/// Connects to a port of the loopback interface. The error is that of the first address: most programs listen there.
fn loopback(port: u16) -> io::Result<TcpStream> {
    let connect = |address: SocketAddr| TcpStream::connect_timeout(&address, CONNECT);
    connect((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|error| connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
}
