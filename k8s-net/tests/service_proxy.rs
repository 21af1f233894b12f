//! The service proxy with its nftables backend, with real pods, clients and packet filter.
#![allow(clippy::disallowed_methods, reason = "tests ask the system")]

mod node;
mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    time::Instant,
};

use k8s_core::seam::{
    network::PodNetwork,
    traffic::{Inflow, PodTraffic},
};
use k8s_net::{
    NftError,
    pod::Routed,
    proxy::{Applied, Nftables, NftablesConfig, NftablesTraffic, NodeView, Proxy, ProxyError},
};
use node::{Answer, NODE, Node, Pod, STRANGER, ask, ask_udp, on_a_fresh_node, run, serve, udp_client};
use objects::Cluster;

const WEB: &str = "10.96.0.10:80";

fn view() -> NodeView {
    NodeView {
        name: "here".into(),
        addresses: vec![NODE.parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        ..NodeView::default()
    }
}

fn proxy() -> Proxy {
    Proxy::new(view(), Nftables::new(NftablesConfig::default()))
}

fn sync(node: &Node, proxy: &mut Proxy, cluster: &Cluster) -> Applied {
    node.wait(proxy.sync(&cluster.services, &cluster.slices)).expect("the rules are applied")
}

/// Who answers `count` connections, and how often.
fn tally(count: usize, mut ask: impl FnMut() -> Answer) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        *tally.entry(ask().name).or_default() += 1;
    }
    tally
}

fn names(tally: &BTreeMap<String, usize>) -> Vec<&str> {
    tally.keys().map(String::as_str).collect()
}

#[test]
fn a_cluster_ip_spreads_over_its_endpoints_for_node_and_pods() {
    on_a_fresh_node("a_cluster_ip_spreads_over_its_endpoints_for_node_and_pods", |node| {
        let network = node.pod_network();
        let pods: Vec<_> = ["a", "b", "c", "client"].map(|name| node.pod(&network, name)).into();
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, "{}");
        cluster.endpoints("web", &[&pods[0], &pods[1], &pods[2]]);
        let mut proxy = proxy();
        assert!(sync(node, &mut proxy, &cluster).full);

        for ask in [&(|| ask(WEB).unwrap()) as &dyn Fn() -> Answer, &|| pods[3].namespace.ask(WEB).unwrap()] {
            let tally = tally(120, ask);
            assert_eq!(names(&tally), ["a", "b", "c"]);
            // A fair draw misses this once in a hundred million runs.
            assert!(tally.values().all(|count| *count >= 10), "{tally:?}");
        }
        assert_eq!(pods[3].namespace.ask(WEB).unwrap().client, "10.1.0.5", "pods see pods");

        // A pod behind the Service reaches itself too, and sees the node instead of its own address.
        let seen: BTreeSet<_> = (0..60).map(|_| pods[0].namespace.ask(WEB).unwrap()).collect();
        let seen: Vec<_> = seen.iter().map(|answer| (answer.name.as_str(), answer.client.as_str())).collect();
        assert_eq!(seen, [("a", "10.1.0.1"), ("b", "10.1.0.2"), ("c", "10.1.0.2")]);

        // An endpoint that goes is not reached any more; the rest is.
        cluster.endpoints("web", &[&pods[0], &pods[2]]);
        let applied = sync(node, &mut proxy, &cluster);
        assert!(!applied.full && applied.changes < 12, "{applied:?}");
        assert_eq!(names(&tally(60, || ask(WEB).unwrap())), ["a", "c"]);

        let unchanged = sync(node, &mut proxy, &cluster);
        assert_eq!(unchanged, Applied { full: false, changes: 0 });
    });
}

#[test]
fn what_comes_in_for_a_pod_is_new_then_open_then_nothing() {
    on_a_fresh_node("what_comes_in_for_a_pod_is_new_then_open_then_nothing", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let traffic = NftablesTraffic::new(NftablesConfig::default().table);
        let inflow = |pod: &Pod| node.wait(traffic.inflow(&pod.addresses)).expect("the kernel tells");
        let connection = a.keep_a_connection(81);
        assert_eq!(inflow(&a), Inflow::Nothing, "nobody leads clients here");

        let mut cluster = Cluster::default();
        cluster.service("web", WEB, "{}");
        cluster.endpoints("web", &[&a, &b]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);
        assert_eq!([inflow(&a), inflow(&b)], [Inflow::New; 2]);

        cluster.terminating("web", &[&a]);
        sync(node, &mut proxy, &cluster);
        assert_eq!([inflow(&a), inflow(&b)], [Inflow::Open, Inflow::New]);
        assert_eq!(names(&tally(20, || ask(WEB).unwrap())), ["b"]);
        drop(connection);
        assert_eq!(inflow(&a), Inflow::Nothing, "what is being closed does not count");

        // The last ones are still led to, for want of others, and do not wait for that to end.
        cluster.terminating("web", &[&a, &b]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(names(&tally(60, || ask(WEB).unwrap())), ["a", "b"]);
        assert_eq!([inflow(&a), inflow(&b)], [Inflow::Nothing; 2]);
        // A table that is gone leads nobody anywhere.
        node.wait(proxy.cleanup()).unwrap();
        assert_eq!(inflow(&b), Inflow::Nothing);
    });
}

#[test]
fn udp_flows_leave_an_endpoint_that_is_gone() {
    on_a_fresh_node("udp_flows_leave_an_endpoint_that_is_gone", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP"}"#);
        cluster.endpoints("dns", &[&a]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        let client = udp_client("10.96.0.53:53").unwrap();
        assert_eq!(ask_udp(&client).unwrap().name, "a");
        cluster.endpoints("dns", &[&b]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(ask_udp(&client).unwrap().name, "b", "the same socket, without waiting");
        assert_eq!(a.namespace.ask_udp("10.96.0.53:53").unwrap().name, "b");

        // Also over a time without any endpoint, when datagrams went nowhere.
        cluster.endpoints("dns", &[]);
        sync(node, &mut proxy, &cluster);
        // The kernel does not even let the node's own datagrams go, and then says once more that they were refused.
        assert_eq!(ask_udp(&client).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(client.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(a.namespace.ask_udp("10.96.0.53:53").unwrap_err().kind(), ErrorKind::ConnectionRefused);
        cluster.endpoints("dns", &[&a]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(ask_udp(&client).unwrap().name, "a");
    });
}

#[test]
fn udp_node_ports_lead_strangers_to_endpoints_that_are_there() {
    on_a_fresh_node("udp_node_ports_lead_strangers_to_endpoints_that_are_there", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let port = format!("{NODE}:30053");
        let address = port.clone();
        // One socket all along: a flow that only ends if somebody ends it.
        let client = node.stranger.run(move || udp_client(&address)).unwrap();
        assert_eq!(ask_udp(&client).unwrap_err().kind(), ErrorKind::ConnectionRefused, "there is no such port yet");

        let mut cluster = Cluster::default();
        cluster.service("dns", "10.96.0.53:53", r#"{"protocol": "UDP", "nodePort": 30053}"#);
        cluster.endpoints("dns", &[&a]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);
        assert_eq!(ask_udp(&client).unwrap(), Answer { name: "a".into(), client: "10.1.0.1".into() });
        cluster.endpoints("dns", &[&b]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(ask_udp(&client).unwrap().name, "b");
        assert_eq!(ask_udp(&udp_client(&port).unwrap()).unwrap().name, "b", "the node itself");

        // With affinity every new flow of one client goes to one endpoint, until it is gone.
        cluster.edit("dns", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        cluster.endpoints("dns", &[&a, &b]);
        sync(node, &mut proxy, &cluster);
        let first = node.stranger.ask_udp(&port).unwrap().name;
        assert_eq!(names(&tally(20, || node.stranger.ask_udp(&port).unwrap())), [first.as_str()]);
        let other = if first == "a" { &b } else { &a };
        cluster.endpoints("dns", &[other]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(names(&tally(5, || node.stranger.ask_udp(&port).unwrap())), [other.name.as_str()]);

        // Only endpoints of this node, and the client's own address.
        cluster.edit("dns", r#"{"spec": {"externalTrafficPolicy": "Local", "sessionAffinity": "None"}}"#);
        cluster.endpoints_on("dns", &[(&a, "here"), (&b, "there")]);
        sync(node, &mut proxy, &cluster);
        let seen: BTreeSet<_> = (0..20).map(|_| node.stranger.ask_udp(&port).unwrap()).collect();
        assert_eq!(seen, [Answer { name: "a".into(), client: STRANGER.into() }].into());
    });
}

#[test]
fn affinity_yields_to_local_policy() {
    on_a_fresh_node("affinity_yields_to_local_policy", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let port = format!("{NODE}:30080");
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, r#"{"nodePort": 30080}"#);
        cluster.edit("web", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        cluster.endpoints_on("web", &[(&b, "there")]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);
        assert_eq!(node.stranger.ask(&port).unwrap().name, "b");
        assert_eq!(a.namespace.ask(&port).unwrap().name, "b");

        cluster.edit("web", r#"{"spec": {"externalTrafficPolicy": "Local"}}"#);
        cluster.endpoints_on("web", &[(&a, "here"), (&b, "there")]);
        sync(node, &mut proxy, &cluster);
        let seen: BTreeSet<_> = (0..20).map(|_| node.stranger.ask(&port).unwrap()).collect();
        assert_eq!(seen, [Answer { name: "a".into(), client: STRANGER.into() }].into(), "remembered elsewhere before");
        assert_eq!(names(&tally(20, || a.namespace.ask(&port).unwrap())), ["b"], "pods go on where they were");
    });
}

#[test]
fn external_addresses_serve_strangers() {
    on_a_fresh_node("external_addresses_serve_strangers", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, r#"{"nodePort": 30080}"#);
        cluster.edit("web", r#"{"spec": {"externalIPs": ["198.51.100.1"]}, "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}}}"#);
        cluster.endpoints("web", &[&a, &b]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        for address in [format!("{NODE}:30080"), "198.51.100.1:80".into(), "198.51.100.2:80".into()] {
            let seen: BTreeSet<_> = (0..30).map(|_| node.stranger.ask(&address).unwrap()).collect();
            let seen: Vec<_> = seen.iter().map(|answer| (answer.name.as_str(), answer.client.as_str())).collect();
            assert_eq!(seen, [("a", "10.1.0.1"), ("b", "10.1.0.1")], "{address} from outside");
            assert_eq!(names(&tally(30, || ask(&address).unwrap())), ["a", "b"], "{address} from the node");
            assert_eq!(names(&tally(30, || a.namespace.ask(&address).unwrap())), ["a", "b"], "{address} from a pod");
        }
        node.stranger.ask(format!("{NODE}:30081")).unwrap_err();
    });
}

#[test]
fn a_node_without_default_route_reaches_services() {
    on_a_fresh_node("a_node_without_default_route_reaches_services", |node| {
        run("ip", &["route", "del", "default"]);
        run("ip", &["-6", "route", "del", "default"]);
        let mut config = node.pod_network_config();
        config.service_cidrs = ["10.96.0.0/12", "fd00:96::/112"].map(|net| net.parse().unwrap()).into();
        let network = node.wait(Routed::open(config)).unwrap();
        let pod = node.pod(&network, "a");
        let mut cluster = Cluster::default();
        cluster.service("four", WEB, "{}");
        cluster.endpoints("four", &[&pod]);
        cluster.service("six", "[fd00:96::10]:80", "{}");
        cluster.endpoints_v6("six", &[&pod]);
        sync(node, &mut proxy(), &cluster);
        assert_eq!(ask(WEB).unwrap().client, "10.1.0.1");
        assert_eq!(ask("[fd00:96::10]:80").unwrap().client, "fd00:1::1");
        node.wait(network.ensure()).unwrap();
        assert_eq!(pod.namespace.ask(WEB).unwrap().name, "a");
    });
}

#[test]
fn an_endpoint_may_be_the_node_itself() {
    on_a_fresh_node("an_endpoint_may_be_the_node_itself", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        serve("node", 6443);
        let mut cluster = Cluster::default();
        cluster.service("kubernetes", "10.96.0.1:443", r#"{"nodePort": 30443}"#);
        cluster.endpoint_at("kubernetes", NODE, 6443);
        let mut proxy = proxy();
        for affinity in ["None", "ClientIP"] {
            cluster.edit("kubernetes", &format!(r#"{{"spec": {{"sessionAffinity": "{affinity}"}}}}"#));
            sync(node, &mut proxy, &cluster);
            for _ in 0..2 {
                assert_eq!(ask("10.96.0.1:443").unwrap().name, "node");
                assert_eq!(pod.namespace.ask("10.96.0.1:443").unwrap().client, "10.1.0.2");
                assert_eq!(node.stranger.ask(format!("{NODE}:30443")).unwrap().name, "node");
            }
        }
    });
}

#[test]
fn local_policy_keeps_the_client_address_and_the_traffic_here() {
    on_a_fresh_node("local_policy_keeps_the_client_address_and_the_traffic_here", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, r#"{"nodePort": 30080}"#);
        cluster.edit("web", r#"{"spec": {"externalTrafficPolicy": "Local"}}"#);
        cluster.endpoints_on("web", &[(&a, "here"), (&b, "there")]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        let port = format!("{NODE}:30080");
        let seen: BTreeSet<_> = (0..30).map(|_| node.stranger.ask(&port).unwrap()).collect();
        assert_eq!(seen, [Answer { name: "a".into(), client: STRANGER.into() }].into());
        assert_eq!(names(&tally(30, || ask(&port).unwrap())), ["a", "b"], "the node itself may go anywhere");
        assert_eq!(names(&tally(30, || b.namespace.ask(&port).unwrap())), ["a", "b"], "so may pods");

        // Without an endpoint here, strangers get nothing and insiders still do.
        cluster.endpoints_on("web", &[(&b, "there")]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(node.stranger.ask(&port).unwrap_err().kind(), ErrorKind::TimedOut, "dropped");
        assert_eq!(ask(&port).unwrap().name, "b");

        cluster.edit("web", r#"{"spec": {"internalTrafficPolicy": "Local"}}"#);
        sync(node, &mut proxy, &cluster);
        assert_eq!(ask(WEB).unwrap_err().kind(), ErrorKind::TimedOut, "no endpoint here");
    });
}

#[test]
fn affinity_keeps_a_client_until_its_endpoint_goes() {
    on_a_fresh_node("affinity_keeps_a_client_until_its_endpoint_goes", |node| {
        let network = node.pod_network();
        let pods: Vec<_> = ["a", "b", "c", "d"].map(|name| node.pod(&network, name)).into();
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, r#"{"nodePort": 30080}"#);
        let timeout = r#"{"clientIP": {"timeoutSeconds": 600}}"#;
        let affinity = r#""sessionAffinity": "ClientIP""#;
        cluster.edit("web", &format!(r#"{{"spec": {{{affinity}, "sessionAffinityConfig": {timeout}}}}}"#));
        cluster.endpoints("web", &pods.iter().collect::<Vec<_>>());
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        let first = ask(WEB).unwrap().name;
        assert_eq!(names(&tally(20, || ask(WEB).unwrap())), [first.as_str()]);
        let strangers = node.stranger.ask(format!("{NODE}:30080")).unwrap().name;
        let again = tally(20, || node.stranger.ask(format!("{NODE}:30080")).unwrap());
        assert_eq!(names(&again), [strangers.as_str()]);

        let left: Vec<_> = pods.iter().filter(|pod| pod.name != first).collect();
        cluster.endpoints("web", &left);
        sync(node, &mut proxy, &cluster);
        let second = ask(WEB).unwrap().name;
        assert_ne!(second, first);
        assert_eq!(names(&tally(20, || ask(WEB).unwrap())), [second.as_str()], "and sticks to the new one");

        cluster.edit("web", r#"{"spec": {"sessionAffinity": "None"}}"#);
        sync(node, &mut proxy, &cluster);
        assert_eq!(tally(60, || ask(WEB).unwrap()).len(), 3);
    });
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    on_a_fresh_node("what_cannot_be_served_is_refused_at_once", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let mut cluster = Cluster::default();
        cluster.service("empty", WEB, r#"{"nodePort": 30080}"#);
        cluster.service("web", "10.96.0.11:80", "{}");
        cluster.endpoints("web", &[&pod]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        let refused = |outcome: std::io::Result<Answer>, what: &str| {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{what}");
        };
        refused(ask(WEB), "from the node");
        refused(pod.namespace.ask(WEB), "from a pod");
        refused(node.stranger.ask(format!("{NODE}:30080")), "from outside");
        refused(pod.namespace.ask_udp(WEB), "a port of a cluster IP that no Service has");
        refused(ask("10.96.0.11:81"), "another such port, from the node");
        assert_eq!(ask("10.96.0.11:80").unwrap().name, "a");
    });
}

#[test]
fn load_balancer_source_ranges_keep_others_out() {
    on_a_fresh_node("load_balancer_source_ranges_keep_others_out", |node| {
        let network = node.pod_network();
        let pod = node.pod(&network, "a");
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, "{}");
        cluster.edit("web", r#"{"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}}}"#);
        cluster.endpoints("web", &[&pod]);
        let mut proxy = proxy();
        for (ranges, allowed) in [
            (r#"["203.0.113.0/24"]"#, false),
            (r#"["203.0.113.0/24", "192.0.2.8/31", "192.0.2.0/24"]"#, true),
            (r#"["192.0.2.8/32"]"#, false),
            ("[]", true),
        ] {
            cluster.edit("web", &format!(r#"{{"spec": {{"loadBalancerSourceRanges": {ranges}}}}}"#));
            sync(node, &mut proxy, &cluster);
            assert_eq!(node.stranger.ask("198.51.100.2:80").is_ok(), allowed, "{ranges}");
        }
    });
}

#[test]
fn ipv6_services_work_alike() {
    on_a_fresh_node("ipv6_services_work_alike", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("web", "[fd00:96::10]:80", r#"{"nodePort": 30080}"#);
        cluster.edit("web", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        cluster.service("empty", "[fd00:96::11]:80", "{}");
        cluster.endpoints_v6("web", &[&a, &b]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        let web = "[fd00:96::10]:80";
        let first = ask(web).unwrap().name;
        assert_eq!(names(&tally(20, || ask(web).unwrap())), [first.as_str()]);
        assert_eq!(tally(20, || b.namespace.ask(web).unwrap()).len(), 1);
        let left = if first == "a" { &b } else { &a };
        cluster.endpoints_v6("web", &[left]);
        sync(node, &mut proxy, &cluster);
        cluster.endpoints_v6("web", &[&a, &b]);
        sync(node, &mut proxy, &cluster);
        assert_eq!(names(&tally(20, || ask(web).unwrap())).len(), 1);
        node.stranger.ask("[2001:db8::1]:30080").unwrap();
        assert_eq!(ask("[fd00:96::11]:80").unwrap_err().kind(), ErrorKind::ConnectionRefused);

        cluster.edit("web", r#"{"spec": {"sessionAffinity": "None"}}"#);
        sync(node, &mut proxy, &cluster);
        let seen: BTreeSet<_> = (0..60).map(|_| a.namespace.ask(web).unwrap()).collect();
        let seen: Vec<_> = seen.iter().map(|answer| (answer.name.as_str(), answer.client.as_str())).collect();
        assert_eq!(seen, [("a", "fd00:1::1"), ("b", "fd00:1::2")]);
    });
}

#[test]
fn what_somebody_flushed_comes_back() {
    on_a_fresh_node("what_somebody_flushed_comes_back", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let mut cluster = Cluster::default();
        cluster.service("web", WEB, "{}");
        cluster.endpoints("web", &[&a]);
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);

        // The next change notices that the table is gone.
        run("nft", &["delete table inet k8s-services"]);
        ask(WEB).unwrap_err();
        cluster.endpoints("web", &[&a, &b]);
        assert!(sync(node, &mut proxy, &cluster).full);
        assert_eq!(names(&tally(30, || ask(WEB).unwrap())), ["a", "b"]);

        // Without a change it is noticed by looking, while changes to other tables mean nothing.
        assert!(node.wait(proxy.intact()).unwrap());
        run("nft", &["add table inet theirs"]);
        assert!(node.wait(proxy.intact()).unwrap());
        run("nft", &["flush table inet k8s-services"]);
        ask(WEB).unwrap_err();
        assert!(!node.wait(proxy.intact()).unwrap());
        proxy.forget();
        assert!(sync(node, &mut proxy, &cluster).full);
        ask(WEB).unwrap();

        // Dropping the proxy changes nothing; a new one takes over, and cleaning up removes all of it.
        drop(proxy);
        ask(WEB).unwrap();
        let mut proxy = self::proxy();
        sync(node, &mut proxy, &cluster);
        ask(WEB).unwrap();
        node.wait(proxy.cleanup()).unwrap();
        node.wait(proxy.cleanup()).unwrap();
        assert!(!run("nft", &["list", "tables"]).contains("k8s-services"));
    });
}

#[test]
fn two_proxies_and_foreign_tables_do_not_touch_each_other() {
    on_a_fresh_node("two_proxies_and_foreign_tables_do_not_touch_each_other", |node| {
        let network = node.pod_network();
        let (a, b) = (node.pod(&network, "a"), node.pod(&network, "b"));
        let foreign = "add table inet theirs; add map inet theirs services4 { type ipv4_addr : verdict; }; \
             add element inet theirs services4 { 10.96.0.10 : accept }; \
             add chain inet theirs forward { type filter hook forward priority 0; }; \
             add rule inet theirs forward ip daddr vmap @services4";
        run("nft", &[foreign]);
        run("nft", &["add table ip k8s-services; add chain ip k8s-services c; add rule ip k8s-services c counter"]);
        let theirs = || (run("nft", &["list table inet theirs"]), run("nft", &["list table ip k8s-services"]));
        let before = theirs();

        let mut cluster = Cluster::default();
        cluster.service("web", WEB, "{}");
        cluster.endpoints("web", &[&a]);
        let mut other = Cluster::default();
        other.service("web", "10.97.0.10:80", "{}");
        other.endpoints("web", &[&b]);
        let mut proxy = proxy();
        let config = NftablesConfig { table: "other".into(), ..NftablesConfig::default() };
        let mut second = Proxy::new(view(), Nftables::new(config));
        sync(node, &mut proxy, &cluster);
        sync(node, &mut second, &other);
        assert_eq!(ask(WEB).unwrap().name, "a");
        assert_eq!(ask("10.97.0.10:80").unwrap().name, "b");
        node.wait(second.cleanup()).unwrap();
        assert_eq!(ask(WEB).unwrap().name, "a");
        cluster.endpoints("web", &[&a, &b]);
        sync(node, &mut proxy, &cluster);
        node.wait(proxy.cleanup()).unwrap();
        assert_eq!(theirs(), before);

        let config = NftablesConfig { table: "theirs".into(), ..NftablesConfig::default() };
        let mut thief = Proxy::new(view(), Nftables::new(config));
        for outcome in [node.wait(thief.sync(&cluster.services, &cluster.slices)).map(drop), node.wait(thief.cleanup())]
        {
            assert!(matches!(outcome, Err(ProxyError::Filter(NftError::ForeignTable { .. }))), "{outcome:?}");
        }
        assert_eq!(theirs(), before);
        drop(node.wait(network.attached()));
    });
}

#[test]
fn a_missing_program_or_privilege_is_named() {
    on_a_fresh_node("a_missing_program_or_privilege_is_named", |node| {
        let error = |nft: &str| {
            let config = NftablesConfig { nft: nft.into(), ..NftablesConfig::default() };
            let mut proxy = Proxy::new(view(), Nftables::new(config));
            node.wait(proxy.sync([], [])).unwrap_err().to_string()
        };
        let missing = error("/nowhere/nft");
        assert!(missing.contains("`/nowhere/nft`") && missing.contains("package `nftables`"), "{missing}");

        let powerless = node.state.path().join("nft");
        std::fs::write(&powerless, "#!/bin/sh\nexec setpriv --bounding-set=-all --inh-caps=-all nft \"$@\"\n").unwrap();
        run("chmod", &["+x", powerless.to_str().unwrap()]);
        let refused = error(powerless.to_str().unwrap());
        assert!(refused.contains("CAP_NET_ADMIN"), "{refused}");
    });
}

#[test]
fn ten_thousand_services_fit_in_as_many_chains_as_one() {
    on_a_fresh_node("ten_thousand_services_fit_in_as_many_chains_as_one", |node| {
        const SERVICES: usize = 10_000;
        let network = node.pod_network();
        let pods: Vec<_> = ["a", "b", "c"].map(|name| node.pod(&network, name)).into();
        let mut cluster = Cluster::default();
        cluster.many(SERVICES, &pods.iter().collect::<Vec<_>>());
        let start = Instant::now();
        let rules = k8s_net::proxy::plan(&cluster.services, &cluster.slices, &view());
        let planned = start.elapsed();
        assert_eq!(rules.frontends.len(), SERVICES);

        let mut proxy = proxy();
        let start = Instant::now();
        sync(node, &mut proxy, &cluster);
        let loaded = start.elapsed();
        let chains = || run("nft", &["-t", "list table inet k8s-services"]).matches("chain ").count();
        let many = chains();

        cluster.service("one-more", WEB, "{}");
        cluster.endpoints("one-more", &pods.iter().collect::<Vec<_>>());
        let start = Instant::now();
        let applied = sync(node, &mut proxy, &cluster);
        println!("plan {planned:?}, load {loaded:?}, one more {:?} ({} elements)", start.elapsed(), applied.changes);
        assert!(!applied.full);
        assert_eq!(names(&tally(60, || ask(WEB).unwrap())), ["a", "b", "c"]);
        assert_eq!(chains(), many);
        assert!(planned.as_secs() < 1, "planning took {planned:?}");
    });
}

/// What a table holds, without what depends on how it came about.
fn content(table: &str) -> BTreeMap<String, Vec<String>> {
    let listing: serde_json::Value =
        serde_json::from_str(&run("nft", &["-j", "list", "table", "inet", table])).unwrap();
    let mut content = BTreeMap::<_, Vec<_>>::new();
    for object in listing["nftables"].as_array().unwrap() {
        if let Some(set) = object.get("set").or(object.get("map")) {
            let mut elements: Vec<_> = set["elem"].as_array().into_iter().flatten().map(ToString::to_string).collect();
            elements.sort();
            content.insert(format!("set {}", set["name"]), elements);
        }
        if let Some(chain) = object.get("chain") {
            content.entry(format!("chain {}", chain["name"])).or_default();
        }
        if let Some(rule) = object.get("rule") {
            content.entry(format!("chain {}", rule["chain"])).or_default().push(rule["expr"].to_string());
        }
    }
    content
}

#[test]
fn any_sequence_of_changes_leads_where_starting_anew_leads() {
    on_a_fresh_node("any_sequence_of_changes_leads_where_starting_anew_leads", |node| {
        let network = node.pod_network();
        let pods: Vec<_> = ["a", "b", "c", "d"].map(|name| node.pod(&network, name)).into();
        let mut cluster = Cluster::default();
        for (name, address, port) in [
            ("four", "10.96.0.1:80", r#"{"nodePort": 30080}"#),
            ("six", "[fd00:96::1]:80", r#"{"nodePort": 30081}"#),
            ("udp", "10.96.0.2:53", r#"{"protocol": "UDP"}"#),
            ("udp-six", "[fd00:96::2]:53", r#"{"protocol": "UDP"}"#),
        ] {
            cluster.service(name, address, port);
        }
        let changes = [
            r#"{"spec": {"sessionAffinity": "ClientIP"}}"#,
            r#"{"spec": {"sessionAffinity": "None"}}"#,
            r#"{"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}}}"#,
            r#"{"spec": {"externalTrafficPolicy": "Local"}}"#,
            r#"{"spec": {"externalTrafficPolicy": "Cluster"}}"#,
            r#"{"spec": {"internalTrafficPolicy": "Local"}}"#,
            r#"{"spec": {"externalIPs": ["198.51.100.1", "2001:db8:1::1"]}}"#,
            r#"{"spec": {"externalIPs": []}}"#,
            r#"{"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/64"]}}"#,
            r#"{"spec": {"loadBalancerSourceRanges": ["192.0.2.0/25", "192.0.2.192/26"]}}"#,
            r#"{"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}, {"ip": "2001:db8:1::2"}]}}}"#,
        ];

        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let mut proxy = proxy();
        sync(node, &mut proxy, &cluster);
        for step in 0..120 {
            let name = ["four", "six", "udp", "udp-six"][random(4)];
            if random(3) == 0 {
                cluster.edit(name, changes[random(changes.len())]);
            } else {
                let chosen = pods.iter().filter(|_| random(2) == 0).collect::<Vec<_>>();
                let placed: Vec<_> = chosen.iter().map(|pod| (*pod, ["here", "there"][random(2)])).collect();
                if name.contains("six") {
                    cluster.endpoints_v6(name, &chosen)
                } else {
                    cluster.endpoints_on(name, &placed)
                }
            }
            let applied = sync(node, &mut proxy, &cluster);
            assert!(!applied.full, "step {step} was no difference");
            if step % 6 != 0 {
                continue;
            }
            let config = NftablesConfig { table: "anew".into(), ..NftablesConfig::default() };
            let mut anew = Proxy::new(view(), Nftables::new(config));
            sync(node, &mut anew, &cluster);
            assert_eq!(content("k8s-services"), content("anew"), "after step {step}");
            node.wait(anew.cleanup()).unwrap();
        }
    });
}
