//! Names, as pods and the machine resolve them.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use k8s::net::dns::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};

use super::{
    kubectl::{Kubectl, eventually},
    machine::Machine,
    scenario,
};

/// Where the test's own resolver listens, on DNS's port.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 53);
/// What it says of every name below `test`.
const OUTSIDE: &str = "192.0.2.77";
/// The cluster's name server.
const CLUSTER_DNS: &str = "10.96.0.10";
const NAMESPACE: &str = "names";

/// A resolver for what is outside the cluster. Answers until it is dropped.
pub struct Outside {
    /// A `resolv.conf` that names it.
    pub resolv_conf: PathBuf,
    answering: Option<JoinHandle<()>>,
}

impl Outside {
    /// Starts it.
    pub fn start(machine: &Machine) -> Self {
        let resolv_conf = machine.folder("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {RESOLVER}\nsearch outside.test\n")).unwrap();
        let socket = UdpSocket::bind((RESOLVER, 53)).expect("nobody else has this address of the loopback");
        let answering = thread::spawn(move || {
            let mut buffer = [0; 2048];
            // An empty datagram asks it to end.
            while let Ok((length @ 1.., client)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..length]);
                socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
            }
        });
        Self { resolv_conf, answering: Some(answering) }
    }
}

impl Drop for Outside {
    /// Its address is free for the next test when this returns.
    fn drop(&mut self) {
        let asked = UdpSocket::bind((RESOLVER, 0)).and_then(|socket| socket.send_to(&[], (RESOLVER, 53)));
        if let (Ok(_), Some(answering)) = (asked, self.answering.take()) {
            let _ = answering.join();
        }
    }
}

fn answer(question: &[u8]) -> Message {
    let mut message = Message::from_vec(question).unwrap();
    message.metadata.message_type = MessageType::Response;
    let (name, kind) = (message.queries[0].name().clone(), message.queries[0].query_type());
    let is_known = Name::from_ascii("test.").unwrap().zone_of(&name) && !name.to_ascii().contains("outside");
    if !is_known {
        message.metadata.response_code = ResponseCode::NXDomain;
    } else if kind == RecordType::A {
        let address: Ipv4Addr = OUTSIDE.parse().unwrap();
        message.answers = vec![Record::from_rdata(name, 60, RData::A(address.into()))];
    }
    message
}

/// Names of services, endpoints and the world, from inside a pod and from the machine.
pub fn resolve(kubectl: &Kubectl) {
    let k = |arguments: &[&str]| kubectl.run(&[&["-n", NAMESPACE], arguments].concat());
    let namespace =
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": {NAMESPACE:?}}}}}");
    kubectl.run_with(&["create", "-f", "-"], &namespace);
    kubectl.run_with(&["apply", "-f", "-"], &scenario::manifests(NAMESPACE));
    kubectl.run_with(&["apply", "-f", "-"], &include_str!("names.yaml").replace("NAMESPACE", NAMESPACE));
    k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let service = kubectl.run(&["-n", "kube-system", "get", "service", "kube-dns", "-o", "wide", "--no-headers"]);
    assert!(service.contains(CLUSTER_DNS) && service.contains("53/UDP,53/TCP"), "{service}");

    let pod = k(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let inside = |words: &[&str]| kubectl.try_run(&[&["-n", NAMESPACE, "exec", &pod, "--"], words].concat());
    let said = |words: &[&str]| {
        let output = inside(words);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let expected = format!(
        "search {NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local outside.test\n\
         nameserver {CLUSTER_DNS}\noptions ndots:5\n"
    );
    assert_eq!(said(&["cat", "/etc/resolv.conf"]), expected);

    let address = k(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let full = |name: &str| format!("{name}.{NAMESPACE}.svc.cluster.local");
    eventually("a service's name leads to its cluster IP", || has(&said(&["nslookup", &full("web")]), &address));
    let pods = |path: &str| -> BTreeSet<String> {
        let text = k(&["get", "pods", "-l", "app=web", "-o", &format!("jsonpath={{.items[*]{path}}}")]);
        text.split_whitespace().map(str::to_owned).collect()
    };
    for address in pods(".status.podIP") {
        has(&said(&["nslookup", &full("db")]), &address).unwrap();
        let text = said(&["nslookup", "-type=srv", &full("_http._tcp.db")]);
        has(&text, &format!("8080 {}", full(&format!("{}.db", address.replace('.', "-"))))).unwrap();
        let text = said(&["nslookup", &address]);
        has(&text, &format!("name = {}", full(&format!("{}.db", address.replace('.', "-"))))).unwrap();
    }
    assert!(!inside(&["nslookup", &full("nobody")]).status.success());
    // By its short name, as programs ask: the search path leads on.
    let answered = said(&["wget", "-q", "-O", "-", "http://web/"]);
    assert!(pods(".metadata.name").contains(answered.trim()), "{answered}");
    // The world, directly and by way of a service that is an external name.
    has(&said(&["nslookup", "one.test"]), OUTSIDE).unwrap();
    has(&said(&["nslookup", &full("away")]), OUTSIDE).unwrap();
    has(&said(&["nslookup", &full("away")]), "canonical name = two.test").unwrap();
    from_the_machine(&full("web"), &address);
    kubectl.run(&["delete", "namespace", NAMESPACE, "--timeout=60s"]);
    let gone = String::from_utf8_lossy(&on_the_machine(&full("web")).stdout).into_owned();
    assert!(gone.contains("NXDOMAIN"), "{gone}");
}

/// The machine itself reaches the cluster IP, over UDP and over TCP.
fn from_the_machine(name: &str, address: &str) {
    has(&String::from_utf8_lossy(&on_the_machine(name).stdout), address).unwrap();
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.queries = vec![Query::query(Name::from_ascii(name).unwrap(), RecordType::A)];
    let bytes = message.to_vec().unwrap();
    let mut stream = TcpStream::connect((CLUSTER_DNS, 53)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.answers[0].data.to_string(), address);
}

fn on_the_machine(name: &str) -> std::process::Output {
    Command::new("busybox").args(["nslookup", "-type=a", name, CLUSTER_DNS]).output().unwrap()
}

fn has(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) { Ok(()) } else { Err(format!("no {wanted:?} in: {text}")) }
}
