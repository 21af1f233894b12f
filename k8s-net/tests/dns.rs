//! The DNS server as its clients see it: real sockets, a cluster that it follows, resolvers that it asks.
#![allow(clippy::disallowed_methods, reason = "tests ask the system")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::join_all, stream};
use k8s_core::{
    env::{Env, Task},
    object::Object,
    request::{ApiRequest, ApiResponse, ObjectList, ResponseBody, Verb, WatchEvent},
    seam::transport::Transport,
    status::ApiResult,
};
use k8s_net::dns::{
    Dns, Forwarder, Sockets, Zone,
    proto::{
        op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata::CNAME},
    },
};
use k8s_reconcile::Client;
use k8s_wire::env::System;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An API server that answers lists from what it was given, and watches of Services from a channel.
struct Server {
    lists: BTreeMap<&'static str, Vec<Arc<Object>>>,
    services: Mutex<Option<mpsc::UnboundedReceiver<WatchEvent>>>,
}

#[async_trait]
impl Transport for Server {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let plural = request.target.resource.plural.as_str();
        let body = match request.verb {
            Verb::List => {
                let items = self.lists.get(plural).cloned().unwrap_or_default();
                ResponseBody::List(ObjectList { items, revision: 1, ..ObjectList::default() })
            }
            Verb::Watch => {
                let events = (plural == "services").then(|| self.services.lock().unwrap().take()).flatten();
                ResponseBody::Watch(match events {
                    Some(events) => {
                        stream::unfold(events, |mut e| async { e.recv().await.map(|event| (Ok(event), e)) }).boxed()
                    }
                    None => stream::pending().boxed(),
                })
            }
            verb => panic!("the server only reads, and asked to {verb:?}"),
        };
        Ok(ApiResponse::ok(body))
    }
}

fn object(value: &Value, revision: u64) -> Arc<Object> {
    Arc::new(Object::from_json(serde_json::to_vec(value).unwrap().into(), Some(revision)).unwrap())
}

fn service(name: &str, spec: Value) -> Value {
    let metadata = json!({"namespace": "shop", "name": name, "uid": name});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

/// A Service `web`, a headless one with `count` endpoints, and an external name.
fn cluster(count: usize) -> (Server, mpsc::UnboundedSender<WatchEvent>) {
    let endpoints: Vec<Value> =
        (0..count).map(|n| json!({"addresses": [format!("10.1.{}.{}", n / 250, n % 250 + 1)]})).collect();
    let metadata =
        json!({"namespace": "shop", "name": "db-1", "uid": "1", "labels": {"kubernetes.io/service-name": "db"}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": "IPv4", "ports": [], "endpoints": endpoints});
    let services = [
        service("web", json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]})),
        service("db", json!({"clusterIP": "None"})),
        service("away", json!({"type": "ExternalName", "externalName": "one.test"})),
    ];
    let (events, receiver) = mpsc::unbounded_channel();
    let lists = BTreeMap::from([
        ("services", services.iter().map(|value| object(value, 1)).collect()),
        ("endpointslices", vec![object(&slice, 1)]),
    ]);
    (Server { lists, services: Mutex::new(Some(receiver)) }, events)
}

/// A running server, and who asks it.
struct Test {
    address: SocketAddr,
    events: mpsc::UnboundedSender<WatchEvent>,
    _tasks: [Task; 2],
}

impl Test {
    async fn start(endpoints: usize, resolvers: Vec<SocketAddr>) -> Self {
        let sockets = Sockets::bind(LOOPBACK).await.unwrap();
        Self::on(sockets, endpoints, resolvers)
    }

    fn on(sockets: Sockets, endpoints: usize, resolvers: Vec<SocketAddr>) -> Self {
        let env: Env = System::current();
        let (server, events) = cluster(endpoints);
        let client = Client::new(Arc::new(server), env.clone());
        let address = sockets.address().unwrap();
        let zone = Zone::new("cluster.local").unwrap();
        let dns = Arc::new(Dns::new(env.clone(), zone, Forwarder::new(env.clone(), resolvers)));
        let (serving, following) = (dns.clone(), dns);
        let tasks = [
            env.spawn("serve", Box::pin(async move { serving.serve(sockets).await })),
            env.spawn("follow", Box::pin(async move { following.follow(&client).await })),
        ];
        Self { address, events, _tasks: tasks }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        over_udp(self.address, &question(name, kind)).await
    }

    /// Asks until the outcome is `code`.
    async fn until(&self, name: &str, code: ResponseCode) -> Message {
        let wait = async {
            loop {
                let answer = self.ask(name, RecordType::A).await;
                if answer.metadata.response_code == code {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{name} never became {code}"))
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries = vec![Query::query(Name::from_ascii(name).unwrap(), kind)];
    message
}

async fn over_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn exchange(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

/// How a resolver of the test behaves.
#[derive(Clone, Copy)]
enum Manner {
    Usual,
    /// Answers over UDP that the whole answer is to be had over TCP.
    Truncating,
    Refusing,
    Silent,
    /// Sends an answer to another question first.
    Forging,
}

/// A resolver: every name below `test` has an address, but `no.test`.
struct Resolver {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: [Task; 2],
}

impl Resolver {
    async fn start(manner: Manner) -> Self {
        let tcp = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let env = System::current();
        let datagrams = env.spawn(
            "udp",
            Box::pin(async move {
                let mut buffer = [0; 4096];
                while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut answer = told(&buffer[..length]);
                    match manner {
                        Manner::Silent => continue,
                        Manner::Refusing => answer.metadata.response_code = ResponseCode::Refused,
                        Manner::Truncating => {
                            answer.answers.clear();
                            answer.metadata.truncation = true;
                        }
                        Manner::Forging => {
                            let mut forged = answer.clone();
                            forged.metadata.id ^= 1;
                            forged.answers.clear();
                            udp.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
                        }
                        Manner::Usual => {}
                    }
                    udp.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
                }
            }),
        );
        let streams = env.spawn(
            "tcp",
            Box::pin(async move {
                while let Ok((mut stream, _)) = tcp.accept().await {
                    let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let answer = told(&bytes).to_vec().unwrap();
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }),
        );
        Self { address, asked, _tasks: [datagrams, streams] }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn told(bytes: &[u8]) -> Message {
    let mut message = Message::from_vec(bytes).unwrap();
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    match name.to_ascii().as_str() {
        "no.test." => message.metadata.response_code = ResponseCode::NXDomain,
        "alias.test." => {
            let target = Name::from_ascii("one.test.").unwrap();
            message.answers = vec![
                Record::from_rdata(name, 60, RData::CNAME(CNAME(target.clone()))),
                Record::from_rdata(target, 60, RData::A(Ipv4Addr::new(192, 0, 2, 1).into())),
            ];
        }
        _ => message.answers = vec![Record::from_rdata(name, 60, RData::A(Ipv4Addr::new(192, 0, 2, 1).into()))],
    }
    message
}

#[tokio::test]
async fn names_of_the_cluster_come_and_go() {
    let test = Test::start(3, vec![]).await;
    let answer = test.until("web.shop.svc.cluster.local.", ResponseCode::NoError).await;
    assert_eq!(addresses(&answer), [Ipv4Addr::new(10, 96, 0, 5)]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    let denied = test.ask("new.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(denied.authorities[0].record_type(), RecordType::SOA);

    let new = object(&service("new", json!({"clusterIP": "10.96.0.6"})), 2);
    test.events.send(WatchEvent::Added(new.clone())).unwrap();
    let answer = test.until("NEW.shop.svc.cluster.local.", ResponseCode::NoError).await;
    assert_eq!(addresses(&answer), [Ipv4Addr::new(10, 96, 0, 6)]);
    assert_eq!(answer.queries[0].name().to_ascii(), "NEW.shop.svc.cluster.local.", "as it was asked");
    test.events.send(WatchEvent::Deleted(new)).unwrap();
    test.until("new.shop.svc.cluster.local.", ResponseCode::NXDomain).await;
}

#[tokio::test]
async fn many_endpoints_come_in_any_order_and_whole_over_tcp() {
    let test = Test::start(400, vec![]).await;
    let first = test.until("db.shop.svc.cluster.local.", ResponseCode::NoError).await;
    assert!(first.metadata.truncation && !first.answers.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        seen.insert(addresses(&test.ask("db.shop.svc.cluster.local.", RecordType::A).await)[0]);
    }
    // Twenty fair draws from four hundred are rarely fewer than fifteen different ones.
    assert!(seen.len() >= 10, "{seen:?}");
    let mut question = question("db.shop.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    question.edns = Some(edns);
    let more = over_udp(test.address, &question).await;
    assert!(more.metadata.truncation && more.answers.len() > first.answers.len());
    let mut stream = TcpStream::connect(test.address).await.unwrap();
    for _ in 0..2 {
        let whole = exchange(&mut stream, &question).await;
        assert_eq!((whole.metadata.truncation, addresses(&whole).len()), (false, 400));
    }
}

#[tokio::test]
async fn other_names_are_asked_of_resolvers_once() {
    let resolver = Resolver::start(Manner::Usual).await;
    let test = Test::start(1, vec![resolver.address]).await;
    let asked = join_all((0..50).map(|_| test.ask("One.test.", RecordType::A))).await;
    for answer in asked {
        assert_eq!(addresses(&answer), [Ipv4Addr::new(192, 0, 2, 1)]);
        assert!(!answer.metadata.authoritative);
    }
    assert_eq!(resolver.asked(), 1, "equal questions are asked once, and their answer is kept");
    let denied = test.ask("no.test.", RecordType::A).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);
    let alias = test.ask("alias.test.", RecordType::A).await;
    assert_eq!((alias.answers.len(), addresses(&alias).len()), (2, 1));
    // Over TCP too, and by way of a Service that is an external name.
    let mut stream = TcpStream::connect(test.address).await.unwrap();
    test.until("away.shop.svc.cluster.local.", ResponseCode::NoError).await;
    let away = exchange(&mut stream, &question("away.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(away.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&away), [Ipv4Addr::new(192, 0, 2, 1)], "resolvers of pods do not follow aliases themselves");
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp_and_a_forged_one_ignored() {
    for manner in [Manner::Truncating, Manner::Forging] {
        let resolver = Resolver::start(manner).await;
        let test = Test::start(1, vec![resolver.address]).await;
        let answer = test.ask("one.test.", RecordType::A).await;
        assert_eq!((answer.metadata.truncation, addresses(&answer).len()), (false, 1));
        assert_eq!(resolver.asked(), 1);
    }
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_fails() {
    let (silent, refusing) = (Resolver::start(Manner::Silent).await, Resolver::start(Manner::Refusing).await);
    let usual = Resolver::start(Manner::Usual).await;
    let test = Test::start(1, vec![silent.address, refusing.address, usual.address]).await;
    assert_eq!(addresses(&test.ask("one.test.", RecordType::A).await).len(), 1);
    assert_eq!((silent.asked(), refusing.asked(), usual.asked()), (1, 1, 1));
    assert_eq!(addresses(&test.ask("two.test.", RecordType::A).await).len(), 1);
    assert_eq!((silent.asked(), usual.asked()), (1, 2), "who answered last is asked first");
    let alone = Test::start(1, vec![refusing.address]).await;
    assert_eq!(alone.ask("one.test.", RecordType::A).await.metadata.response_code, ResponseCode::Refused);
    let nobody = Test::start(1, vec![]).await;
    assert_eq!(nobody.ask("one.test.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
}

/// A server whose only resolver is itself: the question comes back once, and ends with an error.
#[tokio::test]
async fn a_circle_of_resolvers_ends() {
    let sockets = Sockets::bind(LOOPBACK).await.unwrap();
    let address = sockets.address().unwrap();
    let test = Test::on(sockets, 1, vec![address]);
    let answer = test.ask("one.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // Names of the cluster were answered all the while.
    test.until("web.shop.svc.cluster.local.", ResponseCode::NoError).await;
}

#[tokio::test]
async fn noise_does_not_stop_the_server() {
    let test = Test::start(1, vec![]).await;
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    for noise in [&b""[..], b"x", &[0xff; 600], &[0; 12]] {
        socket.send_to(noise, test.address).await.unwrap();
        let mut stream = TcpStream::connect(test.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
    }
    test.until("web.shop.svc.cluster.local.", ResponseCode::NoError).await;
    let mut stream = TcpStream::connect(test.address).await.unwrap();
    let answer = exchange(&mut stream, &question("web.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(addresses(&answer).len(), 1);
}
