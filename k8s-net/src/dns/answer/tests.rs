//! Questions and answers as data.

use std::str::FromStr;

use serde_json::{Value, json};

use super::*;
use crate::dns::Zone;

fn put_service(index: &mut Index, name: &str, spec: Value) {
    let (namespace, name) = name.split_once('/').unwrap();
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    index.put_service(&serde_json::from_value(object).unwrap());
}

fn put_slice(index: &mut Index, service: &str, number: usize, family: &str, ports: Value, endpoints: Value) {
    let (namespace, service) = service.split_once('/').unwrap();
    let labels = json!({"kubernetes.io/service-name": service});
    let metadata = json!({"namespace": namespace, "name": format!("{service}-{number}"), "labels": labels});
    let object = json!({"metadata": metadata, "addressType": family, "ports": ports, "endpoints": endpoints});
    index.put_slice(&serde_json::from_value(object).unwrap());
}

fn empty() -> Index {
    let networks = ["10.96.0.0/12", "10.1.0.0/16", "fd00::/8"].map(|text| text.parse().unwrap()).into();
    Index::new(Zone::new("Cluster.local").unwrap().networks(networks))
}

fn index() -> Index {
    let mut index = empty();
    index.put_namespace("empty");
    let http = json!([{"name": "http", "port": 80}, {"port": 81}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    put_service(
        &mut index,
        "shop/web",
        json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"], "ports": http}),
    );
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    put_slice(&mut index, "shop/web", 1, "IPv4", ports.clone(), json!([{"addresses": ["10.1.0.2"]}]));
    put_service(&mut index, "shop/db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
    let endpoints = json!([
        {"addresses": ["10.1.0.7"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.1.0.8"], "hostname": "db-1", "conditions": {"ready": false}},
        {"addresses": ["10.1.0.9"]},
    ]);
    put_slice(&mut index, "shop/db", 1, "IPv4", ports.clone(), endpoints.clone());
    let second = json!([{"addresses": ["fd00::7"], "hostname": "db-0"}]);
    put_slice(&mut index, "shop/db", 2, "IPv6", ports.clone(), second);
    let eager = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
    put_service(&mut index, "shop/eager", eager);
    put_slice(&mut index, "shop/eager", 1, "IPv4", json!([]), endpoints);
    put_service(&mut index, "shop/none", json!({"clusterIP": "None"}));
    for (name, target) in [
        ("away", "example.com"),
        ("near", "WEB.shop.svc.cluster.local"),
        ("lost", "no.such.svc.cluster.local"),
        ("ring-a", "ring-b.shop.svc.cluster.local"),
        ("ring-b", "ring-a.shop.svc.cluster.local"),
    ] {
        let spec = json!({"type": "ExternalName", "externalName": target});
        put_service(&mut index, &format!("shop/{name}"), spec);
    }
    index.set_complete();
    index
}

/// The answer as text: the outcome, then each record as `name type data`, additional ones after a plus.
fn ask(index: &Index, name: &str, kind: &str) -> String {
    let name = Name::from_ascii(name).unwrap();
    let answer = answer(index, &name, RecordType::from_str(kind).unwrap());
    let outcome = match &answer.outcome {
        Outcome::Elsewhere(name) => format!("Elsewhere {name}"),
        outcome => format!("{outcome:?}"),
    };
    let text = |record: &Record| format!("{} {} {}", record.name, record.record_type(), record.data);
    let records = answer.records.iter().map(text);
    let additionals = answer.additionals.iter().map(|record| format!("+ {}", text(record)));
    assert!(answer.records.iter().all(|record| record.ttl == 5));
    let negative = matches!(answer.outcome, Outcome::NoData | Outcome::NoName);
    assert_eq!(negative, !answer.authorities.is_empty(), "exactly negative answers name their authority");
    for authority in &answer.authorities {
        assert_eq!(authority.record_type(), RecordType::SOA);
        let asked = match answer.records.last().map(|record| &record.data) {
            Some(RData::CNAME(CNAME(target))) => target,
            _ => &name,
        };
        assert!(authority.name.zone_of(asked), "{} is above {asked}", authority.name);
    }
    [outcome].into_iter().chain(records).chain(additionals).collect::<Vec<_>>().join("\n")
}

#[test]
fn services_with_a_cluster_ip() {
    let index = index();
    insta::assert_snapshot!(ask(&index, "web.shop.svc.cluster.local.", "A"), @"
    Found
    web.shop.svc.cluster.local. A 10.96.0.5
    ");
    insta::assert_snapshot!(ask(&index, "web.shop.svc.cluster.local.", "AAAA"), @"
    Found
    web.shop.svc.cluster.local. AAAA fd00::5
    ");
    insta::assert_snapshot!(ask(&index, "wEb.Shop.SVC.cluster.LOCAL.", "ANY"), @"
    Found
    wEb.Shop.SVC.cluster.LOCAL. A 10.96.0.5
    wEb.Shop.SVC.cluster.LOCAL. AAAA fd00::5
    ");
    insta::assert_snapshot!(ask(&index, "_http._tcp.web.shop.svc.cluster.local.", "SRV"), @"
    Found
    _http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local.
    + web.shop.svc.cluster.local. A 10.96.0.5
    + web.shop.svc.cluster.local. AAAA fd00::5
    ");
    insta::assert_snapshot!(ask(&index, "_dns._udp.web.shop.svc.cluster.local.", "SRV"), @"
    Found
    _dns._udp.web.shop.svc.cluster.local. SRV 0 100 53 web.shop.svc.cluster.local.
    + web.shop.svc.cluster.local. A 10.96.0.5
    + web.shop.svc.cluster.local. AAAA fd00::5
    ");
    insta::assert_snapshot!(ask(&index, "5.0.96.10.in-addr.arpa.", "PTR"), @"
    Found
    5.0.96.10.in-addr.arpa. PTR web.shop.svc.cluster.local.
    ");
    let six = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    insta::assert_snapshot!(ask(&index, six, "PTR"), @"
    Found
    5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. PTR web.shop.svc.cluster.local.
    ");
    insta::assert_snapshot!(ask(&index, "10-1-0-2.web.shop.svc.cluster.local.", "A"), @"
    Found
    10-1-0-2.web.shop.svc.cluster.local. A 10.1.0.2
    ");
}

#[test]
fn headless_services() {
    let index = index();
    insta::assert_snapshot!(ask(&index, "db.shop.svc.cluster.local.", "A"), @"
    Found
    db.shop.svc.cluster.local. A 10.1.0.7
    db.shop.svc.cluster.local. A 10.1.0.9
    ");
    insta::assert_snapshot!(ask(&index, "db.shop.svc.cluster.local.", "AAAA"), @"
    Found
    db.shop.svc.cluster.local. AAAA fd00::7
    ");
    insta::assert_snapshot!(ask(&index, "db-0.db.shop.svc.cluster.local.", "A"), @"
    Found
    db-0.db.shop.svc.cluster.local. A 10.1.0.7
    ");
    insta::assert_snapshot!(ask(&index, "10-1-0-9.db.shop.svc.cluster.local.", "A"), @"
    Found
    10-1-0-9.db.shop.svc.cluster.local. A 10.1.0.9
    ");
    insta::assert_snapshot!(ask(&index, "_http._tcp.db.shop.svc.cluster.local.", "SRV"), @"
    Found
    _http._tcp.db.shop.svc.cluster.local. SRV 0 50 8080 10-1-0-9.db.shop.svc.cluster.local.
    _http._tcp.db.shop.svc.cluster.local. SRV 0 50 8080 db-0.db.shop.svc.cluster.local.
    + db-0.db.shop.svc.cluster.local. A 10.1.0.7
    + 10-1-0-9.db.shop.svc.cluster.local. A 10.1.0.9
    + db-0.db.shop.svc.cluster.local. AAAA fd00::7
    ");
    insta::assert_snapshot!(ask(&index, "7.0.1.10.in-addr.arpa.", "PTR"), @"
    Found
    7.0.1.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local.
    7.0.1.10.in-addr.arpa. PTR db-0.eager.shop.svc.cluster.local.
    ");
    insta::assert_snapshot!(ask(&index, "9.0.1.10.in-addr.arpa.", "PTR"), @"
    Found
    9.0.1.10.in-addr.arpa. PTR 10-1-0-9.db.shop.svc.cluster.local.
    9.0.1.10.in-addr.arpa. PTR 10-1-0-9.eager.shop.svc.cluster.local.
    ");
    insta::assert_snapshot!(ask(&index, "eager.shop.svc.cluster.local.", "A"), @"
    Found
    eager.shop.svc.cluster.local. A 10.1.0.7
    eager.shop.svc.cluster.local. A 10.1.0.8
    eager.shop.svc.cluster.local. A 10.1.0.9
    ");
    insta::assert_snapshot!(ask(&index, "8.0.1.10.in-addr.arpa.", "PTR"), @"
    Found
    8.0.1.10.in-addr.arpa. PTR db-1.eager.shop.svc.cluster.local.
    ");
}

#[test]
fn external_names() {
    let index = index();
    insta::assert_snapshot!(ask(&index, "away.shop.svc.cluster.local.", "A"), @"
    Elsewhere example.com.
    away.shop.svc.cluster.local. CNAME example.com.
    ");
    insta::assert_snapshot!(ask(&index, "away.shop.svc.cluster.local.", "CNAME"), @"
    Found
    away.shop.svc.cluster.local. CNAME example.com.
    ");
    insta::assert_snapshot!(ask(&index, "near.shop.svc.cluster.local.", "A"), @"
    Found
    near.shop.svc.cluster.local. CNAME WEB.shop.svc.cluster.local.
    WEB.shop.svc.cluster.local. A 10.96.0.5
    ");
    insta::assert_snapshot!(ask(&index, "near.shop.svc.cluster.local.", "TXT"), @"
    NoData
    near.shop.svc.cluster.local. CNAME WEB.shop.svc.cluster.local.
    ");
    insta::assert_snapshot!(ask(&index, "lost.shop.svc.cluster.local.", "A"), @"
    NoName
    lost.shop.svc.cluster.local. CNAME no.such.svc.cluster.local.
    ");
    assert!(ask(&index, "ring-a.shop.svc.cluster.local.", "A").starts_with("Failed"));
}

#[test]
fn pods_and_the_zone_itself() {
    let index = index();
    insta::assert_snapshot!(ask(&index, "10-1-0-2.shop.pod.cluster.local.", "A"), @"
    Found
    10-1-0-2.shop.pod.cluster.local. A 10.1.0.2
    ");
    insta::assert_snapshot!(ask(&index, "fd00--7.empty.pod.cluster.local.", "AAAA"), @"
    Found
    fd00--7.empty.pod.cluster.local. AAAA fd00::7
    ");
    insta::assert_snapshot!(ask(&index, "dns-version.cluster.local.", "TXT"), @"
    Found
    dns-version.cluster.local. TXT 1.1.0
    ");
    insta::assert_snapshot!(ask(&index, "cluster.local.", "NS"), @"
    Found
    cluster.local. NS kube-dns.kube-system.svc.cluster.local.
    ");
    insta::assert_snapshot!(ask(&index, "cluster.local.", "SOA"), @"
    Found
    cluster.local. SOA kube-dns.kube-system.svc.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    ");
}

#[test]
fn what_has_no_records_exists_or_not() {
    let index = index();
    let cases = [
        // Names that something stands at, or below.
        ("cluster.local.", "A", "NoData"),
        ("svc.cluster.local.", "A", "NoData"),
        ("pod.cluster.local.", "A", "NoData"),
        ("shop.svc.cluster.local.", "A", "NoData"),
        ("empty.svc.cluster.local.", "A", "NoData"),
        ("empty.pod.cluster.local.", "A", "NoData"),
        ("none.shop.svc.cluster.local.", "A", "NoData"),
        ("web.shop.svc.cluster.local.", "MX", "NoData"),
        ("_tcp.web.shop.svc.cluster.local.", "A", "NoData"),
        ("_tcp.db.shop.svc.cluster.local.", "SRV", "NoData"),
        ("_http._tcp.db.shop.svc.cluster.local.", "A", "NoData"),
        ("10-1-0-2.shop.pod.cluster.local.", "AAAA", "NoData"),
        ("db-0.db.shop.svc.cluster.local.", "TXT", "NoData"),
        ("5.0.96.10.in-addr.arpa.", "A", "NoData"),
        ("dns-version.cluster.local.", "A", "NoData"),
        // Names that nothing stands at.
        ("no.cluster.local.", "A", "NoName"),
        ("no.svc.cluster.local.", "A", "NoName"),
        ("no.shop.svc.cluster.local.", "A", "NoName"),
        ("db-1.db.shop.svc.cluster.local.", "A", "NoName"),
        ("10-1-0-7.db.shop.svc.cluster.local.", "A", "NoName"),
        ("_udp.db.shop.svc.cluster.local.", "A", "NoName"),
        ("_no._tcp.web.shop.svc.cluster.local.", "SRV", "NoName"),
        ("_http._udp.web.shop.svc.cluster.local.", "SRV", "NoName"),
        ("_http._tcp.away.shop.svc.cluster.local.", "SRV", "NoName"),
        ("a.b.c.web.shop.svc.cluster.local.", "A", "NoName"),
        ("10-1-0.shop.pod.cluster.local.", "A", "NoName"),
        ("10-1-0-2.no.pod.cluster.local.", "A", "NoName"),
        ("10.1.0.2.shop.pod.cluster.local.", "A", "NoName"),
        ("1.0.1.10.in-addr.arpa.", "PTR", "NoName"),
        // Somebody else's.
        ("example.com.", "A", "Elsewhere example.com."),
        ("local.", "A", "Elsewhere local."),
        (".", "NS", "Elsewhere ."),
        ("acluster.local.", "A", "Elsewhere acluster.local."),
        ("1.2.0.192.in-addr.arpa.", "PTR", "Elsewhere 1.2.0.192.in-addr.arpa."),
        ("1.10.in-addr.arpa.", "PTR", "Elsewhere 1.10.in-addr.arpa."),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&index, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn before_everything_is_known_nothing_is_denied() {
    let mut index = empty();
    for name in ["web.shop.svc.cluster.local.", "1.0.96.10.in-addr.arpa."] {
        assert_eq!(ask(&index, name, "A"), "Failed", "{name}");
    }
    assert_eq!(ask(&index, "example.com.", "A"), "Elsewhere example.com.");
    index.set_complete();
    assert_eq!(ask(&index, "web.shop.svc.cluster.local.", "A"), "NoName");
}

#[test]
fn what_is_removed_is_not_found_any_more() {
    let mut index = index();
    let web = ObjectKey::new("shop", "web");
    // Another Service took the address before this one's removal was heard of.
    put_service(&mut index, "shop/heir", json!({"clusterIP": "10.96.0.5"}));
    index.remove_service(&web);
    assert_eq!(ask(&index, "web.shop.svc.cluster.local.", "A"), "NoName");
    assert_eq!(ask(&index, "10-1-0-2.web.shop.svc.cluster.local.", "A"), "NoName");
    assert_eq!(ask(&index, "2.0.1.10.in-addr.arpa.", "PTR"), "NoName");
    assert!(ask(&index, "5.0.96.10.in-addr.arpa.", "PTR").ends_with("PTR heir.shop.svc.cluster.local."));
    index.remove_slice(&ObjectKey::new("shop", "db-1"));
    assert_eq!(ask(&index, "db.shop.svc.cluster.local.", "A"), "NoData");
    index.remove_namespace("empty");
    assert_eq!(ask(&index, "empty.svc.cluster.local.", "A"), "NoName");
    // Endpoints may come before their Service.
    put_service(&mut index, "shop/web", json!({"clusterIP": "10.96.0.6"}));
    assert!(ask(&index, "2.0.1.10.in-addr.arpa.", "PTR").ends_with("PTR 10-1-0-2.web.shop.svc.cluster.local."));
}

#[test]
fn a_zone_needs_a_name() {
    for domain in ["", ".", "a..b", &"a".repeat(64)] {
        assert!(Zone::new(domain).is_err(), "{domain:?}");
    }
}
