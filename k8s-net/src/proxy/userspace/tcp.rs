//! One TCP frontend: its listener, and the connections that came through it.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_core::env::{self, Task};
use parking_lot::Mutex;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::OwnedSemaphorePermit,
};

use super::{
    Shared,
    choice::{Choice, Client},
    relay::relay,
};
use crate::proxy::{Frontend, Target};

/// Connections that the kernel keeps for a listener that is busy.
const BACKLOG: u32 = 1024;
/// How long to leave a listener alone that fails to accept: usually the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After how much silence the kernel asks whether the other end is still there.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(120);
/// How far apart it asks.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How often it asks in vain until the connection counts as broken.
const KEEP_ALIVE_PROBES: u32 = 4;

/// A TCP frontend that is served. Dropping it resets its connections.
pub(super) struct TcpPort {
    port: Arc<Port>,
    listener: Option<Task>,
}

/// What the listener and the connections share.
struct Port {
    frontend: Frontend,
    choice: Arc<Mutex<Choice>>,
    shared: Arc<Shared>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    last: u64,
    running: BTreeMap<u64, Connection>,
    /// Whether no more may come.
    closed: bool,
}

struct Connection {
    /// `None` while it is being chosen.
    target: Option<Target>,
    task: Task,
}

impl TcpPort {
    pub(super) fn new(frontend: Frontend, choice: Arc<Mutex<Choice>>, shared: Arc<Shared>) -> Self {
        let port = Port { frontend, choice, shared, connections: Mutex::default() };
        Self { port: Arc::new(port), listener: None }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Accepts clients from now on.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let port = Arc::clone(&self.port);
        let listener = bind(SocketAddr::new(port.frontend.address, port.frontend.port))?;
        let env = Arc::clone(&port.shared.env);
        self.listener = Some(env.spawn("service-port", Box::pin(accept(listener, port))));
        Ok(())
    }

    /// Refuses clients from now on. Established connections go on.
    pub(super) async fn close(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.stop().await;
        }
    }

    /// Resets the connections to endpoints that are not there any more.
    pub(super) async fn end_departed(&self) {
        let gone = {
            let choice = self.port.choice.lock();
            let mut connections = self.port.connections.lock();
            let is_gone = |connection: &Connection| connection.target.is_some_and(|target| !choice.knows(target));
            let gone = connections.running.extract_if(.., |_, connection| is_gone(connection));
            gone.map(|(_, connection)| connection.task.stop()).collect::<Vec<_>>()
        };
        join_all(gone).await;
    }

    /// Refuses clients and resets all connections.
    pub(super) async fn end(mut self) {
        self.close().await;
        let running = std::mem::take(&mut self.port.connections.lock().running);
        join_all(running.into_values().map(|connection| connection.task.stop())).await;
    }
}

impl Drop for TcpPort {
    fn drop(&mut self) {
        // Each connection's task holds the port; this is what lets go of them.
        let ended = Connections { closed: true, ..Connections::default() };
        let ended = std::mem::replace(&mut *self.port.connections.lock(), ended);
        drop(ended);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an earlier process that are still winding down are no hindrance.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, port: Arc<Port>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                failing = false;
                // At the bound clients wait in the kernel's queue.
                let Ok(permit) = Arc::clone(&port.shared.connections).acquire_owned().await else { return };
                let from = port.shared.inside.lock().client(from.ip());
                port.start(client, from, permit);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, frontend = %port.frontend, "cannot accept connections");
                }
                port.shared.env.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Port {
    fn start(self: &Arc<Self>, client: TcpStream, from: Client, permit: OwnedSemaphorePermit) {
        let mut connections = self.connections.lock();
        if connections.closed {
            return;
        }
        connections.last += 1;
        let number = connections.last;
        let port = Arc::clone(self);
        // Invariant: the task cannot end before it is entered here, because ending takes the same lock.
        let task = self.shared.env.spawn(
            "service-connection",
            Box::pin(async move {
                port.serve(number, client, from).await;
                drop(permit);
                let ended = port.connections.lock().running.remove(&number);
                drop(ended);
            }),
        );
        connections.running.insert(number, Connection { target: None, task });
    }

    /// Serves one client to its end. Whatever goes wrong, or when dropped half-way, both ends are reset: neither may take
    /// half of a stream for the whole.
    async fn serve(&self, number: u64, mut client: TcpStream, from: Client) {
        if prepare(&client).is_err() {
            return;
        }
        let Some(mut endpoint) = self.connect(number, from).await else { return };
        if prepare(&endpoint).is_err() {
            return;
        }
        match relay(&mut client, &mut endpoint, &self.shared.stream_buffers).await {
            Ok(()) => {
                // Both have said all they had to say, so the kernel may deliver the rest in peace.
                for stream in [&client, &endpoint] {
                    let _ = sockopt::set_socket_linger(stream, None);
                }
            }
            Err(error) => tracing::debug!(%error, frontend = %self.frontend, "connection broken"),
        }
    }

    /// Connects to the first endpoint that takes the connection.
    async fn connect(&self, number: u64, client: Client) -> Option<TcpStream> {
        let shared = &self.shared;
        let candidates = self.choice.lock().candidates(client, shared.env.monotonic(), shared.env.random());
        for target in candidates {
            let address = SocketAddr::new(target.address, target.port);
            match env::timeout(&*shared.env, shared.config.connect_timeout, TcpStream::connect(address)).await {
                Some(Ok(stream)) => return self.settle(number, client, target).then_some(stream),
                Some(Err(error)) => tracing::debug!(%error, frontend = %self.frontend, %target, "endpoint passed over"),
                None => tracing::debug!(frontend = %self.frontend, %target, "endpoint does not answer"),
            }
        }
        None
    }

    /// Notes where the connection goes. `false` when the endpoint has gone meanwhile.
    fn settle(&self, number: u64, client: Client, target: Target) -> bool {
        let mut choice = self.choice.lock();
        let mut connections = self.connections.lock();
        let Some(connection) = connections.running.get_mut(&number).filter(|_| choice.knows(target)) else {
            return false;
        };
        connection.target = Some(target);
        choice.settled(client, target, self.shared.env.monotonic());
        true
    }
}

/// No delay for small pieces, an end that vanished is noticed, and closing resets until said otherwise.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES)?;
    stream.set_zero_linger()
}
