//! A node to test on: a process of its own in fresh network and mount namespaces, with an outside world and pods.
//!
//! The machine's own namespace is never touched. Needs root, `unshare` (util-linux), `ip` (iproute2) and `nft`.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use k8s_core::seam::network::{Attachment, HostPort, PodNetwork};
use k8s_net::pod::{Routed, RoutedConfig};
use nix::sched::{CloneFlags, unshare};

/// The node's address towards the outside.
pub const NODE: &str = "192.0.2.1";
/// Somebody outside the cluster, on the node's network.
pub const STRANGER: &str = "192.0.2.9";
/// How long anything may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
const MARKER: &str = "K8S_NET_TEST_NODE";

/// Runs `body` on a fresh node. `test` is the name of the calling test: the process runs it again, inside.
pub fn on_a_fresh_node(test: &str, body: impl FnOnce(&Node)) {
    if std::env::var_os(MARKER).is_some() {
        let node = Node::new();
        body(&node);
        return;
    }
    let program = std::env::current_exe().expect("a running test has a program");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(program)
        .args([test, "--exact", "--nocapture"])
        .env(MARKER, "1")
        .output()
        .expect("`unshare` starts; it comes with the package `util-linux`");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "on the fresh node (needs root):\n{text}");
    assert!(text.contains("1 passed"), "the test ran inside:\n{text}");
    println!("{text}");
}

/// The node: this process.
pub struct Node {
    pub runtime: tokio::runtime::Runtime,
    pub state: tempfile::TempDir,
    pub stranger: Namespace,
}

impl Node {
    fn new() -> Self {
        let stranger = Namespace::new();
        run("ip", &["link", "set", "lo", "up"]);
        let netns = stranger.netns.to_str().expect("a path under /proc");
        // `ip` knows namespaces by process or by name; a name is a file in /run/netns.
        std::fs::create_dir_all("/run/netns").expect("a writable /run");
        run("mount", &["-t", "tmpfs", "tmpfs", "/run/netns"]);
        std::fs::write("/run/netns/stranger", "").expect("a writable tmpfs");
        run("mount", &["--bind", netns, "/run/netns/stranger"]);
        run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "stranger"]);
        run("ip", &["addr", "add", &format!("{NODE}/24"), "dev", "uplink"]);
        run("ip", &["addr", "add", "2001:db8::1/64", "dev", "uplink", "nodad"]);
        run("ip", &["link", "set", "uplink", "up"]);
        run("ip", &["route", "add", "default", "via", STRANGER]);
        run("ip", &["-6", "route", "add", "default", "via", "2001:db8::9"]);
        stranger.run(|| {
            run("ip", &["link", "set", "lo", "up"]);
            run("ip", &["addr", "add", &format!("{STRANGER}/24"), "dev", "eth0"]);
            run("ip", &["addr", "add", "2001:db8::9/64", "dev", "eth0", "nodad"]);
            run("ip", &["link", "set", "eth0", "up"]);
            run("ip", &["route", "add", "default", "via", NODE]);
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
        Self { runtime, state: tempfile::tempdir().expect("a writable temporary directory"), stranger }
    }

    /// Waits for `future`.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn pod_network(&self) -> Routed {
        let config = self.pod_network_config();
        self.wait(Routed::open(config)).expect("the pod network opens")
    }

    pub fn pod_network_config(&self) -> RoutedConfig {
        let mut config = RoutedConfig::new("10.1.0.0/24".parse().unwrap(), self.state.path().join("pods"));
        config.pod_cidrs.push("fd00:1::/64".parse().unwrap());
        config
    }

    /// A pod on `network` that answers with its name on TCP and UDP port 80.
    pub fn pod(&self, network: &Routed, name: &str) -> Pod {
        self.pod_with_ports(network, name, vec![])
    }

    pub fn pod_with_ports(&self, network: &Routed, name: &str, host_ports: Vec<HostPort>) -> Pod {
        let namespace = Namespace::new();
        let attachment = Attachment { id: name.into(), netns: namespace.netns.clone(), host_ports };
        let attached = self.wait(network.attach(attachment)).expect("the pod is attached");
        let pod = Pod { name: name.into(), addresses: attached.addresses, namespace };
        pod.namespace.serve(&pod.name, 80);
        pod
    }
}

/// A pod: a namespace with addresses and a server.
pub struct Pod {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub namespace: Namespace,
}

impl Pod {
    pub fn ip(&self) -> IpAddr {
        self.addresses[0]
    }

    /// A connection from the node to a port of the pod that stays open until it is dropped.
    pub fn keep_a_connection(&self, port: u16) -> TcpStream {
        self.namespace.run(move || {
            let listener = TcpListener::bind(("::", port)).expect("the port is free");
            thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.read(&mut [0])));
        });
        TcpStream::connect((self.ip(), port)).expect("the pod listens")
    }
}

/// A network namespace, kept by a thread that lives in it.
pub struct Namespace {
    pub netns: PathBuf,
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Namespace {
    pub fn new() -> Self {
        let (work, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, started) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
            ready.send(nix::unistd::gettid()).expect("the constructor waits");
            inbox.into_iter().for_each(|job| job());
        });
        let thread = started.recv().expect("the thread starts");
        Self { netns: format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into(), work }
    }

    /// Runs `job` inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, outcome) = mpsc::channel();
        let job = move || drop(result.send(job()));
        self.work.send(Box::new(job)).expect("the thread lives as long as this value");
        outcome.recv().expect("the job inside does not panic")
    }

    /// Answers every TCP connection and UDP datagram to `port` with `name` and the client's address.
    pub fn serve(&self, name: &str, port: u16) {
        let name = name.to_owned();
        self.run(move || serve(&name, port));
    }

    pub fn ask(&self, server: impl Into<String>) -> io::Result<Answer> {
        let server = server.into();
        self.run(move || ask(&server))
    }

    pub fn ask_udp(&self, server: impl Into<String>) -> io::Result<Answer> {
        let server = server.into();
        self.run(move || ask_udp(&udp_client(&server)?))
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// Who answered.
    pub name: String,
    /// Whom it saw.
    pub client: String,
}

impl Answer {
    fn read(text: &str) -> io::Result<Self> {
        let (name, client) = text.split_once(' ').ok_or_else(|| io::Error::other(format!("no answer: `{text}`")))?;
        Ok(Self { name: name.into(), client: client.into() })
    }
}

/// Serves in the calling thread's namespace: answers every TCP connection and UDP datagram to `port` with `name` and the
/// client's address.
pub fn serve(name: &str, port: u16) {
    let tcp = TcpListener::bind(("::", port)).expect("the port is free");
    let udp = UdpSocket::bind(("::", port)).expect("the port is free");
    let answer = |name: &str, client: SocketAddr| format!("{name} {}", client.ip().to_canonical());
    let tcp_name = name.to_owned();
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let client = stream.peer_addr();
            let _ = client.and_then(|client| (&stream).write_all(answer(&tcp_name, client).as_bytes()));
        }
    });
    let udp_name = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(answer(&udp_name, client).as_bytes(), client);
        }
    });
}

/// Opens a TCP connection from the calling thread's namespace and reads the answer.
pub fn ask(server: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server.parse().expect("an address with a port"), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Answer::read(&text)
}

/// A UDP socket with one peer.
pub fn udp_client(server: &str) -> io::Result<UdpSocket> {
    let server: SocketAddr = server.parse().expect("an address with a port");
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    Ok(socket)
}

/// Sends one datagram and reads the answer.
pub fn ask_udp(socket: &UdpSocket) -> io::Result<Answer> {
    socket.send(b"?")?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Answer::read(&String::from_utf8_lossy(&buffer[..length]))
}

/// Runs a program that must succeed, and answers what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("these tests need the program `{program}`: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
