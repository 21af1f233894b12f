//! What the planner decides, as data; and what must hold for any cluster.

use std::collections::BTreeSet;

use k8s_core::api::{
    api::{
        core::v1::{ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, ServiceStatus, SessionAffinityConfig},
        discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use proptest::prelude::*;

use super::*;
use crate::proxy::Target;

fn node() -> NodeView {
    NodeView {
        name: "here".into(),
        zone: Some("z1".into()),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        proxy_name: None,
    }
}

fn service(name: &str, ips: &[&str], ports: &[(&str, i32)]) -> Service {
    Service {
        metadata: ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..Default::default() },
        spec: Some(ServiceSpec {
            cluster_ip: ips.first().map(|ip| ip.to_string()),
            cluster_ips: Some(ips.iter().map(|ip| ip.to_string()).collect()),
            ports: Some(
                ports
                    .iter()
                    .map(|(name, port)| ServicePort { name: Some(name.to_string()), port: *port, ..Default::default() })
                    .collect(),
            ),
            ..Default::default()
        }),
        status: None,
    }
}

fn edit(mut service: Service, change: impl FnOnce(&mut ServiceSpec)) -> Service {
    change(service.spec.as_mut().expect("built with a spec"));
    service
}

/// `endpoints`: address, node, and the conditions as letters: `r`eady, `s`erving, `t`erminating.
fn slice(service: &str, family: &str, ports: &[(&str, i32)], endpoints: &[(&str, &str, &str)]) -> EndpointSlice {
    EndpointSlice {
        address_type: family.into(),
        endpoints: Some(endpoints.iter().map(|(ip, node, conditions)| endpoint(ip, node, conditions)).collect()),
        metadata: ObjectMeta {
            name: Some(format!("{service}-slice")),
            namespace: Some("ns".into()),
            labels: Some([(SERVICE_NAME.to_string(), service.to_string())].into()),
            ..Default::default()
        },
        ports: Some(
            ports
                .iter()
                .map(|(name, port)| EndpointPort {
                    name: Some(name.to_string()),
                    port: Some(*port),
                    protocol: Some("TCP".into()),
                    ..Default::default()
                })
                .collect(),
        ),
    }
}

fn endpoint(ip: &str, node: &str, conditions: &str) -> Endpoint {
    Endpoint {
        addresses: vec![ip.into()],
        node_name: Some(node.into()),
        conditions: Some(EndpointConditions {
            ready: Some(conditions.contains('r')),
            serving: Some(conditions.contains('s')),
            terminating: Some(conditions.contains('t')),
        }),
        ..Default::default()
    }
}

fn planned(services: &[Service], slices: &[EndpointSlice]) -> String {
    plan(services, slices, &node()).to_string()
}

#[test]
fn a_cluster_ip_leads_to_the_ready_endpoints_of_every_slice() {
    let rules = planned(
        &[service("web", &["10.96.0.1"], &[("http", 80), ("admin", 90)])],
        &[
            slice(
                "web",
                "IPv4",
                &[("http", 8080), ("admin", 9090)],
                &[("10.1.0.2", "here", "rs"), ("10.1.0.3", "there", "")],
            ),
            slice("web", "IPv4", &[("http", 8081)], &[("10.1.0.4", "there", "rs"), ("10.1.0.5", "there", "st")]),
            slice("other", "IPv4", &[("http", 8080)], &[("10.1.0.9", "here", "rs")]),
        ],
    );
    insta::assert_snapshot!(rules, @"
    10.96.0.1:80/tcp [ns/web:http] -> 10.1.0.2:8080 10.1.0.4:8081, masquerade OffCluster
    10.96.0.1:90/tcp [ns/web:admin] -> 10.1.0.2:9090, masquerade OffCluster
    ");
}

#[test]
fn endpoints_that_still_serve_while_terminating_are_the_fallback() {
    let services = [service("web", &["10.96.0.1"], &[("", 80)])];
    let rules = planned(
        &services,
        &[slice(
            "web",
            "IPv4",
            &[("", 80)],
            &[("10.1.0.2", "here", "st"), ("10.1.0.3", "here", "t"), ("10.1.0.4", "here", "s")],
        )],
    );
    insta::assert_snapshot!(rules, @"10.96.0.1:80/tcp [ns/web:] -> 10.1.0.2:80, masquerade OffCluster");
}

#[test]
fn an_endpoint_accepts_until_it_is_known_to_terminate() {
    let accepting = |endpoints: &[(&str, &str, &str)]| {
        let slices = [slice("web", "IPv4", &[("", 8080)], endpoints)];
        let rules = plan(&[service("web", &["10.96.0.1"], &[("", 80)])], &slices, &node());
        rules.accepting.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let stays = ("10.1.0.2", "here", "rs");
    let leaves = ("10.1.0.3", "here", "st");
    // With `publishNotReadyAddresses` an endpoint is called ready to its end.
    let always_ready = ("10.1.0.4", "there", "rst");
    let starts = ("10.1.0.5", "here", "");
    assert_eq!(accepting(&[stays, leaves, always_ready, starts]), ["10.1.0.2"]);
    assert_eq!(accepting(&[leaves]), [""; 0], "though it is the one that is left to lead to");
}

#[test]
fn a_service_without_endpoints_is_refused() {
    insta::assert_snapshot!(
        planned(&[service("web", &["10.96.0.1"], &[("", 80)])], &[]),
        @"10.96.0.1:80/tcp [ns/web:] -> reject, masquerade OffCluster"
    );
}

#[test]
fn external_addresses_masquerade_and_cluster_ips_do_not() {
    let mut web = edit(service("web", &["10.96.0.1"], &[("", 80)]), |spec| {
        spec.external_ips = Some(vec!["198.51.100.1".into()]);
        spec.ports.as_mut().unwrap()[0].node_port = Some(30_080);
        spec.load_balancer_source_ranges = Some(vec!["203.0.113.0/24".into(), "203.0.113.7/32".into()]);
    });
    let ingress = |ip: &str, mode: &str| LoadBalancerIngress {
        ip: Some(ip.into()),
        ip_mode: Some(mode.into()),
        ..Default::default()
    };
    web.status = Some(ServiceStatus {
        load_balancer: Some(LoadBalancerStatus {
            ingress: Some(vec![ingress("198.51.100.2", "VIP"), ingress("198.51.100.3", "Proxy")]),
        }),
        ..Default::default()
    });
    let slices = [slice("web", "IPv4", &[("", 80)], &[("10.1.0.2", "there", "rs")])];
    insta::assert_snapshot!(planned(&[web], &slices), @"
    10.96.0.1:80/tcp [ns/web:] -> 10.1.0.2:80, masquerade OffCluster
    192.0.2.1:30080/tcp [ns/web:] -> 10.1.0.2:80, masquerade Always
    198.51.100.1:80/tcp [ns/web:] -> 10.1.0.2:80, masquerade Always
    198.51.100.2:80/tcp [ns/web:] -> 10.1.0.2:80, masquerade Always, only from [203.0.113.0/24]
    ");
}

#[test]
fn local_policies_keep_to_this_node_and_drop_what_they_cannot_serve() {
    let local = |name: &str, ip: &str, port: i32| {
        edit(service(name, &[ip], &[("", 80)]), |spec| {
            spec.external_traffic_policy = Some("Local".into());
            spec.internal_traffic_policy = Some("Local".into());
            spec.ports.as_mut().unwrap()[0].node_port = Some(port);
        })
    };
    let slices = [
        slice("both", "IPv4", &[("", 80)], &[("10.1.0.2", "here", "rs"), ("10.1.0.3", "there", "rs")]),
        slice("far", "IPv4", &[("", 80)], &[("10.1.0.4", "there", "rs")]),
        slice("leaving", "IPv4", &[("", 80)], &[("10.1.0.5", "here", "st"), ("10.1.0.6", "there", "rs")]),
    ];
    let services = [
        local("both", "10.96.0.1", 30_001),
        local("far", "10.96.0.2", 30_002),
        local("leaving", "10.96.0.3", 30_003),
        local("none", "10.96.0.4", 30_004),
    ];
    insta::assert_snapshot!(planned(&services, &slices), @"
    10.96.0.1:80/tcp [ns/both:] -> 10.1.0.2:80, masquerade OffCluster
    10.96.0.2:80/tcp [ns/far:] -> drop, masquerade OffCluster
    10.96.0.3:80/tcp [ns/leaving:] -> 10.1.0.5:80, masquerade OffCluster
    10.96.0.4:80/tcp [ns/none:] -> reject, masquerade OffCluster
    192.0.2.1:30001/tcp [ns/both:] -> 10.1.0.2:80 10.1.0.3:80, outside -> 10.1.0.2:80, masquerade Node
    192.0.2.1:30002/tcp [ns/far:] -> 10.1.0.4:80, outside -> drop, masquerade Node
    192.0.2.1:30003/tcp [ns/leaving:] -> 10.1.0.6:80, outside -> 10.1.0.5:80, masquerade Node
    192.0.2.1:30004/tcp [ns/none:] -> reject, outside -> reject, masquerade Node
    ");
}

#[test]
fn hints_narrow_the_choice_when_they_are_complete() {
    let hinted = |hints: [(&[&str], &[&str]); 3]| {
        let mut made = slice(
            "web",
            "IPv4",
            &[("", 80)],
            &[("10.1.0.1", "here", "rs"), ("10.1.0.2", "there", "rs"), ("10.1.0.3", "there", "rs")],
        );
        for (endpoint, (nodes, zones)) in made.endpoints.iter_mut().flatten().zip(hints) {
            endpoint.hints = Some(EndpointHints {
                for_nodes: Some(nodes.iter().map(|name| ForNode { name: name.to_string() }).collect()),
                for_zones: Some(zones.iter().map(|name| ForZone { name: name.to_string() }).collect()),
            });
        }
        let rules = plan(&[service("web", &["10.96.0.1"], &[("", 80)])], &[made], &node());
        let reached: Vec<_> = rules.frontends.values().flat_map(|d| d.targets()).map(|t| t.to_string()).collect();
        reached.join(" ")
    };
    let (all, none): (_, &[&str]) = ("10.1.0.1:80 10.1.0.2:80 10.1.0.3:80", &[]);
    assert_eq!(hinted([(none, &["z1"]), (none, &["z1", "z2"]), (none, &["z2"])]), "10.1.0.1:80 10.1.0.2:80");
    assert_eq!(hinted([(none, &["z1"]), (none, none), (none, &["z2"])]), all, "incomplete");
    assert_eq!(hinted([(none, &["z2"]), (none, &["z2"]), (none, &["z3"])]), all, "none for this zone");
    assert_eq!(hinted([(&["here"], &["z1"]), (&["there"], &["z1"]), (&["there"], &["z2"])]), "10.1.0.1:80");
    assert_eq!(hinted([(&["else"], &["z1"]), (&["there"], &["z2"]), (&["there"], &["z2"])]), "10.1.0.1:80", "by zone");
}

#[test]
fn affinity_has_the_services_timeout_or_three_hours() {
    let sticky = |name: &str, ip: &str, seconds: Option<i32>| {
        edit(service(name, &[ip], &[("", 80)]), |spec| {
            spec.session_affinity = Some("ClientIP".into());
            spec.session_affinity_config =
                Some(SessionAffinityConfig { client_ip: Some(ClientIPConfig { timeout_seconds: seconds }) });
        })
    };
    insta::assert_snapshot!(
        planned(&[sticky("a", "10.96.0.1", Some(60)), sticky("b", "10.96.0.2", None)], &[]),
        @"
    10.96.0.1:80/tcp [ns/a:] -> reject, masquerade OffCluster, affinity 60s
    10.96.0.2:80/tcp [ns/b:] -> reject, masquerade OffCluster, affinity 10800s
    "
    );
}

#[test]
fn each_family_has_its_own_endpoints_and_node_addresses() {
    let nodeport = |spec: &mut ServiceSpec| spec.ports.as_mut().unwrap()[0].node_port = Some(30_080);
    let dual = edit(service("dual", &["10.96.0.1", "fd00:96::1"], &[("", 80)]), nodeport);
    let single = edit(service("single", &["10.96.0.2"], &[("", 80)]), |spec| {
        spec.ports.as_mut().unwrap()[0].node_port = Some(30_081);
    });
    let slices = [
        slice("dual", "IPv4", &[("", 80)], &[("10.1.0.2", "here", "rs")]),
        slice("dual", "IPv6", &[("", 80)], &[("fd00:1::2", "here", "rs")]),
        slice("dual", "FQDN", &[("", 80)], &[("example.org", "here", "rs")]),
    ];
    insta::assert_snapshot!(planned(&[dual, single], &slices), @"
    10.96.0.1:80/tcp [ns/dual:] -> 10.1.0.2:80, masquerade OffCluster
    10.96.0.2:80/tcp [ns/single:] -> reject, masquerade OffCluster
    192.0.2.1:30080/tcp [ns/dual:] -> 10.1.0.2:80, masquerade Always
    192.0.2.1:30081/tcp [ns/single:] -> reject, masquerade Always
    [2001:db8::1]:30080/tcp [ns/dual:] -> [fd00:1::2]:80, masquerade Always
    [fd00:96::1]:80/tcp [ns/dual:] -> [fd00:1::2]:80, masquerade OffCluster
    ");
}

#[test]
fn headless_external_and_foreign_services_have_no_rules() {
    let external = edit(service("external", &["10.96.0.1"], &[("", 80)]), |spec| {
        spec.type_ = Some("ExternalName".into());
    });
    let mut foreign = service("foreign", &["10.96.0.2"], &[("", 80)]);
    foreign.metadata.labels = Some([(PROXY_NAME.to_string(), "mesh".to_string())].into());
    let services = [service("headless", &["None"], &[("", 80)]), external, foreign];
    assert_eq!(planned(&services, &[]), "");

    let mesh = NodeView { proxy_name: Some("mesh".into()), ..node() };
    insta::assert_snapshot!(
        plan(&services, &[], &mesh),
        @"10.96.0.2:80/tcp [ns/foreign:] -> reject, masquerade OffCluster"
    );
}

#[test]
fn a_cluster_ip_cannot_be_taken_over_as_an_external_ip() {
    let thief = edit(service("a-thief", &["10.96.0.9"], &[("", 80)]), |spec| {
        spec.external_ips = Some(vec!["10.96.0.1".into()]);
    });
    let slices = [
        slice("a-thief", "IPv4", &[("", 80)], &[("10.1.0.66", "here", "rs")]),
        slice("victim", "IPv4", &[("", 80)], &[("10.1.0.2", "here", "rs")]),
    ];
    insta::assert_snapshot!(planned(&[thief, service("victim", &["10.96.0.1"], &[("", 80)])], &slices), @"
    10.96.0.1:80/tcp [ns/victim:] -> 10.1.0.2:80, masquerade OffCluster
    10.96.0.9:80/tcp [ns/a-thief:] -> 10.1.0.66:80, masquerade OffCluster
    ");
}

/// One Service with one port, its endpoints as `(last byte, ready, terminating)`, split over two slices.
type Sketch = Vec<(u8, bool, bool)>;

fn sketch_slices(name: &str, endpoints: &Sketch) -> Vec<EndpointSlice> {
    let part = |keep: bool| {
        let endpoints: Vec<_> = endpoints.iter().enumerate().filter(|(i, _)| (i % 2 == 0) == keep).collect();
        let mut made = slice(name, "IPv4", &[("p", 8080)], &[]);
        made.endpoints = Some(
            endpoints
                .into_iter()
                .map(|(_, (byte, ready, terminating))| {
                    let conditions =
                        format!("{}{}", if *ready { "rs" } else { "s" }, if *terminating { "t" } else { "" });
                    endpoint(&format!("10.1.0.{byte}"), "there", &conditions)
                })
                .collect(),
        );
        made
    };
    vec![part(true), part(false)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn each_service_port_reaches_exactly_its_ready_endpoints(
        sketches in prop::collection::vec(prop::collection::btree_map(any::<u8>(), any::<(bool, bool)>(), 0..6), 0..6),
        reversed in any::<bool>(),
    ) {
        let sketches: Vec<Sketch> =
            sketches.into_iter().map(|s| s.into_iter().map(|(byte, (r, t))| (byte, r, t)).collect()).collect();
        let name = |i: usize| format!("s{i}");
        let ip = |i: usize| format!("10.96.0.{i}");
        let mut services: Vec<_> =
            (0..sketches.len()).map(|i| service(&name(i), &[&ip(i)], &[("p", 80)])).collect();
        let mut slices: Vec<_> =
            sketches.iter().enumerate().flat_map(|(i, sketch)| sketch_slices(&name(i), sketch)).collect();
        if reversed {
            services.reverse();
            slices.reverse();
        }

        let rules = plan(&services, &slices, &node());
        prop_assert_eq!(rules.frontends.len(), sketches.len());
        for (i, sketch) in sketches.iter().enumerate() {
            let frontend = Frontend { address: ip(i).parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
            let reached: BTreeSet<Target> = rules.frontends[&frontend].backends.targets().iter().copied().collect();
            let of = |wanted: &dyn Fn(bool, bool) -> bool| -> BTreeSet<Target> {
                let chosen = sketch.iter().filter(|(_, ready, terminating)| wanted(*ready, *terminating));
                chosen.map(|(byte, ..)| Target { address: format!("10.1.0.{byte}").parse().unwrap(), port: 8080 }).collect()
            };
            let ready = of(&|ready, _| ready);
            let expected = if ready.is_empty() { of(&|_, terminating| terminating) } else { ready };
            prop_assert_eq!(reached, expected);
        }
    }
}
