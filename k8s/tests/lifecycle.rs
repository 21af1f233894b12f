//! Nodes that fall silent, and pods that nobody takes away: what the control plane makes of them, in simulated time.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

use std::time::Duration;

use k8s::prelude::{
    types::{
        apps::v1::Deployment,
        core::v1::{Endpoints, Event, Node, Pod, ReplicationController, Service},
        policy::v1::PodDisruptionBudget,
        rbac::v1::ClusterRole,
    },
    *,
};
use k8s::{
    core::{
        doc::Doc,
        request::{ApiRequest, PatchKind, RequestBody, Target, Verb},
        resource::Resource,
    },
    sim::World,
};
use serde_json::{Value, from_value, json};

fn doc(value: Value) -> Doc {
    Doc::from_serialize(&value).unwrap()
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

fn web(replicas: i32) -> Deployment {
    from_value(json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template()}}))
    .unwrap()
}

async fn pods(world: &World) -> Vec<Stored<Pod>> {
    world.client().namespaced::<Pod>("default").list(Options::default()).await.unwrap()
}

fn is_ready(pod: &Stored<Pod>) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn pods_on(world: &World, node: &str) -> Vec<Stored<Pod>> {
    pods(world).await.into_iter().filter(|pod| pod.object().meta.node_name == node).collect()
}

async fn node(world: &World, name: &str) -> Stored<Node> {
    world.client().all::<Node>().get(name).await.unwrap()
}

fn taints(node: &Stored<Node>) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

fn ready(node: &Stored<Node>) -> (String, String) {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|c| (c.status.clone(), c.reason.clone().unwrap_or_default())).unwrap_or_default()
}

async fn events(world: &World, reason: &str) -> usize {
    let events = world.client().all::<Event>().list(Options::default()).await.unwrap();
    events.iter().filter(|event| event.reason.as_deref() == Some(reason)).count()
}

async fn pass(world: &World, seconds: u64) {
    world.env().sleep(Duration::from_secs(seconds)).await;
}

const UNREACHABLE: [&str; 2] =
    ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"];

#[test]
fn the_pods_of_a_silent_node_are_replaced_and_a_node_that_comes_back_is_welcome() {
    Sim::new(11).nodes(3).run(async |world| {
        world.client().namespaced::<Deployment>("default").create(web(3)).await.unwrap();
        world.settle().await;
        let lost = pods_on(&world, "hollow-0").await;
        assert_eq!(lost.len(), 1, "one pod on each node");
        assert_eq!(taints(&node(&world, "hollow-0").await), [""; 0]);

        world.faults().silence("hollow-0");
        pass(&world, 35).await;
        assert_eq!(ready(&node(&world, "hollow-0").await).0, "True", "not silent for long enough");
        pass(&world, 30).await;
        let silent = node(&world, "hollow-0").await;
        assert_eq!(ready(&silent), ("Unknown".to_owned(), "NodeStatusUnknown".to_owned()));
        assert_eq!(taints(&silent), UNREACHABLE);
        assert_eq!(pods(&world).await.len(), 3, "the default toleration is five minutes");
        assert!(!is_ready(&pods_on(&world, "hollow-0").await[0]), "nobody vouches for it");
        assert_eq!(taints(&node(&world, "hollow-1").await), [""; 0], "the others are well");

        pass(&world, 230).await;
        assert_eq!(pods(&world).await.len(), 3);
        pass(&world, 80).await;
        let left = pods(&world).await;
        let replaced = left.iter().filter(|pod| is_ready(pod) && pod.object().meta.node_name != "hollow-0").count();
        assert_eq!(replaced, 3, "a replacement runs elsewhere");
        let evicted = left.iter().find(|pod| pod.uid() == lost[0].uid()).expect("its node never confirmed its end");
        assert!(evicted.object().meta.deleted.is_some());
        assert_eq!(events(&world, "TaintManagerEviction").await, 1);

        world.faults().hear("hollow-0");
        pass(&world, 60).await;
        let back = node(&world, "hollow-0").await;
        assert_eq!(ready(&back).0, "True");
        assert_eq!(taints(&back), [""; 0]);
        assert!(pods(&world).await.iter().all(|pod| pod.uid() != lost[0].uid()), "its node confirmed its end");
    });
}

#[test]
fn a_node_that_is_back_in_time_keeps_its_pods() {
    Sim::new(12).nodes(2).run(async |world| {
        world.client().namespaced::<Deployment>("default").create(web(2)).await.unwrap();
        world.settle().await;
        let before: Vec<String> = pods(&world).await.iter().map(|pod| pod.uid().to_owned()).collect();
        world.faults().silence("hollow-0");
        pass(&world, 120).await;
        assert_eq!(taints(&node(&world, "hollow-0").await), UNREACHABLE);
        world.faults().hear("hollow-0");
        pass(&world, 400).await;
        let after = pods(&world).await;
        assert_eq!(after.iter().map(|pod| pod.uid().to_owned()).collect::<Vec<_>>(), before);
        assert!(after.iter().all(is_ready), "the node vouches for its pods again");
    });
}

#[test]
fn when_every_node_is_silent_no_pod_is_driven_away() {
    Sim::new(13).nodes(2).run(async |world| {
        world.client().namespaced::<Deployment>("default").create(web(2)).await.unwrap();
        world.settle().await;
        world.faults().silence("hollow-0");
        world.faults().silence("hollow-1");
        pass(&world, 900).await;
        for name in ["hollow-0", "hollow-1"] {
            assert_eq!(taints(&node(&world, name).await), [UNREACHABLE[0]]);
        }
        assert!(pods(&world).await.iter().all(|pod| pod.object().meta.deleted.is_none()));
        assert_eq!(pods(&world).await.len(), 2);
    });
}

#[test]
fn a_taint_drives_away_who_does_not_tolerate_it() {
    Sim::new(14).nodes(1).run(async |world| {
        world.settle().await;
        let pod = |name: &str, tolerations: Value| -> Pod {
            from_value(json!({"metadata": {"name": name},
                "spec": {"tolerations": tolerations, "containers": [{"name": "c", "image": "c:1"}]}}))
            .unwrap()
        };
        let limited = json!([{"key": "off", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]);
        let api = world.client().namespaced::<Pod>("default");
        for (name, tolerations) in [("no", json!([])), ("some", limited), ("all", json!([{"operator": "Exists"}]))] {
            api.create(pod(name, tolerations)).await.unwrap();
        }
        world.settle().await;
        let taint = doc(json!({"spec": {"taints": [{"key": "off", "effect": "NoExecute"}], "unschedulable": true}}));
        world.client().all::<Node>().patch("hollow-0", PatchKind::Merge, taint).await.unwrap();
        let names = async || -> Vec<String> { pods(&world).await.iter().map(|pod| pod.name().to_owned()).collect() };
        pass(&world, 40).await;
        assert_eq!(names().await, ["all", "some"]);
        let cordoned = "node.kubernetes.io/unschedulable:NoSchedule".to_owned();
        assert!(taints(&node(&world, "hollow-0").await).contains(&cordoned));
        pass(&world, 60).await;
        assert_eq!(names().await, ["all"]);
    });
}

#[test]
fn pods_of_a_node_that_is_gone_go_after_a_while() {
    Sim::new(15).nodes(1).run(async |world| {
        world.settle().await;
        let api = world.client().namespaced::<Pod>("default");
        let pod = json!({"metadata": {"name": "orphan"},
            "spec": {"nodeName": "gone", "containers": [{"name": "c", "image": "c:1"}]}});
        api.create(from_value(pod).unwrap()).await.unwrap();
        pass(&world, 30).await;
        assert_eq!(pods(&world).await.len(), 1, "the node may only be late");
        pass(&world, 20).await;
        assert!(pods(&world).await.is_empty());
    });
}

#[test]
fn a_pod_that_never_had_a_node_is_seen_off_all_the_same() {
    Sim::new(16).nodes(0).run(async |world| {
        world.settle().await;
        let api = world.client().namespaced::<Pod>("default");
        let pod = json!({"metadata": {"name": "waits", "finalizers": ["example.com/hold"]},
            "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
        api.create(from_value(pod).unwrap()).await.unwrap();
        api.delete("waits").await.unwrap();
        world.settle().await;
        let tried = |line: &&String| line.contains("pod-garbage-collector delete") && line.contains("default/waits");
        assert!(world.trace().iter().find(tried).is_some());
        assert!(api.get("waits").await.unwrap().object().meta.deleted.is_some(), "its finalizer holds it");
        let free = doc(json!({"metadata": {"finalizers": null}}));
        api.patch("waits", PatchKind::Merge, free).await.unwrap();
        world.settle().await;
        assert!(api.find("waits").await.unwrap().is_none());
    });
}

#[test]
fn of_too_many_finished_pods_the_oldest_go() {
    Sim::new(19).nodes(0).run(async |world| {
        world.settle().await;
        let api = world.client().namespaced::<Pod>("default");
        let _running = k8s::controllers::pod_gc::terminated(2).start(world.client());
        for (name, phase) in [("a", "Succeeded"), ("b", "Running"), ("c", "Failed"), ("d", "Succeeded")] {
            let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
            api.create(from_value(pod).unwrap()).await.unwrap();
            api.patch_status(name, PatchKind::Merge, doc(json!({"status": {"phase": phase}}))).await.unwrap();
            pass(&world, 2).await;
        }
        world.settle().await;
        assert_eq!(pods(&world).await.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>(), ["b", "c", "d"]);
    });
}

#[test]
fn pods_on_their_way_out_of_a_machine_that_is_off_for_good_go_at_once() {
    Sim::new(17).nodes(2).run(async |world| {
        world.client().namespaced::<Deployment>("default").create(web(2)).await.unwrap();
        world.settle().await;
        world.faults().silence("hollow-0");
        pass(&world, 100).await;
        let lost = pods_on(&world, "hollow-0").await;
        assert_eq!(lost.len(), 1);
        let mark = doc(json!([{"op": "add", "path": "/spec/taints/-",
            "value": {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}}]));
        world.client().all::<Node>().patch("hollow-0", PatchKind::Json, mark).await.unwrap();
        world.settle().await;
        assert!(pods_on(&world, "hollow-0").await.is_empty());
        assert_eq!(pods(&world).await.iter().filter(|pod| is_ready(pod)).count(), 2);
    });
}

#[test]
fn a_replication_controller_keeps_its_pods_and_endpoints_name_them() {
    Sim::new(18).nodes(2).run(async |world| {
        let controllers = world.client().namespaced::<ReplicationController>("default");
        let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 3, "template": template()}});
        controllers.create(from_value(controller).unwrap()).await.unwrap();
        let services = world.client().namespaced::<Service>("default");
        let service =
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        services.create(from_value(service).unwrap()).await.unwrap();
        world.settle().await;
        let status = controllers.get("rc").await.unwrap().status.clone().unwrap();
        assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (3, Some(3), Some(1)));
        let endpoints = world.client().namespaced::<Endpoints>("default");
        let addresses = async || -> usize {
            let found = endpoints.get("web").await.unwrap();
            found.subsets.iter().flatten().map(|subset| subset.addresses.as_ref().map_or(0, Vec::len)).sum()
        };
        assert_eq!(addresses().await, 3);

        controllers.patch("rc", PatchKind::Merge, doc(json!({"spec": {"replicas": 1}}))).await.unwrap();
        world.settle().await;
        assert_eq!((pods(&world).await.len(), addresses().await), (1, 1));
        services.delete("web").await.unwrap();
        controllers.delete("rc").await.unwrap();
        world.settle().await;
        assert!(endpoints.find("web").await.unwrap().is_none());
        assert!(endpoints.find("kubernetes").await.is_ok());
        assert!(pods(&world).await.is_empty());
    });
}

#[test]
fn a_budget_lets_pods_be_evicted_one_after_the_other() {
    Sim::new(20).nodes(3).run(async |world| {
        world.client().namespaced::<Deployment>("default").create(web(3)).await.unwrap();
        let budgets = world.client().namespaced::<PodDisruptionBudget>("default");
        let budget = json!({"metadata": {"name": "web"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
        budgets.create(from_value(budget).unwrap()).await.unwrap();
        world.settle().await;
        let status = budgets.get("web").await.unwrap().status.clone().unwrap();
        let counts = (status.expected_pods, status.desired_healthy, status.disruptions_allowed);
        assert_eq!(counts, (Some(3), Some(2), Some(1)));

        let evict = async |name: &str| {
            let target = Target::one(Pod::resource(), "default", name).subresource("eviction");
            let body = RequestBody::Doc(doc(json!({"metadata": {"name": name, "namespace": "default"}})));
            world.client().call(ApiRequest { verb: Verb::Create, target, body, ..Default::default() }).await
        };
        let before = pods(&world).await;
        assert_eq!(evict(before[0].name()).await.unwrap().code, 201);
        let refused = evict(before[1].name()).await.unwrap_err();
        assert_eq!(refused.code(), 429);
        assert_eq!(refused.status().details.as_ref().unwrap().causes[0].reason, "DisruptionBudget");
        let left = pods(&world).await;
        assert!(left.iter().any(|pod| pod.uid() == before[1].uid() && pod.object().meta.deleted.is_none()));

        world.settle().await;
        let after = pods(&world).await;
        assert!(after.len() == 3 && after.iter().all(is_ready), "the evicted pod was replaced");
        assert_eq!(evict(before[1].name()).await.unwrap().code, 201, "then the next may go");
        world.settle().await;
        budgets.delete("web").await.unwrap();
        for pod in pods(&world).await {
            assert_eq!(evict(pod.name()).await.unwrap().code, 201, "no budget, no limit");
        }
    });
}

#[test]
fn an_aggregated_role_has_the_rules_of_the_roles_that_it_selects() {
    Sim::new(21).nodes(1).run(async |world| {
        let roles = world.client().all::<ClusterRole>();
        let role = |name: &str, extra: Value| -> ClusterRole {
            let mut role = json!({"metadata": {"name": name}});
            extra.as_object().unwrap().iter().for_each(|(field, value)| role[field] = value.clone());
            from_value(role).unwrap()
        };
        let aggregation = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]});
        roles.create(role("all", json!({"aggregationRule": aggregation}))).await.unwrap();
        let rule = |verb: &str| json!([{"apiGroups": ["acme.com"], "resources": ["boxes"], "verbs": [verb]}]);
        let labelled = |name: &str, label: &str| json!({"name": name, "labels": {label: "all"}});
        for (name, verb) in [("one", "get"), ("two", "list")] {
            roles.create(role(name, json!({"metadata": labelled(name, "to"), "rules": rule(verb)}))).await.unwrap();
        }
        let viewers = "rbac.authorization.k8s.io/aggregate-to-view";
        let seen = json!({"name": "boxes", "labels": {viewers: "true"}});
        roles.create(role("boxes", json!({"metadata": seen, "rules": rule("watch")}))).await.unwrap();
        world.settle().await;
        let verbs = async |name: &str| -> Vec<String> {
            let rules = roles.get(name).await.unwrap().rules.clone().unwrap_or_default();
            let ours = rules.into_iter().filter(|rule| rule.resources.iter().flatten().any(|name| name == "boxes"));
            ours.flat_map(|rule| rule.verbs).collect()
        };
        assert_eq!(verbs("all").await, ["get", "list"]);
        for name in ["view", "edit", "admin"] {
            assert_eq!(verbs(name).await, ["watch"], "{name} collects what view collects");
        }
        let unlabel = doc(json!({"metadata": {"labels": null}}));
        roles.patch("one", PatchKind::Merge, unlabel).await.unwrap();
        roles.delete("boxes").await.unwrap();
        world.settle().await;
        assert_eq!((verbs("all").await, verbs("admin").await), (vec!["list".to_owned()], vec![]));
    });
}
