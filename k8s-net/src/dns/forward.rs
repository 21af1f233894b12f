//! Names outside of the zone: asks the machine's resolvers, one after the other.
//!
//! Equal questions at the same time are asked once. So a resolver that asks us back, directly or through others, waits
//! for its own answer and gets an error in time: a circle never grows.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use k8s_core::env::{Env, timeout};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::{
    cache::{Cache, Key, Told},
    request::{DATAGRAM_LIMIT, Request},
};

/// How long one resolver has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them have together; those who ask us give up after five seconds.
const LIMIT: Duration = Duration::from_millis(4500);

/// Nobody could be asked, or nobody answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no resolver answered")]
pub struct Unresolved;

type Outcome = Result<Arc<Told>, Unresolved>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// Asks resolvers and keeps what they say for a while.
pub struct Forwarder {
    env: Env,
    servers: Vec<SocketAddr>,
    /// The server that answered last: it is asked first.
    preferred: AtomicUsize,
    cache: Mutex<Cache>,
    in_flight: Mutex<BTreeMap<Key, Flight>>,
}

impl Forwarder {
    /// Asks these servers, in order. Without any, nothing outside of the zone is found.
    pub fn new(env: Env, servers: Vec<SocketAddr>) -> Self {
        Self { env, servers, preferred: AtomicUsize::new(0), cache: Mutex::default(), in_flight: Mutex::default() }
    }

    /// Resolves a name for whoever asked `request`. Cancel-safe: others who ask the same are still answered.
    pub(super) async fn resolve(self: &Arc<Self>, name: &Name, request: &Request) -> Result<Told, Unresolved> {
        let key = Key {
            name: name.to_lowercase(),
            kind: request.question.query_type,
            signed: request.wants_signatures(),
            trusting: request.trusts(),
        };
        if let Some(told) = self.cache.lock().get(&key, self.env.monotonic()) {
            return Ok(told);
        }
        let flight = self.flight(key);
        flight.await.map(|told| Told::clone(&told))
    }

    /// The question under way, begun now if nobody else has asked it.
    fn flight(self: &Arc<Self>, key: Key) -> Flight {
        let mut in_flight = self.in_flight.lock();
        if let Some(flight) = in_flight.get(&key) {
            return flight.clone();
        }
        let (own, asked) = (self.clone(), key.clone());
        let flight: BoxFuture<'static, Outcome> = Box::pin(async move {
            let outcome = timeout(&*own.env, LIMIT, own.ask_all(&asked)).await.unwrap_or(Err(Unresolved));
            if let Ok(told) = &outcome {
                own.cache.lock().put(asked.clone(), told.clone(), own.env.monotonic());
            }
            own.in_flight.lock().remove(&asked);
            outcome
        });
        let flight = flight.shared();
        in_flight.insert(key, flight.clone());
        flight
    }

    async fn ask_all(&self, key: &Key) -> Outcome {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Err(Unresolved);
        for number in 0..self.servers.len() {
            let number = (first + number) % self.servers.len();
            let server = self.servers[number];
            match timeout(&*self.env, PATIENCE, self.ask(server, key)).await {
                Some(Ok(told)) if matches!(told.code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Ok(Arc::new(told));
                }
                // It has an opinion; somebody else may have a better one.
                Some(Ok(told)) => last = Ok(Arc::new(told)),
                Some(Err(error)) => tracing::debug!(%server, %error, "a resolver cannot be asked"),
                None => tracing::debug!(%server, "a resolver did not answer in time"),
            }
        }
        last
    }

    async fn ask(&self, server: SocketAddr, key: &Key) -> io::Result<Told> {
        let question = Question::new(key, self.env.random() as u16);
        let bytes = question.encode()?;
        let mut answer = over_datagrams(server, &bytes, &question).await?;
        if answer.metadata.truncation {
            answer = over_a_stream(server, &bytes, &question).await?;
        }
        Ok(Told { code: answer.metadata.response_code, answers: answer.answers, authorities: answer.authorities })
    }
}

/// What is sent to a resolver.
struct Question {
    id: u16,
    query: Query,
    signed: bool,
    trusting: bool,
}

impl Question {
    fn new(key: &Key, id: u16) -> Self {
        Self { id, query: Query::query(key.name.clone(), key.kind), signed: key.signed, trusting: key.trusting }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.trusting;
        message.queries = vec![self.query.clone()];
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_LIMIT).set_dnssec_ok(self.signed);
        message.edns = Some(edns);
        message.to_vec().map_err(io::Error::other)
    }

    /// The message, if it answers this question; anything else was forged, or is late.
    fn answered_by(&self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let fits = message.metadata.id == self.id
            && message.metadata.message_type == MessageType::Response
            && message.queries.first().is_some_and(|query| self.is_about(query.name(), query.query_type()));
        fits.then_some(message)
    }

    fn is_about(&self, name: &Name, kind: RecordType) -> bool {
        *name == self.query.name && kind == self.query.query_type
    }
}

/// Each question has a socket of its own, and so a port that nobody can guess.
async fn over_datagrams(server: SocketAddr, bytes: &[u8], question: &Question) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; DATAGRAM_LIMIT as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(message) = question.answered_by(&buffer[..length]) {
            return Ok(message);
        }
    }
}

async fn over_a_stream(server: SocketAddr, bytes: &[u8], question: &Question) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    question.answered_by(&buffer).ok_or_else(|| io::Error::other("an answer to another question"))
}
