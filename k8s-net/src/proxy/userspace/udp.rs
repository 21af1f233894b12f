//! One UDP frontend: its socket, and a socket to an endpoint for each client.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use k8s_core::env::Task;
use parking_lot::Mutex;
use rustix::net::{SendFlags, send};
use tokio::{net::UdpSocket, sync::OwnedSemaphorePermit, task::coop::consume_budget};

use super::{Shared, choice::Choice};
use crate::proxy::{Frontend, Target};

/// How long to leave a socket alone that fails to receive.
const PAUSE: Duration = Duration::from_millis(100);
/// At the bound this part of the flows, those that were idle for the longest, makes room for new ones.
const EVICTED: usize = 16;

/// A UDP frontend that is served. Dropping it ends its flows.
pub(super) struct UdpPort {
    port: Arc<Port>,
    listener: Option<Task>,
}

/// What the socket and the flows share.
struct Port {
    frontend: Frontend,
    choice: Arc<Mutex<Choice>>,
    shared: Arc<Shared>,
    flows: Mutex<Flows>,
}

#[derive(Default)]
struct Flows {
    by_client: BTreeMap<SocketAddr, Flow>,
    /// Whether no more may come.
    closed: bool,
}

/// The datagrams of one client.
struct Flow {
    link: Arc<Link>,
    target: Target,
    /// Carries what the endpoint answers.
    task: Task,
    _permit: OwnedSemaphorePermit,
}

/// The way from one client to its endpoint.
struct Link {
    socket: UdpSocket,
    /// When the last datagram came by, in milliseconds of the environment's monotonic clock.
    last_ms: AtomicU64,
}

impl Flows {
    /// Takes out the flow of this client, unless it is another one by now.
    fn end(&mut self, client: SocketAddr, link: &Arc<Link>) -> Option<Flow> {
        let is_this = self.by_client.get(&client).is_some_and(|flow| Arc::ptr_eq(&flow.link, link));
        is_this.then(|| self.by_client.remove(&client)).flatten()
    }
}

impl UdpPort {
    pub(super) fn new(frontend: Frontend, choice: Arc<Mutex<Choice>>, shared: Arc<Shared>) -> Self {
        let port = Port { frontend, choice, shared, flows: Mutex::default() };
        Self { port: Arc::new(port), listener: None }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Takes datagrams from now on.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let port = Arc::clone(&self.port);
        let socket = open(SocketAddr::new(port.frontend.address, port.frontend.port))?;
        let env = Arc::clone(&port.shared.env);
        self.listener = Some(env.spawn("service-port", Box::pin(receive(Arc::new(socket), port))));
        Ok(())
    }

    /// Takes none from now on, and ends all flows.
    pub(super) async fn close(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.stop().await;
        }
        let flows = std::mem::take(&mut self.port.flows.lock().by_client);
        join_all(flows.into_values().map(|flow| flow.task.stop())).await;
    }

    /// Ends the flows to endpoints that clients are not led to any more.
    pub(super) async fn end_departed(&self) {
        let gone = {
            let choice = self.port.choice.lock();
            let mut flows = self.port.flows.lock();
            let gone = flows.by_client.extract_if(.., |_, flow| !choice.offers(flow.target));
            gone.map(|(_, flow)| flow.task.stop()).collect::<Vec<_>>()
        };
        join_all(gone).await;
    }
}

impl Drop for UdpPort {
    fn drop(&mut self) {
        // Each flow's task holds the port; this is what lets go of them.
        let ended = std::mem::replace(&mut *self.port.flows.lock(), Flows { closed: true, ..Flows::default() });
        drop(ended);
    }
}

/// A socket of this process's own at `address`.
fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn receive(socket: Arc<UdpSocket>, port: Arc<Port>) {
    let mut failing = false;
    loop {
        match port.receive_all(&socket).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, frontend = %port.frontend, "cannot receive datagrams");
                }
                port.shared.env.sleep(PAUSE).await;
            }
        }
    }
}

impl Port {
    /// Waits for datagrams and passes on all that are there.
    async fn receive_all(self: &Arc<Self>, socket: &Arc<UdpSocket>) -> io::Result<()> {
        socket.readable().await?;
        let mut buffer = self.shared.datagram_buffers.take();
        loop {
            match socket.try_recv_from(&mut buffer.bytes) {
                Ok((length, client)) => self.pass_on(socket, client, &buffer.bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            consume_budget().await;
        }
    }

    /// Sends a client's datagram to its endpoint. One that finds no endpoint or no room is lost, as datagrams are.
    fn pass_on(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr, datagram: &[u8]) {
        let known = {
            let flows = self.flows.lock();
            // Under the lock, so that it does not end as idle right now.
            flows.by_client.get(&client).map(|flow| flow.link.touch(self.now_ms()))
        };
        let outcome = match known {
            Some(link) => link.send(datagram).or_else(|error| {
                // It says so of an earlier datagram, and this one was not sent.
                let link = if is_refusal(&error) { self.redirect(socket, client, &link)? } else { link };
                link.send(datagram)
            }),
            None => match self.open_flow(socket, client) {
                Ok(Some(link)) => link.send(datagram),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, frontend = %self.frontend, %client, "datagram lost");
        }
    }

    /// `None` when there is no endpoint for the client, or no room.
    fn open_flow(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr) -> io::Result<Option<Arc<Link>>> {
        let from = self.shared.inside.lock().client(client.ip());
        // Held to the end, so that no flow is opened by a choice that has changed meanwhile.
        let mut choice = self.choice.lock();
        let env = &self.shared.env;
        let candidates = choice.candidates(from, env.monotonic(), env.random());
        let Some(target) = candidates.first().copied() else { return Ok(None) };
        // Only now: who is refused makes nobody else's flow end.
        let Some(permit) = self.permit() else { return Ok(None) };
        let mut flows = self.flows.lock();
        if flows.closed {
            return Ok(None);
        }
        let flow = self.flow(socket, client, target, permit)?;
        choice.settled(from, target, env.monotonic());
        let link = Arc::clone(&flow.link);
        flows.by_client.insert(client, flow);
        Ok(Some(link))
    }

    /// Leads a flow whose endpoint is dead to the next one, if there is one.
    fn redirect(
        self: &Arc<Self>,
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        link: &Arc<Link>,
    ) -> io::Result<Arc<Link>> {
        let from = self.shared.inside.lock().client(client.ip());
        let mut choice = self.choice.lock();
        let mut flows = self.flows.lock();
        let flow = flows.by_client.get_mut(&client).filter(|flow| Arc::ptr_eq(&flow.link, link));
        let Some(flow) = flow else { return Ok(Arc::clone(link)) }; // Ended meanwhile.
        let Some(next) = choice.instead_of(flow.target, from) else { return Ok(Arc::clone(link)) };
        (flow.link, flow.task) = self.way(socket, client, next)?;
        flow.target = next;
        choice.settled(from, next, self.shared.env.monotonic());
        Ok(Arc::clone(&flow.link))
    }

    fn flow(
        self: &Arc<Self>,
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        target: Target,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Flow> {
        let (link, task) = self.way(socket, client, target)?;
        Ok(Flow { link, target, task, _permit: permit })
    }

    /// A socket to the endpoint, and the task that carries what it answers.
    fn way(
        self: &Arc<Self>,
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        target: Target,
    ) -> io::Result<(Arc<Link>, Task)> {
        let link = Arc::new(Link { socket: socket_to(target)?, last_ms: AtomicU64::new(self.now_ms()) });
        let answers = Arc::clone(self).answers(Arc::clone(socket), client, Arc::clone(&link));
        Ok((link, self.shared.env.spawn("service-flow", Box::pin(answers))))
    }

    /// Room for one more flow, made by ending idle ones where there is none.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let take = || Arc::clone(&self.shared.flows).try_acquire_owned().ok();
        take().or_else(|| {
            self.evict();
            take()
        })
    }

    fn evict(&self) {
        let flows = &mut self.flows.lock().by_client;
        let mut last: Vec<u64> = flows.values().map(|flow| flow.link.last_ms.load(Ordering::Relaxed)).collect();
        if last.is_empty() {
            return;
        }
        let mut room = last.len().div_ceil(EVICTED);
        let (_, newest, _) = last.select_nth_unstable(room - 1);
        let newest = *newest;
        flows.retain(|_, flow| {
            let evict = room > 0 && flow.link.last_ms.load(Ordering::Relaxed) <= newest;
            room -= usize::from(evict);
            !evict
        });
    }

    /// Carries the endpoint's answers to the client until nothing was said for the idle time.
    async fn answers(self: Arc<Self>, socket: Arc<UdpSocket>, client: SocketAddr, link: Arc<Link>) {
        tokio::select! {
            biased;
            () = self.idle(client, &link) => {}
            error = self.carry(&socket, client, &link) => {
                tracing::debug!(%error, frontend = %self.frontend, %client, "flow broken");
            }
        }
        let ended = self.flows.lock().end(client, &link);
        drop(ended);
    }

    /// Ends the flow and resolves when nothing was said for the idle time.
    async fn idle(&self, client: SocketAddr, link: &Arc<Link>) {
        let limit = self.shared.config.udp_idle;
        loop {
            let left = {
                let mut flows = self.flows.lock();
                let quiet = Duration::from_millis(self.now_ms().saturating_sub(link.last_ms.load(Ordering::Relaxed)));
                if quiet >= limit {
                    let ended = flows.end(client, link);
                    drop(flows);
                    drop(ended);
                    return;
                }
                limit - quiet
            };
            self.shared.env.sleep(left).await;
        }
    }

    async fn carry(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr, link: &Arc<Link>) -> io::Error {
        loop {
            if let Err(error) = link.socket.readable().await {
                return error;
            }
            let mut buffer = self.shared.datagram_buffers.take();
            loop {
                match link.socket.try_recv(&mut buffer.bytes) {
                    Ok(length) => {
                        link.touch(self.now_ms());
                        // Who is gone misses nothing.
                        let _ = socket.send_to(&buffer.bytes[..length], client).await;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_refusal(&error) => match self.redirect(socket, client, link) {
                        Ok(next) if Arc::ptr_eq(&next, link) => {}
                        Ok(_) => return error,
                        Err(error) => return error,
                    },
                    Err(error) => return error,
                }
                consume_budget().await;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.shared.env.monotonic().as_millis() as u64
    }
}

impl Link {
    /// Notes that a datagram came by.
    fn touch(self: &Arc<Self>, now_ms: u64) -> Arc<Self> {
        self.last_ms.store(now_ms, Ordering::Relaxed);
        Arc::clone(self)
    }

    /// At once or not at all: a full queue must not hold up other clients.
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        send(&self.socket, datagram, SendFlags::DONTWAIT)?;
        Ok(())
    }
}

/// Whether the endpoint's machine said that nobody takes datagrams there.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// A socket that sends to `target` and hears from nobody else.
fn socket_to(target: Target) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if target.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((target.address, target.port))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
