//! The routes to other nodes' pods, with real machines as namespaces.
#![allow(clippy::disallowed_methods, reason = "tests ask the system")]

mod node;

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use ipnet::IpNet;
use k8s_net::{
    pod::Routed,
    routes::{OVERLAY, PROTOCOL, Peer, Plan, Routes, Unreached},
};
use node::{NODE, Namespace, Node, STRANGER, on_a_fresh_node, run};

/// This node's pods and those of the other node.
const HERE: &str = "10.244.0.0/24";
const THERE: &str = "10.244.1.0/24";
/// Stands for a pod on the other node.
const FAR_POD: &str = "10.244.1.2";

fn plan(own: &str, own_net: &str, peers: &[(&str, &str)]) -> Plan {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let net = |text: &str| -> IpNet { text.parse().unwrap() };
    let peer = |(to, address): &(&str, &str)| (net(to), Peer { node: format!("at-{address}"), address: ip(address) });
    Plan {
        own_addresses: vec![ip(own)],
        own_nets: vec![net(own_net)],
        peers: peers.iter().map(peer).collect(),
        refused: Vec::new(),
    }
}

/// A pod network with the addresses of a cluster of several nodes.
fn pod_network(node: &Node) -> Routed {
    let mut config = node.pod_network_config();
    config.pod_cidrs = vec![HERE.parse().unwrap()];
    config.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
    node.wait(Routed::open(config)).unwrap()
}

/// Makes `machine` a node with one pod, with routes of its own.
fn other_node(machine: &Namespace, address: &'static str) {
    machine.run(move || {
        run("ip", &["addr", "add", &format!("{FAR_POD}/32"), "dev", "lo"]);
        let unreached = Routes::open().unwrap().sync(&plan(address, THERE, &[(HERE, NODE)])).unwrap();
        assert_eq!(unreached, []);
    });
    machine.serve("far", 80);
}

/// Our routes, as `ip route` shows them.
fn routes() -> String {
    run("ip", &["route", "show", "proto", &PROTOCOL.to_string()])
}

#[test]
fn nodes_on_one_link_are_each_others_gateways() {
    on_a_fresh_node("nodes_on_one_link_are_each_others_gateways", |node| {
        let network = pod_network(node);
        let pod = node.pod(&network, "a");
        other_node(&node.stranger, STRANGER);
        let wanted = plan(NODE, HERE, &[(THERE, STRANGER)]);
        let mut ours = Routes::open().unwrap();
        assert_eq!(ours.sync(&wanted).unwrap(), []);
        let answer = pod.namespace.ask(format!("{FAR_POD}:80")).unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("far", "10.244.0.2"), "pods see each other");
        let answer = node.stranger.ask("10.244.0.2:80").unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("a", STRANGER));
        assert_eq!(pod.namespace.ask(format!("{STRANGER}:80")).unwrap().client, NODE, "nodes are no pods");
        assert!(!run("ip", &["link"]).contains(OVERLAY));

        // The routes go with the link, and are back when somebody looks.
        run("ip", &["link", "set", "uplink", "down"]);
        assert_eq!(routes(), "");
        assert_eq!(ours.sync(&wanted).unwrap().len(), 1);
        run("ip", &["link", "set", "uplink", "up"]);
        assert_eq!(ours.sync(&wanted).unwrap(), []);
        assert_eq!(pod.namespace.ask(format!("{FAR_POD}:80")).unwrap().name, "far");
    });
}

#[test]
fn a_restart_knows_its_routes_and_leaves_all_others_alone() {
    on_a_fresh_node("a_restart_knows_its_routes_and_leaves_all_others_alone", |_| {
        run("ip", &["route", "add", "10.244.2.0/24", "via", STRANGER]);
        run("ip", &["route", "add", "10.244.3.0/24", "via", STRANGER]);
        let foreign = || run("ip", &["route", "show", "proto", "boot"]);
        let before = foreign();
        let wanted = plan(NODE, HERE, &[(THERE, STRANGER), ("10.244.2.0/24", STRANGER), ("10.244.9.0/24", NODE)]);
        let unreached = Routes::open().unwrap().sync(&wanted).unwrap();
        let told: Vec<String> =
            unreached.iter().map(|Unreached { node, net, why }| format!("{node} {net}: {why}")).collect();
        assert_eq!(
            told,
            [
                "at-192.0.2.9 10.244.2.0/24: 10.244.2.0/24 has a route that somebody else made; it is left alone",
                "at-192.0.2.1 10.244.9.0/24: its address 192.0.2.1 is this machine's",
            ]
        );
        assert_eq!((routes().lines().count(), foreign()), (1, before.clone()));

        let mut restarted = Routes::open().unwrap();
        restarted.sync(&plan(NODE, HERE, &[("10.244.4.0/24", STRANGER)])).unwrap();
        assert!(routes().starts_with("10.244.4.0/24 via 192.0.2.9"), "{}", routes());
        assert_eq!(routes().lines().count(), 1, "the node that is gone has no route any more");
        restarted.sync(&plan(NODE, HERE, &[("10.244.4.0/24", "192.0.2.8")])).unwrap();
        assert!(routes().starts_with("10.244.4.0/24 via 192.0.2.8"), "the node moved: {}", routes());
        restarted.cleanup().unwrap();
        assert_eq!((routes(), foreign()), (String::new(), before));
    });
}

#[test]
fn behind_a_router_packets_go_over_the_overlay() {
    on_a_fresh_node("behind_a_router_packets_go_over_the_overlay", |node| {
        const FAR: &str = "198.51.100.9";
        let far = behind_the_stranger(node, FAR);
        let network = pod_network(node);
        let pod = node.pod(&network, "a");
        other_node(&far, FAR);
        let wanted = plan(NODE, HERE, &[(THERE, FAR)]);
        let mut ours = Routes::open().unwrap();
        assert_eq!(ours.sync(&wanted).unwrap(), []);
        assert!(routes().contains(OVERLAY), "{}", routes());
        let answer = pod.namespace.ask(format!("{FAR_POD}:80")).unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("far", "10.244.0.2"), "pods see each other");
        assert_eq!(node::ask(&format!("{FAR_POD}:80")).unwrap().client, "10.244.0.1", "the node reaches them too");
        assert_eq!(far.ask("10.244.0.2:80").unwrap().name, "a");
        large_packets_find_their_size(&pod.namespace, &far);

        // A restarted program goes on with the same link; without need for it, it goes.
        drop(ours);
        let (before, mut ours) = (interface(OVERLAY), Routes::open().unwrap());
        assert_eq!(ours.sync(&wanted).unwrap(), []);
        assert_eq!(interface(OVERLAY), before);
        assert_eq!(pod.namespace.ask(format!("{FAR_POD}:80")).unwrap().name, "far");
        ours.sync(&plan(NODE, HERE, &[])).unwrap();
        assert_eq!((routes(), interface(OVERLAY)), (String::new(), None));

        run("ip", &["link", "add", OVERLAY, "type", "veth", "peer", "name", "other"]);
        let unreached = ours.sync(&wanted).unwrap();
        assert!(unreached[0].why.contains("was not made by this program"), "{unreached:?}");
        ours.cleanup().unwrap();
        assert!(interface(OVERLAY).is_some(), "the link of somebody else is left alone");
    });
}

/// A machine that only the stranger leads to.
fn behind_the_stranger(node: &Node, address: &'static str) -> Namespace {
    let far = Namespace::new();
    std::fs::write("/run/netns/far", "").unwrap();
    run("mount", &["--bind", far.netns.to_str().unwrap(), "/run/netns/far"]);
    node.stranger.run(|| {
        run("ip", &["link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", "far"]);
        run("ip", &["addr", "add", "198.51.100.1/24", "dev", "eth1"]);
        run("ip", &["link", "set", "eth1", "up"]);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    });
    far.run(move || {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        run("ip", &["link", "set", "eth0", "up"]);
        run("ip", &["route", "add", "default", "via", "198.51.100.1"]);
    });
    far
}

/// What fits a pod's own link does not fit the overlay: senders are told.
fn large_packets_find_their_size(pod: &Namespace, far: &Namespace) {
    const BYTES: usize = 300_000;
    let (told, heard) = mpsc::channel();
    far.run(move || {
        let listener = TcpListener::bind((FAR_POD, 81)).unwrap();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            told.send(bytes.len()).unwrap();
        });
    });
    pod.run(|| TcpStream::connect((FAR_POD, 81)).unwrap().write_all(&[7; BYTES]).unwrap());
    assert_eq!(heard.recv().unwrap(), BYTES);
}

/// The index of a link of this namespace.
fn interface(name: &str) -> Option<u32> {
    let all = run("ip", &["-o", "link"]);
    let line = all.lines().find(|line| line.split(": ").nth(1).is_some_and(|link| link.starts_with(name)))?;
    line.split(':').next()?.parse().ok()
}
