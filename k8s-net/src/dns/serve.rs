//! The sockets: questions in, answers out, over UDP and TCP. Decides nothing.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, Record, RecordType},
};
use k8s_core::env::{Env, timeout};
use parking_lot::RwLock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::{
    Answer, Forwarder, Index, Outcome, Zone, answer,
    request::{Carrier, Incoming, Reply, Request},
};

/// The most questions over UDP that wait for other resolvers at a time; more are answered with an error at once.
const MAX_WAITING: usize = 512;
/// The most TCP connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// How long a TCP connection may take for its next question, or to take an answer.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait after a socket failed, lest a lasting failure take all the time there is.
const PAUSE: Duration = Duration::from_millis(20);
/// The largest question that is read over UDP, in bytes. Real ones are below 300.
const LARGEST_QUESTION: usize = 4096;
/// How often a free port is looked for.
const ATTEMPTS: usize = 16;

/// A DNS server for one cluster.
///
/// Does nothing by itself: [`follow`](Dns::follow) keeps it true to the cluster and [`serve`](Dns::serve) answers, each
/// for as long as its future is polled.
pub struct Dns {
    pub(super) index: RwLock<Index>,
    forwarder: Arc<Forwarder>,
    env: Env,
}

/// The sockets that a server answers on: UDP and TCP on one address.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds both. Port 0 chooses one that is free for both.
    ///
    /// On an unspecified address, answers may leave by another address than they were asked at: name one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => return Ok(Self { udp, tcp }),
                Err(error) if address.port() != 0 || attempt == ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where both answer.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

impl Dns {
    /// A server for `zone` that hands questions about other names to `forwarder`.
    pub fn new(env: Env, zone: Zone, forwarder: Forwarder) -> Self {
        Self { index: RwLock::new(Index::new(zone)), forwarder: Arc::new(forwarder), env }
    }

    /// Answers for as long as it is polled. Dropping the future ends what is under way.
    pub async fn serve(&self, sockets: Sockets) {
        let (mut datagrams, mut streams) = (pin!(self.datagrams(&sockets.udp)), pin!(self.streams(&sockets.tcp)));
        tokio::select! {
            biased;
            () = &mut datagrams => {}
            () = &mut streams => {}
        }
    }

    async fn datagrams(&self, socket: &UdpSocket) {
        let mut waiting = FuturesUnordered::new();
        let mut buffer = vec![0; LARGEST_QUESTION];
        loop {
            let received = tokio::select! {
                biased;
                Some(()) = waiting.next() => continue,
                received = socket.recv_from(&mut buffer) => received,
            };
            let Ok((length, client)) = received else {
                self.env.sleep(PAUSE).await;
                continue;
            };
            match self.consider(&buffer[..length], Carrier::Datagram) {
                Considered::Silent => {}
                Considered::Answered(bytes) => send(socket, &bytes, client).await,
                Considered::Elsewhere(pending) if waiting.len() < MAX_WAITING => waiting.push(async move {
                    let bytes = self.complete(*pending).await;
                    send(socket, &bytes, client).await;
                }),
                Considered::Elsewhere(pending) => {
                    let busy = pending.request.encode(Reply::error(ResponseCode::ServFail));
                    send(socket, &busy, client).await;
                }
            }
        }
    }

    async fn streams(&self, listener: &TcpListener) {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.next() => {}
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(self.connection(stream)),
                    Err(_) => self.env.sleep(PAUSE).await,
                },
            }
        }
    }

    /// One question after the other, until the client leaves or does nothing for too long.
    async fn connection(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let bytes = timeout(&*self.env, IDLE, read(&mut stream)).await?.ok()?;
            let answer = match self.consider(&bytes, Carrier::Stream) {
                Considered::Silent => return None,
                Considered::Answered(bytes) => bytes,
                Considered::Elsewhere(pending) => self.complete(*pending).await,
            };
            let length = u16::try_from(answer.len()).ok()?;
            let answer = [&length.to_be_bytes(), &answer[..]].concat();
            timeout(&*self.env, IDLE, stream.write_all(&answer)).await?.ok()?;
        }
    }

    /// Does what can be done without waiting.
    fn consider(&self, bytes: &[u8], carrier: Carrier) -> Considered {
        let request = match Incoming::read(bytes, carrier) {
            Incoming::Question(request) => request,
            Incoming::Refused(bytes) => return Considered::Answered(bytes),
            Incoming::Noise => return Considered::Silent,
        };
        let answer = answer(&self.index.read(), request.question.name(), request.question.query_type());
        let code = match answer.outcome {
            Outcome::Found | Outcome::NoData => ResponseCode::NoError,
            Outcome::NoName => ResponseCode::NXDomain,
            Outcome::Failed => ResponseCode::ServFail,
            Outcome::Elsewhere(name) => {
                let aliases = answer.records;
                return Considered::Elsewhere(Box::new(Pending { request, name, aliases }));
            }
        };
        let Answer { records, additionals, authorities, .. } = answer;
        let answers = self.shuffled(records);
        let reply = Reply { code, authoritative: true, answers, authorities, additionals };
        Considered::Answered(request.encode(reply))
    }

    async fn complete(&self, pending: Pending) -> Vec<u8> {
        let Pending { request, name, aliases } = pending;
        let reply = match self.forwarder.resolve(&name, &request).await {
            Ok(told) => Reply {
                code: told.code,
                authoritative: !aliases.is_empty(),
                answers: self.shuffled(aliases.into_iter().chain(told.answers).collect()),
                authorities: told.authorities,
                additionals: Vec::new(),
            },
            Err(_) => Reply { answers: aliases, ..Reply::error(ResponseCode::ServFail) },
        };
        request.encode(reply)
    }

    /// The addresses in random order, so that clients that take the first one spread.
    fn shuffled(&self, mut records: Vec<Record>) -> Vec<Record> {
        let is_address = |record: &Record| matches!(record.record_type(), RecordType::A | RecordType::AAAA);
        let first = records.iter().position(is_address).unwrap_or(records.len());
        let addresses = &mut records[first..];
        if addresses.iter().all(is_address) {
            for left in (2..=addresses.len()).rev() {
                let drawn = (self.env.random() % left as u64) as usize;
                addresses.swap(left - 1, drawn);
            }
        }
        records
    }
}

/// What came of a message without waiting.
enum Considered {
    Silent,
    Answered(Vec<u8>),
    Elsewhere(Box<Pending>),
}

/// A question that somebody else must be asked.
struct Pending {
    request: Request,
    /// For this name,
    name: Name,
    /// which these lead to.
    aliases: Vec<Record>,
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "an answer could not be sent");
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
