//! The accept loop: TLS, HTTP/2 and HTTP/1.1, limits on what a client may do before it is known, and a graceful end.
//!
//! A [`Server`] hands every request to one tower service, with the [`Peer`] (as an `Arc`) and the [`CancellationToken`]
//! of the server's end among the request's extensions. It also serves single byte streams, so that a whole server can
//! be reached without opening a port.

mod gather;
mod unread;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_core::{
    env::{self, BoxFuture, Env},
    request::Caller,
};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::{gather::Gathering, unread::Unread};
use crate::body::{self, Body};

/// What answers requests. Errors are answers, so the service itself never fails.
pub trait Service:
    tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Service for S where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Who is at the other end of a connection. Every request carries it, as an `Arc`, among its extensions.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The address, unless the connection is inside the process.
    pub address: Option<SocketAddr>,
    /// The client's certificate chain, leaf first, verified; empty if it presented none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Whom the service took the certificate to stand for, once it has looked.
    pub caller: OnceLock<Caller>,
    /// Whether the service took the certificate for that of a front proxy, which speaks for others, once it has looked.
    pub is_front_proxy: OnceLock<bool>,
}

/// What a client may do before anyone knows who it is, and how long the end may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the TLS handshake, and again for the head of the first request.
    pub head_timeout: Duration,
    /// How long an HTTP/1.1 connection that has asked something is kept until the head of its next request is whole.
    pub idle_timeout: Duration,
    /// The head of an HTTP/1.1 request, and the header list of an HTTP/2 request, in bytes. A longer one is answered
    /// with 431.
    pub max_head_bytes: usize,
    /// Connections at once; further ones wait unaccepted.
    pub max_connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long requests in flight may take to end once the server stops; then they are cut off.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            // Upstream's. Clients keep idle connections for as long at most.
            idle_timeout: Duration::from_secs(90),
            max_head_bytes: 256 * 1024,
            max_connections: 20_000,
            max_streams: 250,
            drain: Duration::from_secs(10),
        }
    }
}

/// The version that a connection speaks. TLS negotiates it; a bare stream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are HTTP's.
pub enum Protocol {
    Http1,
    Http2,
}

/// Serves one tower service on listeners and streams. Cloning shares.
#[derive(Clone)]
pub struct Server<S> {
    env: Env,
    service: S,
    limits: Limits,
    sent_away: f64,
}

impl<S: Service> Server<S> {
    /// A server with the default [`Limits`].
    pub fn new(env: Env, service: S) -> Self {
        Self { env, service, limits: Limits::default(), sent_away: 0.0 }
    }

    /// The same with other limits.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sends a client of HTTP/2 away after this share of requests, from 0 (the default) to 1: what it has asked is
    /// answered, and what it asks next comes by a new connection, which a balancer may lead to another server.
    pub fn send_away(self, share: f64) -> Self {
        Self { sent_away: share, ..self }
    }

    /// Accepts connections until `stop`, then lets those there are finish within [`Limits::drain`].
    ///
    /// With `tls` every connection is encrypted and negotiates its protocol; without, it is plain HTTP/1.1.
    /// Dropping the future stops accepting at once and leaves open connections to their own end.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Arc<ServerConfig>>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            let Ok((socket, address)) = accepted else {
                // Out of descriptors, most likely: they come back as connections end.
                self.env.sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (server, tls, stop, cut) = (self.clone(), tls.clone(), stop.clone(), cut.clone());
            let connection = tracker.track_future(async move {
                let _place = place;
                tokio::select! {
                    biased;
                    () = cut.cancelled() => {}
                    () = server.socket(socket, address, tls, stop) => {}
                }
            });
            self.env.spawn("connection", Box::pin(connection)).detach();
        }
        drop(listener);
        tracker.close();
        if env::timeout(&*self.env, self.limits.drain, tracker.wait()).await.is_none() {
            cut.cancel();
            tracker.wait().await;
        }
    }

    async fn socket(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        stop: CancellationToken,
    ) {
        // Answers are written whole; waiting for more to send only delays them.
        let _ = socket.set_nodelay(true);
        let mut peer = Peer { address: Some(address), ..Peer::default() };
        let Some(tls) = tls else {
            return self.serve_stream(socket, peer, Protocol::Http1, stop).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(socket);
        let stream = match env::timeout(&*self.env, self.limits.head_timeout, handshake).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake"),
            None => return tracing::debug!(%address, "TLS handshake took too long"),
        };
        let session = stream.get_ref().1;
        peer.certificates = session.peer_certificates().map(|chain| owned(chain)).unwrap_or_default();
        let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        self.serve_stream(stream, peer, protocol, stop).await;
    }

    /// Serves one connection until it ends, or until requests in flight have ended after `stop`.
    pub async fn serve_stream<IO>(&self, io: IO, peer: Peer, protocol: Protocol, stop: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let began = Arc::new(AtomicBool::new(false));
        let leave = stop.child_token();
        let service = self.connection_service(Arc::new(peer), began.clone(), stop, leave.clone(), protocol);
        match protocol {
            Protocol::Http1 => {
                let connection = self.http1().serve_connection(TokioIo::new(io), service).with_upgrades();
                self.drive(connection, |connection| connection.graceful_shutdown(), &began, leave).await;
            }
            Protocol::Http2 => {
                let start = |io| self.http2().serve_connection(TokioIo::new(io), service);
                let connection = Gathering::new(io, start, |connection| connection.graceful_shutdown());
                self.drive(connection, Gathering::finish, &began, leave).await;
            }
        }
    }

    fn connection_service(
        &self,
        peer: Arc<Peer>,
        began: Arc<AtomicBool>,
        stop: CancellationToken,
        leave: CancellationToken,
        protocol: Protocol,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    > + 'static {
        let (service, env, patience) = (self.service.clone(), self.env.clone(), self.limits.head_timeout);
        let sent_away = if protocol == Protocol::Http2 { self.sent_away } else { 0.0 };
        hyper::service::service_fn(move |request: Request<Incoming>| {
            began.store(true, Ordering::Relaxed);
            let mut request = request.map(body::boxed);
            request.extensions_mut().insert(peer.clone());
            // Answers that go on and on end themselves when the server is to stop.
            request.extensions_mut().insert(stop.clone());
            // Who expects to be told before they send has not sent anything yet.
            let is_sent = protocol == Protocol::Http1 && !request.headers().contains_key(header::EXPECT);
            let unread = Unread::default();
            if is_sent {
                request = request.map(|body| unread.lend(body));
            }
            let answering: BoxFuture<'static, _> = Box::pin(service.clone().oneshot(request));
            let (env, leave) = (env.clone(), leave.clone());
            async move {
                let answer = answering.await;
                if sent_away > 0.0 && (env.random() as f64) < sent_away * u64::MAX as f64 {
                    leave.cancel();
                }
                unread.discard(&*env, patience).await;
                answer
            }
        })
    }

    fn http1(&self) -> hyper::server::conn::http1::Builder {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // It runs from the end of an answer on. For the first head there is a timer of our own.
            .header_read_timeout(self.limits.idle_timeout)
            .max_header_size(self.limits.max_head_bytes);
        builder
    }

    fn http2(&self) -> hyper::server::conn::http2::Builder<Executor> {
        let mut builder = hyper::server::conn::http2::Builder::new(Executor(self.env.clone()));
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.max_streams)
            .max_header_list_size(u32::try_from(self.limits.max_head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(2 * 1024 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15));
        builder
    }

    /// Runs a connection until it ends, or until requests in flight have ended after `leave`. One that has not asked
    /// anything in time is closed.
    async fn drive<C, E>(&self, connection: C, finish: fn(Pin<&mut C>), began: &AtomicBool, leave: CancellationToken)
    where
        C: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        tokio::pin!(connection);
        let first = async {
            self.env.sleep(self.limits.head_timeout).await;
            if began.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = leave.cancelled() => {
                finish(connection.as_mut());
                connection.await
            }
            () = first => return tracing::debug!("connection closed: nothing was asked in time"),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

fn owned(chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
}

/// Lets hyper start its tasks in the environment.
#[derive(Clone)]
pub(crate) struct Executor(pub(crate) Env);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let quiet = async move {
            future.await;
        };
        self.0.spawn("http", Box::pin(quiet)).detach();
    }
}
