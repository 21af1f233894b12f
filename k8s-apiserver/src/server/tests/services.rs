//! Addresses and ports of Services: none twice, none lost. And the fence of a Lease.

use std::collections::BTreeSet;

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Caller, Fence, Options, PatchKind, RequestBody, Verb},
};
use k8s_store::Page;
use proptest::prelude::*;

use super::fixture::{Fixture, built, over, revision, server, target};

fn service(name: &str, spec: Doc) -> Doc {
    let mut spec = spec;
    if spec.get("ports").is_none() {
        spec.set_at(&["ports"], doc!([{"port": 80}]));
    }
    doc!({"metadata": {"name": name}, "spec": spec})
}

/// What the Services say that they hold, and what is allocated.
async fn books(api: &Fixture) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut held = BTreeSet::new();
    for object in api.list("services", "", Options::default()).await.unwrap().items {
        let doc = Doc::parse(&object.to_json()).unwrap();
        let ips = doc.at(&["spec", "clusterIPs"]).map_or(&[][..], Doc::items).iter().filter_map(Doc::as_str);
        let ports = doc.at(&["spec", "ports"]).map_or(&[][..], Doc::items).iter();
        let mut of_service: BTreeSet<String> = ips.filter(|ip| *ip != "None").map(str::to_owned).collect();
        of_service.extend(ports.filter_map(|port| port.get("nodePort")).map(|port| port.to_string()));
        for key in of_service {
            assert!(held.insert(key.clone()), "{key} is held twice");
        }
    }
    let listing = api.store.list("/registry/ranges/", Page::all()).await.unwrap();
    let allocated = listing.entries.iter().map(|entry| entry.key.rsplit('/').next().unwrap().to_owned()).collect();
    (held, allocated)
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_what_its_type_needs_and_gives_back_what_it_does_not() {
    let api = server().await;
    let created = api.create("services", "default", service("s", doc!({}))).await.unwrap();
    let address = created.str_at(&["spec", "clusterIP"]).to_owned();
    assert!(address.starts_with("10."), "{created}");
    assert_eq!(created.str_at(&["spec", "ipFamilies", "0"]), "IPv4");
    let to_node_port = doc!({"spec": {"type": "NodePort"}});
    let patched = api.patch("services/s", "default", PatchKind::Merge, to_node_port).await.unwrap();
    let port = patched.at(&["spec", "ports", "0", "nodePort"]).and_then(Doc::as_i64).unwrap();
    assert!((30000..=32767).contains(&port));
    assert_eq!(patched.str_at(&["spec", "clusterIP"]), address);
    let without = service("s", doc!({"type": "NodePort"}));
    let replaced = api.update("services/s", "default", without).await.unwrap();
    assert_eq!(replaced.at(&["spec", "ports", "0", "nodePort"]).and_then(Doc::as_i64), Some(port), "{replaced}");
    assert_eq!(replaced.str_at(&["spec", "clusterIP"]), address);
    let mut back = replaced.clone();
    back.set_at(&["spec", "type"], "ClusterIP".into());
    let back = api.update("services/s", "default", back).await.unwrap();
    assert_eq!(back.at(&["spec", "ports", "0", "nodePort"]), None);
    let mut external = back.clone();
    external.set_at(&["spec", "type"], "ExternalName".into());
    external.set_at(&["spec", "externalName"], "example.com".into());
    let external = api.update("services/s", "default", external).await.unwrap();
    assert_eq!(external.str_at(&["spec", "clusterIP"]), "");
    assert_eq!(books(&api).await, (BTreeSet::new(), BTreeSet::new()));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_must_be_free_and_in_range() {
    let api = server().await;
    let fixed = |ip: &str| doc!({"clusterIP": ip});
    api.create("services", "default", service("a", fixed("10.96.0.10"))).await.unwrap();
    let port = |number: i64| doc!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]});
    api.create("services", "default", service("b", port(30080))).await.unwrap();
    let cases = [
        (fixed("10.96.0.10"), "provided IP is already allocated"),
        (fixed("192.168.0.1"), "provided IP is not in the valid range"),
        (port(30080), "provided port is already allocated"),
        (port(80), "provided port is not in the valid range"),
    ];
    for (spec, why) in cases {
        let request = ApiRequest {
            verb: Verb::Create,
            target: target("services", "default"),
            body: RequestBody::Doc(service("c", spec)),
            ..ApiRequest::default()
        };
        let error = api.refused(request).await;
        assert_eq!(error.code(), 422, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let headless = api.create("services", "default", service("h", fixed("None"))).await.unwrap();
    assert_eq!(headless.str_at(&["spec", "clusterIPs", "0"]), "None");
    let twins = doc!({"type": "NodePort", "ports": [
        {"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}
    ]});
    let twins = api.create("services", "default", service("t", twins)).await.unwrap();
    let of = |place: &str| twins.at(&["spec", "ports", place, "nodePort"]).and_then(Doc::as_i64);
    assert_eq!(of("0"), of("1"), "one port under both protocols");
}

#[tokio::test(start_paused = true)]
async fn a_full_range_says_so() {
    let api = built(|builder| builder.service_cidr("10.0.0.0/29".parse().unwrap()).node_ports(30000..=30001)).await;
    for n in 0..6 {
        api.create("services", "default", service(&format!("s{n}"), doc!({}))).await.unwrap();
    }
    let full = api.create("services", "default", service("s6", doc!({}))).await.unwrap_err();
    assert_eq!(full.code(), 500, "{full}");
    api.delete("services/s3", "default", Options::default()).await.unwrap();
    api.create("services", "default", service("s6", doc!({}))).await.unwrap();
    let (held, allocated) = books(&api).await;
    assert_eq!((held.len(), &held), (6, &allocated));
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8, u8),
    Retype(u8, u8),
    Delete(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u8, 0..4u8).prop_map(|(name, kind)| Step::Create(name, kind)),
        (0..6u8, 0..4u8).prop_map(|(name, kind)| Step::Retype(name, kind)),
        (0..6u8).prop_map(Step::Delete),
    ]
}

fn spec(kind: u8) -> Doc {
    match kind {
        0 => doc!({"type": "ClusterIP"}),
        1 => doc!({"type": "NodePort"}),
        2 => doc!({"type": "LoadBalancer"}),
        _ => doc!({"type": "ExternalName", "externalName": "example.com"}),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice_and_nothing_is_left_behind(rounds in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let api = built(|builder| builder.service_cidr("10.0.0.0/28".parse().unwrap()).node_ports(30000..=30007)).await;
            for round in rounds {
                // The steps of a round meet each other.
                let steps = round.into_iter().map(|step| { let api = api.clone(); async move { take(&api, step).await } });
                futures::future::join_all(steps).await;
                let (held, allocated) = books(&api).await;
                assert_eq!(held, allocated);
            }
        });
    }
}

async fn take(api: &Fixture, step: Step) {
    // Any of them may be refused: the name is taken or free, the range is full.
    match step {
        Step::Create(name, kind) => {
            drop(api.create("services", "default", service(&format!("s{name}"), spec(kind))).await);
        }
        Step::Retype(name, kind) => {
            let patch = doc!({"spec": spec(kind)});
            drop(api.patch(&format!("services/s{name}"), "default", PatchKind::Merge, patch).await);
        }
        Step::Delete(name) => drop(api.delete(&format!("services/s{name}"), "default", Options::default()).await),
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_write_is_refused_once_the_lease_has_another_holder() {
    let api = server().await;
    let lease = |holder: &str| doc!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder}});
    let held = api.create("leases", "kube-system", lease("one")).await.unwrap();
    let fence = Fence { namespace: "kube-system".into(), name: "l".into(), revision: revision(&held) };
    let write = |name: &str| ApiRequest {
        verb: Verb::Create,
        target: target("configmaps", "default"),
        body: RequestBody::Doc(doc!({"metadata": {"name": name}})),
        fence: Some(fence.clone()),
        ..ApiRequest::default()
    };
    api.ask(write("a")).await.unwrap();
    let mut renewed = held.clone();
    renewed.set_at(&["spec", "renewTime"], "2026-01-01T00:00:00.000000Z".into());
    let renewed = api.update("leases/l", "kube-system", renewed).await.unwrap();
    api.ask(write("b")).await.unwrap();
    let mut taken = renewed;
    taken.set_at(&["spec", "holderIdentity"], "two".into());
    let taken = api.update("leases/l", "kube-system", taken).await.unwrap();
    let error = api.refused(write("c")).await;
    assert_eq!(error.code(), 409, "{error}");
    assert!(error.to_string().contains("leadership"), "{error}");
    let unconditional = lease("three");
    assert_eq!(api.update("leases/l", "kube-system", unconditional).await.unwrap_err().code(), 422);
    api.delete("leases/l", "kube-system", Options::default()).await.unwrap();
    let newest = Fence { revision: revision(&taken), ..fence.clone() };
    let gone = api.refused(ApiRequest { fence: Some(newest), ..write("d") }).await;
    assert_eq!(gone.code(), 409, "a lease that is gone leads nobody");
}

#[tokio::test(start_paused = true)]
async fn the_server_is_reachable_by_name_once_it_knows_its_address() {
    let api = built(|builder| builder.advertise([192, 0, 2, 7].into(), 6443)).await;
    let service = api.get("services/kubernetes", "default").await.unwrap();
    assert_eq!(service.str_at(&["spec", "clusterIP"]), "10.96.0.1");
    let slice = api.get("endpointslices/kubernetes", "default").await.unwrap();
    assert_eq!(slice.str_at(&["endpoints", "0", "addresses", "0"]), "192.0.2.7");
    let endpoints = api.get("endpoints/kubernetes", "default").await.unwrap();
    assert_eq!(endpoints.str_at(&["subsets", "0", "addresses", "0", "ip"]), "192.0.2.7");
}

#[tokio::test(start_paused = true)]
async fn nobody_draws_the_traffic_of_other_addresses() {
    let api = server().await;
    let drawing = |name: &str| service(name, doc!({"externalIPs": ["198.51.100.7"]}));
    let denied = "is forbidden: Use of external IPs is denied by admission control";
    let error = api.create("services", "default", drawing("s")).await.unwrap_err();
    assert!(error.code() == 403 && error.to_string().ends_with(denied), "{error}");
    api.create("services", "default", service("s", doc!({}))).await.unwrap();
    let adding = doc!({"spec": {"externalIPs": ["198.51.100.7"]}});
    let error = api.patch("services/s", "default", PatchKind::Merge, adding).await.unwrap_err();
    assert!(error.code() == 403 && error.to_string().ends_with(denied), "{error}");
    // Who edits everything in a namespace writes no Service's status either, where a balancer's addresses stand.
    let binding = doc!({
        "metadata": {"name": "eve"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]
    });
    api.create("rolebindings", "default", binding).await.unwrap();
    let eve = api.acting(Caller::new("eve", &[]));
    eve.create("services", "default", service("own", doc!({"type": "LoadBalancer"}))).await.unwrap();
    let balanced = doc!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}});
    let error = eve.patch("services/own/status", "default", PatchKind::Merge, balanced).await.unwrap_err();
    assert_eq!(error.code(), 403, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_service_keeps_and_gives_up_external_addresses_that_it_had() {
    let api = built(|builder| builder.without_admission("DenyServiceExternalIPs")).await;
    let drawing = |ips: Doc| service("s", doc!({"externalIPs": ips}));
    let stored = api.create("services", "default", drawing(doc!(["198.51.100.7", "198.51.100.8"]))).await.unwrap();
    api.api.shutdown().await;
    let guarded = over(api.store.clone(), api.env.clone(), |builder| builder).await;
    let kept = guarded.update("services/s", "default", stored).await.unwrap();
    assert_eq!(kept.at(&["spec", "externalIPs"]).unwrap().items().len(), 2);
    let fewer = doc!({"spec": {"externalIPs": ["198.51.100.8"]}});
    guarded.patch("services/s", "default", PatchKind::Merge, fewer).await.unwrap();
    let other = doc!({"spec": {"externalIPs": ["198.51.100.8", "198.51.100.7"]}});
    assert_eq!(guarded.patch("services/s", "default", PatchKind::Merge, other).await.unwrap_err().code(), 403);
}
