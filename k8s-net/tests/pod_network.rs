//! The routed pod network, with real namespaces, links and packet filter.
#![allow(clippy::disallowed_methods, reason = "tests ask the system")]

mod node;

use std::{future::poll_fn, task::Poll, time::Instant};

use k8s_core::seam::network::{Attachment, HostPort, PodNetwork};
use k8s_net::pod::Routed;
use node::{NODE, Namespace, STRANGER, ask, ask_udp, on_a_fresh_node, run, udp_client};

#[test]
fn pods_and_node_reach_each_other() {
    on_a_fresh_node("pods_and_node_reach_each_other", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        assert_eq!(a.addresses.iter().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.1.0.2", "fd00:1::2"]);
        assert_eq!(b.ip().to_string(), "10.1.0.3");

        for (server, client) in [("10.1.0.3:80", "10.1.0.2"), ("[fd00:1::3]:80", "fd00:1::2")] {
            let answer = a.namespace.ask(server).unwrap();
            assert_eq!(
                (answer.name.as_str(), answer.client.as_str()),
                ("b", client),
                "pods see each other as they are"
            );
            assert_eq!(a.namespace.ask_udp(server).unwrap(), answer);
        }
        let answer = ask("10.1.0.3:80").unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("b", "10.1.0.1"));
        assert_eq!(ask("[fd00:1::3]:80").unwrap().client, "fd00:1::1");
        assert_eq!(a.namespace.ask("10.1.0.2:80").unwrap().name, "a", "a pod reaches itself");
    });
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address() {
    on_a_fresh_node("what_leaves_the_cluster_has_the_nodes_address", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        node.stranger.serve("stranger", 80);
        let answer = pod.namespace.ask(format!("{STRANGER}:80")).unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("stranger", NODE));
        assert_eq!(pod.namespace.ask("[2001:db8::9]:80").unwrap().client, "2001:db8::1");
        // Without masquerading on the way in.
        assert_eq!(node.stranger.ask("10.1.0.2:80").unwrap().client, STRANGER);
    });
}

#[test]
fn attaching_and_detaching_repeat() {
    on_a_fresh_node("attaching_and_detaching_repeat", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let attach = |netns: &Namespace| {
            let attachment = Attachment { id: "a".into(), netns: netns.netns.clone(), host_ports: vec![] };
            node.wait(network.attach(attachment)).unwrap().addresses
        };
        let index = run("ip", &["-o", "link"]);
        assert_eq!(attach(&pod.namespace), pod.addresses);
        assert_eq!(run("ip", &["-o", "link"]), index, "an attached namespace keeps its link");

        pod.namespace.run(|| run("ip", &["addr", "flush", "dev", "eth0"]));
        attach(&pod.namespace);
        assert_eq!(ask("10.1.0.2:80").unwrap().name, "a", "attaching again mends");

        let moved = Namespace::new();
        moved.serve("moved", 80);
        assert_eq!(attach(&moved), pod.addresses, "the id decides about the address");
        assert_eq!(ask("10.1.0.2:80").unwrap().name, "moved");

        node.wait(network.detach("a")).unwrap();
        node.wait(network.detach("a")).unwrap();
        assert_eq!(node.wait(network.attached()).unwrap(), Vec::<String>::new());
        assert!(!run("ip", &["-o", "link"]).contains("k8s"), "the link is gone");
        assert!(!run("ip", &["route"]).contains("10.1.0.2"), "the route is gone");
    });
}

#[test]
fn a_restart_keeps_addresses_and_traffic() {
    on_a_fresh_node("a_restart_keeps_addresses_and_traffic", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let second = node.wait(Routed::open(node.pod_network_config())).err().expect("one process at a time");
        assert!(second.message.contains("another process manages these pods"), "{second}");
        drop(network);

        assert_eq!(ask("10.1.0.2:80").unwrap().name, "a");
        run("nft", &["flush", "ruleset"]);
        run("ip", &["addr", "del", "10.1.0.1/32", "dev", "lo"]);
        let network = node.pod_network();
        assert_eq!(node.wait(network.attached()).unwrap(), ["a"]);
        assert_eq!(ask("10.1.0.2:80").unwrap().client, "10.1.0.1", "the node's part was restored");
        node.stranger.serve("stranger", 80);
        assert_eq!(pod.namespace.ask(format!("{STRANGER}:80")).unwrap().client, NODE);
        assert_eq!(node.pod(&network, "b").ip().to_string(), "10.1.0.3");
    });
}

/// Polls all of `tasks` until each has succeeded, so that they really wait for each other.
async fn all<T, E: std::fmt::Display>(tasks: impl Iterator<Item = impl Future<Output = Result<T, E>>>) -> Vec<T> {
    let mut tasks: Vec<_> = tasks.map(Box::pin).collect();
    let mut done = Vec::new();
    poll_fn(|cx| {
        tasks.retain_mut(|task| match task.as_mut().poll(cx) {
            Poll::Ready(Ok(value)) => {
                done.push(value);
                false
            }
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => true,
        });
        if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

#[test]
fn many_pods_attach_at_once_and_fast() {
    on_a_fresh_node("many_pods_attach_at_once_and_fast", |node| {
        const PODS: usize = 100;
        let network = node.pod_network();
        let namespaces: Vec<_> = (0..PODS).map(|_| Namespace::new()).collect();
        let start = Instant::now();
        let mut addresses = node.wait(all(namespaces.iter().enumerate().map(|(i, namespace)| {
            let netns = namespace.netns.clone();
            network.attach(Attachment { id: format!("pod-{i}"), netns, host_ports: vec![] })
        })));
        let attach = start.elapsed() / PODS as u32;
        addresses.sort_by_key(|attached| attached.addresses[0]);
        addresses.dedup();
        assert_eq!(addresses.len(), PODS, "no address twice");

        let start = Instant::now();
        let ids = node.wait(network.attached()).unwrap();
        assert_eq!(ids.len(), PODS);
        node.wait(all(ids.iter().map(|id| network.detach(id))));
        assert_eq!(node.wait(network.attached()).unwrap(), Vec::<String>::new());
        println!("attach {attach:?} per pod, detach {:?}", start.elapsed() / PODS as u32);
        assert!(attach.as_millis() < 50, "attaching took {attach:?} per pod");
    });
}

#[test]
fn a_failed_attachment_holds_nothing() {
    on_a_fresh_node("a_failed_attachment_holds_nothing", |node| {
        let network = node.pod_network();
        let attach = |id: &str, netns: &str, protocol: &str| {
            let port = HostPort { container_port: 80, host_port: 8080, host_ip: None, protocol: protocol.into() };
            let attachment = Attachment { id: id.into(), netns: netns.into(), host_ports: vec![port] };
            node.wait(network.attach(attachment)).unwrap_err().message
        };
        let message = attach("a", "/nowhere", "TCP");
        assert!(message.starts_with("cannot attach a: network namespace /nowhere: No such file"), "{message}");
        let message = attach("a", "/dev/null", "TCP");
        assert!(message.starts_with("cannot attach a: "), "{message}");
        assert!(attach("a", "/dev/null", "tcp").contains("`tcp` is not TCP, UDP or SCTP"));
        assert!(attach("../a", "/dev/null", "TCP").contains("is not an id"));
        assert_eq!(node.wait(network.attached()).unwrap(), Vec::<String>::new());
        assert_eq!(node.pod(&network, "b").ip().to_string(), "10.1.0.3");
    });
}

#[test]
fn host_ports_lead_into_the_pod_until_it_goes() {
    on_a_fresh_node("host_ports_lead_into_the_pod_until_it_goes", |node| {
        let network = node.pod_network();
        let port = |host_port, host_ip: Option<&str>, protocol: &str| HostPort {
            container_port: 80,
            host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol: protocol.into(),
        };
        let ports = vec![port(8080, None, "TCP"), port(8081, Some(NODE), "TCP"), port(8080, None, "UDP")];
        let pod = node.pod_with_ports(&network, "a", ports);

        let answer = node.stranger.ask(format!("{NODE}:8080")).unwrap();
        assert_eq!((answer.name.as_str(), answer.client.as_str()), ("a", STRANGER), "the pod sees the client");
        assert_eq!(node.stranger.ask(format!("{NODE}:8081")).unwrap().name, "a");
        assert_eq!(node.stranger.ask_udp(format!("{NODE}:8080")).unwrap().name, "a");
        assert_eq!(node.stranger.ask("[2001:db8::1]:8080").unwrap().name, "a");
        assert_eq!(ask(&format!("{NODE}:8080")).unwrap().name, "a");
        assert_eq!(pod.namespace.ask(format!("{NODE}:8080")).unwrap().name, "a", "and reaches itself through it");
        node.stranger.ask("10.1.0.1:8081").unwrap_err();

        let other = Namespace::new();
        let taken =
            Attachment { id: "b".into(), netns: other.netns.clone(), host_ports: vec![port(8080, Some(NODE), "TCP")] };
        let error = node.wait(network.attach(taken)).unwrap_err();
        assert!(error.message.contains("host port 8080/tcp already leads to a"), "{error}");

        node.wait(network.detach("a")).unwrap();
        node.stranger.ask(format!("{NODE}:8080")).unwrap_err();
    });
}

#[test]
fn udp_flows_find_the_pod_that_has_the_host_port_now() {
    on_a_fresh_node("udp_flows_find_the_pod_that_has_the_host_port_now", |node| {
        let network = node.pod_network();
        let port = HostPort { container_port: 80, host_port: 5353, host_ip: None, protocol: "UDP".into() };
        let client = node.stranger.run(|| udp_client(&format!("{NODE}:5353")).unwrap());
        // Nobody yet, then one pod, then another: always the same socket.
        ask_udp(&client).unwrap_err();
        for name in ["a", "b"] {
            let _pod = node.pod_with_ports(&network, name, vec![port.clone()]);
            assert_eq!(ask_udp(&client).unwrap().name, name);
            node.wait(network.detach(name)).unwrap();
            ask_udp(&client).unwrap_err();
            let _ = client.take_error();
        }
    });
}

#[test]
fn a_table_of_somebody_else_is_left_alone() {
    on_a_fresh_node("a_table_of_somebody_else_is_left_alone", |node| {
        run("nft", &["add table inet k8s-pods; add chain inet k8s-pods theirs"]);
        let error = node.wait(Routed::open(node.pod_network_config())).err().expect("refused");
        assert!(error.message.contains("`inet k8s-pods` exists and was not made by this program"), "{error}");
        assert!(run("nft", &["list table inet k8s-pods"]).contains("theirs"));
    });
}
