//! The service proxy with its userspace backend, with real pods, clients and sockets.
#![allow(clippy::disallowed_methods, reason = "tests ask the system")]

mod node;
mod objects;

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use k8s_core::api::api::discovery::v1::EndpointConditions;
use k8s_net::{
    pod::Routed,
    proxy::{Applied, NodeView, Obstacle, Proxy, ServiceBackend, Userspace, UserspaceConfig, plan},
};
use k8s_wire::env::System;
use node::{Answer, NODE, Node, Pod, ask, ask_udp, on_a_fresh_node, run, udp_client};
use objects::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WEB: &str = "10.96.0.10:80";
const WEB_PORT: &str = "192.0.2.1:30080";
/// How long anything may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to watch that something does not happen.
const WHILE: Duration = Duration::from_millis(300);

fn view() -> NodeView {
    NodeView {
        name: "here".into(),
        addresses: vec![NODE.parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        ..NodeView::default()
    }
}

fn userspace(node: &Node, config: UserspaceConfig) -> Userspace {
    Userspace::new(System::on(node.runtime.handle().clone()), config)
}

fn backend(node: &Node) -> Userspace {
    userspace(node, UserspaceConfig::default())
}

fn sync(node: &Node, backend: &mut Userspace, cluster: &Cluster) -> Applied {
    node.wait(backend.apply(plan(&cluster.services, &cluster.slices, &view()))).expect("the rules are applied")
}

/// A Service `web` with a node port, and a backend that is not told of it yet.
fn web() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.service("web", WEB, r#"{"nodePort": 30080}"#);
    cluster
}

/// A pod that can be reached: what is sent into a link that has only just come up may be lost, and nobody sends a datagram
/// again.
fn reachable(node: &Node, network: &Routed, name: &str) -> Pod {
    let pod = node.pod(network, name);
    ask(&format!("{}:80", pod.ip())).expect("TCP sends again");
    pod
}

/// Who answers `count` times.
fn who(count: usize, mut ask: impl FnMut() -> Answer) -> BTreeSet<String> {
    (0..count).map(|_| ask().name).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_to_end(mut stream: &TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

/// Serves one connection after another at the node itself, each with `serve`.
fn serve_each(port: u16, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) {
    let listener = TcpListener::bind((NODE, port)).expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
}

/// Answers each byte with the same byte.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A connection through which one byte went there and back.
fn greeted(address: &str) -> TcpStream {
    let mut stream = connect(address);
    greet(&mut stream).expect("the echo answers");
    stream
}

fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("every process has descriptors").count()
}

/// Looks again until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

/// More files than some machines allow by default.
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn everybody_reaches_every_endpoint_by_every_address() {
    on_a_fresh_node("everybody_reaches_every_endpoint_by_every_address", |node| {
        let network = node.pod_network();
        let [a, b, c] = ["a", "b", "c"].map(|name| node.pod(&network, name));
        let mut cluster = web();
        cluster.edit("web", r#"{"spec": {"externalIPs": ["198.51.100.1"]}}"#);
        cluster.endpoints("web", &[&a, &b]);
        cluster.service("six", "[fd00:96::10]:80", r#"{"nodePort": 30081}"#);
        cluster.endpoints_v6("six", &[&c]);
        let mut backend = backend(node);
        assert_eq!(sync(node, &mut backend, &cluster), Applied { full: true, changes: 5 });
        assert_eq!(backend.unserved().to_string(), "");

        for address in [WEB, WEB_PORT, "198.51.100.1:80"] {
            // A fair draw misses this once in a billion runs.
            assert_eq!(who(30, || ask(address).unwrap()), names(["a", "b"]), "{address} from the node");
            assert_eq!(who(30, || a.namespace.ask(address).unwrap()), names(["a", "b"]), "{address} from a pod");
            assert_eq!(who(30, || node.stranger.ask(address).unwrap()), names(["a", "b"]), "{address} from outside");
        }
        assert_eq!(a.namespace.ask(WEB).unwrap().client, "10.1.0.1", "endpoints see the node");
        assert_eq!(ask("[fd00:96::10]:80").unwrap().name, "c");
        assert_eq!(a.namespace.ask("[fd00:96::10]:80").unwrap().name, "c");
        assert_eq!(node.stranger.ask("[2001:db8::1]:30081").unwrap().name, "c");

        // New endpoints are used by new connections, and those that went are not.
        cluster.endpoints("web", &[&b, &c]);
        assert_eq!(sync(node, &mut backend, &cluster), Applied { full: false, changes: 3 });
        assert_eq!(who(30, || ask(WEB).unwrap()), names(["b", "c"]));
        assert_eq!(sync(node, &mut backend, &cluster), Applied { full: false, changes: 0 });

        let link = || run("ip", &["-o", "address", "show", "k8s-proxy"]).lines().count();
        assert_eq!(link(), 3, "cluster IPs and the external one");
        cluster.services.pop();
        sync(node, &mut backend, &cluster);
        assert_eq!(link(), 2);
        node.wait(backend.cleanup()).unwrap();
        assert!(!run("ip", &["link"]).contains("k8s-proxy"));
        assert_eq!(ask(WEB_PORT).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn what_cannot_be_served_is_refused() {
    on_a_fresh_node("what_cannot_be_served_is_refused", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = web();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP"}"#);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let refused = |outcome: std::io::Result<Answer>, what: &str| {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{what}");
        };
        refused(ask(WEB), "from the node");
        refused(a.namespace.ask(WEB), "from a pod");
        refused(node.stranger.ask(WEB_PORT), "from outside");
        refused(a.namespace.ask("10.96.0.10:81"), "a port of a cluster IP that no Service has");
        refused(a.namespace.ask_udp("10.96.0.53:53"), "datagrams");

        // Endpoints, but none here for strangers; then none here for anybody.
        cluster.edit("web", r#"{"spec": {"externalTrafficPolicy": "Local"}}"#);
        cluster.endpoints_on("web", &[(&b, "there")]);
        sync(node, &mut backend, &cluster);
        assert_eq!(a.namespace.ask(WEB_PORT).unwrap().name, "b");
        assert_eq!(ask(WEB_PORT).unwrap().name, "b", "the node is no stranger");
        let lost = node.stranger.ask(WEB_PORT).unwrap_err().kind();
        assert!([ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused].contains(&lost), "{lost}");
        cluster.endpoints_on("web", &[(&a, "here"), (&b, "there")]);
        sync(node, &mut backend, &cluster);
        assert_eq!(who(20, || node.stranger.ask(WEB_PORT).unwrap()), names(["a"]));
        assert_eq!(who(30, || ask(WEB_PORT).unwrap()), names(["a", "b"]));
        cluster.edit("web", r#"{"spec": {"internalTrafficPolicy": "Local"}}"#);
        sync(node, &mut backend, &cluster);
        assert_eq!(who(20, || ask(WEB).unwrap()), names(["a"]));

        // And none at all again.
        cluster.endpoints("web", &[]);
        sync(node, &mut backend, &cluster);
        refused(ask(WEB), "from the node");
    });
}

#[test]
fn affinity_keeps_a_client_until_its_endpoint_goes() {
    on_a_fresh_node("affinity_keeps_a_client_until_its_endpoint_goes", |node| {
        let network = node.pod_network();
        let pods: Vec<_> = ["a", "b", "c", "d"].map(|name| node.pod(&network, name)).into();
        let mut cluster = web();
        cluster.edit("web", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        cluster.endpoints("web", &pods.iter().collect::<Vec<_>>());
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let first = node.stranger.ask(WEB_PORT).unwrap().name;
        assert_eq!(who(20, || node.stranger.ask(WEB_PORT).unwrap()), [first.clone()].into());

        let left: Vec<_> = pods.iter().filter(|pod| pod.name != first).collect();
        cluster.endpoints("web", &left);
        sync(node, &mut backend, &cluster);
        let second = node.stranger.ask(WEB_PORT).unwrap().name;
        assert_ne!(second, first);
        assert_eq!(who(20, || node.stranger.ask(WEB_PORT).unwrap()), [second].into(), "and sticks to the new one");

        cluster.edit("web", r#"{"spec": {"sessionAffinity": "None"}}"#);
        sync(node, &mut backend, &cluster);
        assert_eq!(who(60, || node.stranger.ask(WEB_PORT).unwrap()).len(), 3);
    });
}

#[test]
fn either_side_may_end_first() {
    on_a_fresh_node("either_side_may_end_first", |node| {
        // The client ends first, and still hears the answer.
        serve_each(7000, |mut stream| {
            let heard = read_to_end(&stream).unwrap();
            let _ = stream.write_all(format!("heard {}", heard.len()).as_bytes());
        });
        // The server ends first, and still hears the client.
        let (tell, told) = mpsc::channel();
        serve_each(7001, move |mut stream| {
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            tell.send(read_to_end(&stream).unwrap()).unwrap();
        });
        let mut cluster = web();
        cluster.endpoint_at("web", NODE, 7000);
        cluster.service("other", "10.96.0.11:80", "{}");
        cluster.endpoint_at("other", NODE, 7001);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);

        let mut client = connect(WEB);
        client.write_all(&vec![b'x'; 1_000_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap(), "heard 1000000");

        let mut client = connect("10.96.0.11:80");
        assert_eq!(read_to_end(&client).unwrap(), "hello");
        client.write_all(b"goodbye").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "goodbye");
    });
}

#[test]
fn a_broken_connection_is_broken_on_both_sides() {
    on_a_fresh_node("a_broken_connection_is_broken_on_both_sides", |node| {
        let (tell, told) = mpsc::channel();
        serve_each(7000, move |mut stream| {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"!").unwrap();
            tell.send(read_to_end(&stream).unwrap_err().kind()).unwrap();
        });
        let mut cluster = web();
        cluster.endpoint_at("web", NODE, 7000);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let client = greeted(WEB);
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn connections_live_as_long_as_their_endpoint() {
    on_a_fresh_node("connections_live_as_long_as_their_endpoint", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let other = node.pod(&network, "b");
        for pod in [&pod, &other] {
            pod.namespace.run(|| {
                let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
                thread::spawn(move || {
                    listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| echo(stream))))
                });
            });
        }
        let to_echo = |cluster: &mut Cluster| {
            cluster.slices[0].ports.as_mut().unwrap()[0].port = Some(7000);
        };
        let mut cluster = web();
        cluster.endpoints("web", &[&pod]);
        to_echo(&mut cluster);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let mut connection = greeted(WEB);
        let mut by_port = greeted(WEB_PORT);

        // On its way out: no new connections, and the old ones go on, even when that leaves nobody to connect to.
        cluster.endpoints("web", &[&pod, &other]);
        to_echo(&mut cluster);
        let leaving = EndpointConditions { ready: Some(false), serving: Some(true), terminating: Some(true) };
        cluster.slices[0].endpoints.as_mut().unwrap()[0].conditions = Some(leaving);
        sync(node, &mut backend, &cluster);
        greet(&mut connection).unwrap();
        let mut newer = greeted(WEB);
        let neither = EndpointConditions { ready: Some(false), serving: Some(false), terminating: None };
        cluster.slices[0].endpoints.as_mut().unwrap()[1].conditions = Some(neither.clone());
        cluster.slices[0].endpoints.as_mut().unwrap()[0].conditions = Some(neither);
        sync(node, &mut backend, &cluster);
        assert_eq!(TcpStream::connect(WEB).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        greet(&mut connection).unwrap();

        // Gone: so is the connection, and no other.
        cluster.endpoints("web", &[&other]);
        to_echo(&mut cluster);
        sync(node, &mut backend, &cluster);
        for gone in [&mut connection, &mut by_port] {
            assert_eq!(gone.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        greet(&mut newer).unwrap();

        // The Service is gone, and everything with it.
        sync(node, &mut backend, &Cluster::default());
        assert_eq!(newer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

        // So it is with the proxy itself.
        sync(node, &mut backend, &cluster);
        let mut last = greeted(WEB);
        drop(Proxy::new(view(), backend));
        assert_eq!(last.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        until("the link goes", || !run("ip", &["link"]).contains("k8s-proxy"));
    });
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    on_a_fresh_node("a_dead_endpoint_is_passed_over", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = web();
        cluster.edit("web", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        cluster.service("dns", "10.96.0.53:80", r#"{"protocol": "UDP"}"#);
        let mut backend = backend(node);
        // The node itself has nobody at port 80, and says so.
        for service in ["web", "dns"] {
            cluster.endpoints(service, &[&a, &b]);
            let endpoints = cluster.slices.last_mut().unwrap().endpoints.as_mut().unwrap();
            endpoints[0].addresses = vec![NODE.into()];
        }
        sync(node, &mut backend, &cluster);
        assert_eq!(who(20, || ask(WEB).unwrap()), names(["b"]));
        for _ in 0..20 {
            let client = udp_client("10.96.0.53:80").unwrap();
            client.set_read_timeout(Some(WHILE)).unwrap();
            // A datagram to the dead one is lost; the next one goes elsewhere.
            let answer = ask_udp(&client).or_else(|_| ask_udp(&client)).unwrap();
            assert_eq!(answer.name, "b");
        }

        cluster.endpoints("web", &[&a]);
        cluster.slices.last_mut().unwrap().endpoints.as_mut().unwrap()[0].addresses = vec![NODE.into()];
        sync(node, &mut backend, &cluster);
        assert_eq!(read_to_end(&connect(WEB)).unwrap_err().kind(), ErrorKind::ConnectionReset, "nobody is left to try");
    });
}

#[test]
fn udp_flows_leave_an_endpoint_that_is_gone() {
    on_a_fresh_node("udp_flows_leave_an_endpoint_that_is_gone", |node| {
        let network = node.pod_network();
        let (a, b) = (reachable(node, &network, "a"), reachable(node, &network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP", "nodePort": 30053}"#);
        cluster.endpoints("dns", &[&a]);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let client = udp_client("10.96.0.53:53").unwrap();
        let stranger = node.stranger.run(|| udp_client("192.0.2.1:30053")).unwrap();
        assert_eq!(ask_udp(&client).unwrap().name, "a");
        assert_eq!(ask_udp(&stranger).unwrap(), Answer { name: "a".into(), client: "10.1.0.1".into() });

        cluster.endpoints("dns", &[&b]);
        sync(node, &mut backend, &cluster);
        assert_eq!(ask_udp(&client).unwrap().name, "b", "the same socket, without waiting");
        assert_eq!(ask_udp(&stranger).unwrap().name, "b");

        // Also over a time without any endpoint.
        cluster.endpoints("dns", &[]);
        sync(node, &mut backend, &cluster);
        assert_eq!(ask_udp(&client).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        cluster.endpoints("dns", &[&a]);
        sync(node, &mut backend, &cluster);
        assert_eq!(ask_udp(&client).unwrap().name, "a");

        // Every flow draws anew, and with affinity every flow of one client goes to one endpoint.
        cluster.endpoints("dns", &[&a, &b]);
        sync(node, &mut backend, &cluster);
        assert_eq!(who(40, || node.stranger.ask_udp("192.0.2.1:30053").unwrap()), names(["a", "b"]));
        cluster.edit("dns", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        // A port that a client had before leads where it led, so the flows end first.
        sync(node, &mut backend, &Cluster::default());
        sync(node, &mut backend, &cluster);
        assert_eq!(who(20, || node.stranger.ask_udp("192.0.2.1:30053").unwrap()).len(), 1);

        // As large as a datagram may be, there and back.
        let echo = UdpSocket::bind((NODE, 7000)).unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..length], from);
            }
        });
        cluster.endpoint_at("dns", NODE, 7000);
        sync(node, &mut backend, &cluster);
        let sent = vec![7; 60_000];
        assert_eq!(client.send(&sent).unwrap(), sent.len());
        let mut heard = vec![0; 65_536];
        let length = client.recv(&mut heard).unwrap();
        assert!(heard[..length] == sent);
    });
}

#[test]
fn udp_flows_are_bounded_and_end_when_idle() {
    on_a_fresh_node("udp_flows_are_bounded_and_end_when_idle", |node| {
        let network = node.pod_network();
        let pod = reachable(node, &network, "a");
        let mut cluster = Cluster::default();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP"}"#);
        cluster.endpoints("dns", &[&pod]);
        let config = UserspaceConfig { udp_flows: 4, udp_idle: WHILE, ..UserspaceConfig::default() };
        let mut backend = userspace(node, config);
        sync(node, &mut backend, &cluster);
        let before = open_files();
        let clients: Vec<_> = (0..40).map(|_| udp_client("10.96.0.53:53").unwrap()).collect();
        for round in 0..2 {
            for client in &clients {
                assert_eq!(ask_udp(client).unwrap().name, "a", "in round {round}");
            }
        }
        // Who made room closes a moment later.
        until("four flows at most", || open_files() <= before + clients.len() + 4);
        until("no flow is left", || open_files() == before + clients.len());
        assert_eq!(ask_udp(&clients[0]).unwrap().name, "a", "a new one is opened");
    });
}

#[test]
fn at_the_bound_connections_wait() {
    on_a_fresh_node("at_the_bound_connections_wait", |node| {
        serve_each(7000, echo);
        let mut cluster = web();
        cluster.endpoint_at("web", NODE, 7000);
        let mut backend = userspace(node, UserspaceConfig { connections: 2, ..UserspaceConfig::default() });
        sync(node, &mut backend, &cluster);
        let (first, _second) = (greeted(WEB), greeted(WEB));
        let mut third = connect(WEB);
        third.set_read_timeout(Some(WHILE)).unwrap();
        assert_eq!(greet(&mut third).unwrap_err().kind(), ErrorKind::WouldBlock, "it waits");
        drop(first);
        third.set_read_timeout(Some(PATIENCE)).unwrap();
        third.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_slow_reader_slows_its_writer_down() {
    on_a_fresh_node("a_slow_reader_slows_its_writer_down", |node| {
        let (start, go) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let go = std::sync::Arc::new(std::sync::Mutex::new(go));
        serve_each(7000, move |mut stream| {
            go.lock().unwrap().recv().unwrap();
            let (mut sum, mut length, mut buffer) = (0u64, 0usize, vec![0; 65_536]);
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                sum = buffer[..read].iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                length += read;
            }
            tell.send((length, sum)).unwrap();
        });
        let mut cluster = web();
        cluster.endpoint_at("web", NODE, 7000);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let mut client = connect(WEB);
        client.set_write_timeout(Some(WHILE)).unwrap();
        let piece: Vec<u8> = (0..65_536u32).map(|number| (number % 251) as u8).collect();
        let (mut length, mut sum) = (0usize, 0u64);
        // Until nobody takes more.
        while let Ok(written @ 1..) = client.write(&piece[length % 65_536..]) {
            let bytes = &piece[length % 65_536..][..written];
            sum = bytes.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            length += written;
            assert!(length < 100 << 20, "somebody holds everything in memory");
        }
        start.send(()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (length, sum), "and nothing is lost");
    });
}

#[test]
fn a_thousand_connections_at_one_time() {
    on_a_fresh_node("a_thousand_connections_at_one_time", |node| {
        const CLIENTS: usize = 1000;
        allow_many_files();
        let mut cluster = web();
        cluster.endpoint_at("web", NODE, 7000);
        let mut backend = backend(node);
        node.wait(async {
            let listener = tokio::net::TcpListener::bind((NODE, 7000)).await.unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                }
            });
        });
        sync(node, &mut backend, &cluster);
        let web: SocketAddr = WEB.parse().unwrap();
        let greet = async |stream: &mut tokio::net::TcpStream, number: usize| {
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(usize::from_be_bytes(answer), number);
        };
        node.wait(async {
            let connect = async |number| {
                let mut stream = tokio::net::TcpStream::connect(web).await.unwrap();
                greet(&mut stream, number).await;
                stream
            };
            let mut streams = futures::future::join_all((0..CLIENTS).map(connect)).await;
            assert_eq!(streams.len(), CLIENTS);
            let all = streams.iter_mut().enumerate().map(|(number, stream)| greet(stream, number * 7));
            futures::future::join_all(all).await;
        });
    });
}

#[test]
fn nothing_is_left_of_what_has_ended() {
    on_a_fresh_node("nothing_is_left_of_what_has_ended", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = web();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP"}"#);
        let mut backend = backend(node);
        let round = |backend: &mut Userspace, cluster: &mut Cluster| {
            for endpoints in [&[&a, &b][..], &[&b], &[], &[&a]] {
                cluster.endpoints("web", endpoints);
                cluster.endpoints("dns", endpoints);
                sync(node, backend, cluster);
                // Some come when nobody is there.
                for _ in 0..50 {
                    let _ = (ask(WEB), connectless("10.96.0.53:53"));
                }
                let idle: Vec<_> = (0..20).filter_map(|_| TcpStream::connect(WEB).ok()).collect();
                sync(node, backend, &Cluster::default());
                drop(idle);
            }
            node.wait(backend.cleanup()).unwrap();
        };
        round(&mut backend, &mut cluster);
        // What nobody reads any more is closed by the servers a moment later.
        let mut before = open_files();
        until("a quiet start", || std::mem::replace(&mut before, open_files()) == before);
        for _ in 0..5 {
            round(&mut backend, &mut cluster);
        }
        until("as many open files as before", || open_files() <= before);
    });
}

fn connectless(server: &str) -> std::io::Result<Answer> {
    let client = udp_client(server)?;
    client.set_read_timeout(Some(Duration::from_millis(20)))?;
    ask_udp(&client)
}

#[test]
fn a_port_that_somebody_has_is_served_once_it_is_free() {
    on_a_fresh_node("a_port_that_somebody_has_is_served_once_it_is_free", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let mut cluster = web();
        cluster.endpoints("web", &[&pod]);
        cluster.service("phone", "10.96.0.12:80", r#"{"protocol": "SCTP"}"#);
        let somebody = TcpListener::bind(WEB_PORT).unwrap();
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let unserved = backend.unserved().to_string();
        assert!(unserved.contains("192.0.2.1:30080/tcp: Address already in use"), "{unserved}");
        assert!(unserved.contains("SCTP is not served in user space: default/phone:"), "{unserved}");
        assert_eq!(ask(WEB).unwrap().name, "a", "the rest is served");

        assert!(node.wait(backend.intact()).unwrap());
        assert!(backend.unserved().to_string().contains("Address already in use"), "still");
        drop(somebody);
        assert!(node.wait(backend.intact()).unwrap());
        assert_eq!(ask(WEB_PORT).unwrap().name, "a");
        assert!(!backend.unserved().to_string().contains("Address already in use"));

        // So are addresses that somebody took away.
        run("ip", &["link", "delete", "k8s-proxy"]);
        assert!(!node.wait(backend.intact()).unwrap());
        backend.forget();
        sync(node, &mut backend, &cluster);
        assert!(node.wait(backend.intact()).unwrap());
        assert_eq!(ask(WEB).unwrap().name, "a");
    });
}

#[test]
fn what_an_earlier_process_left_is_replaced_and_a_foreign_link_is_not_touched() {
    on_a_fresh_node("what_an_earlier_process_left_is_replaced_and_a_foreign_link_is_not_touched", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let mut cluster = web();
        cluster.endpoints("web", &[&pod]);
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        // As if the process had been killed.
        std::mem::forget(backend);
        let mut other = Cluster::default();
        other.service("other", "10.96.0.11:80", "{}");
        other.endpoints("other", &[&pod]);
        let mut backend = self::backend(node);
        sync(node, &mut backend, &other);
        let addresses = run("ip", &["-o", "address", "show", "k8s-proxy"]);
        assert!(addresses.contains("10.96.0.11") && !addresses.contains("10.96.0.10"), "{addresses}");
        drop(backend);
        until("the link goes", || !run("ip", &["link"]).contains("k8s-proxy"));

        run("ip", &["link", "add", "k8s-proxy", "type", "veth", "peer", "name", "theirs"]);
        let mut backend = self::backend(node);
        sync(node, &mut backend, &other);
        let unserved = backend.unserved().to_string();
        assert!(unserved.contains("ip link delete k8s-proxy") && unserved.contains("default/other:"), "{unserved}");
        node.wait(backend.cleanup()).unwrap_err();
        assert!(run("ip", &["link"]).contains("theirs"));
    });
}

#[test]
fn without_privileges_node_ports_are_served_and_the_rest_is_named() {
    on_a_fresh_node("without_privileges_node_ports_are_served_and_the_rest_is_named", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = web();
        cluster.endpoints("web", &[&a, &b]);
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP", "nodePort": 30053}"#);
        cluster.endpoints("dns", &[&a]);
        cluster.service("low", "10.96.0.11:80", "{}");
        cluster.edit("low", r#"{"spec": {"externalIPs": ["192.0.2.1"]}}"#);
        cluster.endpoints("low", &[&a]);

        std::fs::remove_dir_all(node.state.path()).expect("root may remove its folder");
        // For all threads; nobody's user has no capabilities.
        nix::unistd::setgroups(&[]).unwrap();
        nix::unistd::setgid(nix::unistd::Gid::from_raw(65_534)).unwrap();
        nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
        let mut backend = backend(node);
        sync(node, &mut backend, &cluster);
        let reasons: Vec<_> = backend.unserved().reasons().map(|(reason, services)| (reason, services.len())).collect();
        assert_eq!(reasons, [(&Obstacle::AddAddresses, 3), (&Obstacle::LowPorts, 1)]);
        insta::assert_snapshot!(backend.unserved(), @"
        this process lacks CAP_NET_ADMIN to add service addresses to this machine; node ports are served, cluster IPs and external addresses are not: default/dns:, default/low:, default/web:
        this process lacks CAP_NET_BIND_SERVICE to listen on ports below 1024; higher ports are served, these are not: default/low:
        ");
        assert_eq!(who(30, || ask(WEB_PORT).unwrap()), names(["a", "b"]));
        assert_eq!(who(30, || node.stranger.ask(WEB_PORT).unwrap()), names(["a", "b"]));
        assert_eq!(ask_udp(&udp_client("192.0.2.1:30053").unwrap()).unwrap().name, "a");
        assert!(node.wait(backend.intact()).unwrap(), "and nobody tries again and again");
    });
}
