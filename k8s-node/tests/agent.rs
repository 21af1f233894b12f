//! The agent over pretended containers, on a clock that jumps: from an API object to a running pod and back.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

#[path = "agent/cluster.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod cluster;

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use cluster::{Clock, Cluster, Wire};
use k8s_core::{
    api::api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Node, Pod},
    },
    env::Env,
    seam::traffic::{Inflow, PodTraffic, TrafficError},
};
use k8s_node::{
    agent::{Agent, AgentBuilder, CounterNetwork, HollowNodes},
    hollow::Hollow,
    runtime::{ContainerState, PodRuntime},
};
use k8s_reconcile::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

struct Test {
    env: Env,
    cluster: Arc<Cluster>,
    client: Client,
    runtime: Arc<Hollow>,
    network: Arc<CounterNetwork>,
}

impl Test {
    fn new() -> Self {
        let env = Clock::env();
        let cluster = Cluster::new(env.clone());
        let client = Client::new(Arc::new(Wire(cluster.clone())), env.clone());
        let runtime = Arc::new(Hollow::new(env.clone()));
        Self { env, cluster, client, runtime, network: Arc::new(CounterNetwork::of_node(0)) }
    }

    fn agent(&self) -> Agent {
        self.builder().start().unwrap()
    }

    fn agent_with(&self, traffic: Arc<dyn PodTraffic>) -> Agent {
        self.builder().traffic(traffic).start().unwrap()
    }

    fn builder(&self) -> AgentBuilder {
        let agent = Agent::builder(self.client.clone(), self.runtime.clone(), self.env.clone(), "n1");
        agent.network(self.network.clone()).addresses(vec!["10.0.0.1".parse().unwrap()])
    }

    fn pod(&self, name: &str, spec: Value) -> Pod {
        self.annotated(name, spec, json!({}))
    }

    fn annotated(&self, name: &str, spec: Value, annotations: Value) -> Pod {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let meta = json!({"name": name, "namespace": "default", "annotations": annotations});
        self.cluster.create(json!({"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}))
    }

    /// Waits for an event that begins so.
    async fn told(&self, text: &str) {
        self.cluster.until(text, |cluster| cluster.events().iter().any(|event| event.starts_with(text))).await;
    }

    async fn runs(&self) -> bool {
        let observed = self.runtime.observe().await.unwrap();
        observed.containers.iter().any(|container| matches!(container.state, ContainerState::Running { .. }))
    }

    async fn is_empty(&self) -> bool {
        let observed = self.runtime.observe().await.unwrap();
        observed.sandboxes.is_empty() && observed.containers.is_empty()
    }
}

fn one() -> Value {
    json!({"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30})
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn waits(pod: &Pod) -> String {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let states = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    states.collect::<Vec<_>>().join(",")
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_gets_an_address_and_goes_when_deleted() {
    let test = Test::new();
    let agent = test.agent();
    test.pod("p", one());
    let pod = test.cluster.until_pod("p", "ready", is_ready).await;
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.64.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(phase(&pod), "Running");
    test.cluster.delete("p", 30);
    test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
    assert!(test.is_empty().await);
    for reason in ["Pulling", "Pulled", "Created", "Started", "Killing"] {
        test.told(reason).await;
    }
    agent.stop().await;
}

/// Clients, as a test says.
struct Clients(Mutex<Inflow>);

#[async_trait]
impl PodTraffic for Clients {
    async fn inflow(&self, addresses: &[IpAddr]) -> Result<Inflow, TrafficError> {
        assert_eq!(addresses, ["10.64.0.1".parse::<IpAddr>().unwrap()]);
        Ok(*self.0.lock())
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_when_its_clients_are_elsewhere() {
    let test = Test::new();
    let clients = Arc::new(Clients(Mutex::new(Inflow::New)));
    let _agent = test.agent_with(clients.clone());
    test.pod("p", one());
    test.cluster.until_pod("p", "ready", is_ready).await;
    test.cluster.delete("p", 30);
    for inflow in [Inflow::New, Inflow::Open] {
        *clients.0.lock() = inflow;
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(test.runs().await, "it was told to end at {inflow:?}");
    }
    *clients.0.lock() = Inflow::Nothing;
    let start = test.env.monotonic();
    test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
    assert!(test.env.monotonic() - start < Duration::from_millis(100));
    assert!(test.is_empty().await);
}

#[tokio::test(start_paused = true)]
async fn clients_hold_a_pod_up_for_a_part_of_its_grace_only() {
    for (grace, seconds) in [(30, 6), (4, 2), (0, 0)] {
        let test = Test::new();
        let _agent = test.agent_with(Arc::new(Clients(Mutex::new(Inflow::New))));
        test.pod("p", one());
        test.cluster.until_pod("p", "ready", is_ready).await;
        test.cluster.delete("p", grace);
        let start = test.env.monotonic();
        test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
        assert_eq!((test.env.monotonic() - start).as_secs(), seconds, "a grace of {grace} s");
    }
}

#[tokio::test(start_paused = true)]
async fn status_is_written_only_when_it_changes() {
    let test = Test::new();
    let _agent = test.agent();
    test.pod("p", one());
    test.cluster.until_pod("p", "ready", is_ready).await;
    let before = test.cluster.writes::<Pod>("p");
    assert!(before <= 5, "{before} writes to come up");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(test.cluster.writes::<Pod>("p"), before);
}

#[tokio::test(start_paused = true)]
async fn a_failing_container_restarts_with_back_off() {
    let test = Test::new();
    let _agent = test.agent();
    test.annotated("p", one(), json!({"hollow/exit-after": "1s", "hollow/exit-code": "3"}));
    let start = test.env.monotonic();
    test.cluster.until_pod("p", "4 restarts", |pod| restarts(pod) == 4).await;
    let took = (test.env.monotonic() - start).as_secs();
    assert!((70..76).contains(&took), "0 + 10 + 20 + 40 s of waiting, not {took}");
    let pod = test.cluster.until_pod("p", "back-off", |pod| waits(pod) == "CrashLoopBackOff").await;
    let last = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 3);
    test.told("BackOff").await;
}

#[tokio::test(start_paused = true)]
async fn a_job_succeeds_and_a_failure_fails() {
    let test = Test::new();
    let _agent = test.agent();
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    test.annotated("good", never.clone(), json!({"hollow/exit-after": "5s"}));
    test.annotated("bad", never, json!({"hollow/exit-after": "5s", "hollow/exit-code": "7"}));
    test.cluster.until_pod("good", "succeeded", |pod| phase(pod) == "Succeeded").await;
    test.cluster.until_pod("bad", "failed", |pod| phase(pod) == "Failed").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    use k8s_core::seam::network::PodNetwork;
    assert!(test.network.attached().await.unwrap().is_empty(), "finished pods hold no addresses");
    assert!(!test.is_empty().await, "their logs stay until they are deleted");
    test.cluster.delete("good", 30);
    test.cluster.delete("bad", 30);
    test.cluster.until("both gone", |c| c.pod("good").is_none() && c.pod("bad").is_none()).await;
    assert!(test.is_empty().await);
}

#[tokio::test(start_paused = true)]
async fn an_absent_image_is_named() {
    let test = Test::new();
    let _agent = test.agent();
    test.pod("p", json!({"containers": [{"name": "c", "image": "registry.invalid/x"}]}));
    test.pod("q", json!({"containers": [{"name": "c", "image": "y", "imagePullPolicy": "Never"}]}));
    test.cluster.until_pod("p", "pull error", |pod| waits(pod) == "ErrImagePull").await;
    test.cluster.until_pod("p", "pull back-off", |pod| waits(pod) == "ImagePullBackOff").await;
    test.cluster.until_pod("q", "never", |pod| waits(pod) == "ErrImageNeverPull").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_takes_over_what_runs() {
    let test = Test::new();
    let agent = test.agent();
    test.pod("p", one());
    test.pod("q", one());
    test.cluster
        .until("both ready", |c| ["p", "q"].iter().all(|name| c.pod(name).is_some_and(|pod| is_ready(&pod))))
        .await;
    let ids = |observed: k8s_node::runtime::Observation| {
        observed.containers.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    let before = ids(test.runtime.observe().await.unwrap());
    agent.stop().await;
    assert_eq!(ids(test.runtime.observe().await.unwrap()), before, "containers outlive the agent");
    // While no agent runs, one pod is force-deleted.
    test.cluster.delete("q", 0);
    let writes = test.cluster.writes::<Pod>("p");
    let _agent = test.agent();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = ids(test.runtime.observe().await.unwrap());
    assert_eq!(after, before.into_iter().filter(|id| after.contains(id)).collect::<Vec<_>>());
    assert_eq!(after.len(), 1, "the orphan is gone, the other untouched: {after:?}");
    let pod = test.cluster.pod("p").unwrap();
    assert!(is_ready(&pod));
    assert!(test.cluster.writes::<Pod>("p") - writes <= 2, "hardly anything is written");
}

#[tokio::test(start_paused = true)]
async fn a_machine_restart_brings_pods_back() {
    let test = Test::new();
    let agent = test.agent();
    test.pod("p", one());
    test.cluster.until_pod("p", "ready", is_ready).await;
    agent.stop().await;
    test.runtime.reboot();
    let _agent = test.agent();
    let pod = test.cluster.until_pod("p", "ready again", |pod| is_ready(pod) && restarts(pod) == 1).await;
    let last = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 255);
    let observed = test.runtime.observe().await.unwrap();
    assert_eq!(observed.sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_overcome() {
    let test = Test::new();
    let _agent = test.agent();
    test.cluster.conflict(3);
    test.pod("p", one());
    test.cluster.until_pod("p", "ready", is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_container_is_killed_in_time_and_a_shorter_grace_counts() {
    let test = Test::new();
    let _agent = test.agent();
    test.annotated("p", one(), json!({"hollow/stop-after": "1000s"}));
    test.cluster.until_pod("p", "ready", is_ready).await;
    let start = test.env.monotonic();
    test.cluster.delete("p", 30);
    tokio::time::sleep(Duration::from_secs(10)).await;
    test.cluster.delete("p", 15);
    test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
    let took = (test.env.monotonic() - start).as_secs();
    assert!((15..17).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn probes_and_hooks_run_commands() {
    let test = Test::new();
    let _agent = test.agent();
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2});
    let spec = json!({"containers": [{"name": "c", "image": "i", "livenessProbe": probe}]});
    test.annotated("p", spec, json!({"hollow/exec-exit-code": "1"}));
    test.cluster.until_pod("p", "restarted by liveness", |pod| restarts(pod) >= 1).await;
    test.told("Unhealthy Liveness probe failed").await;
    test.told("Killing Container c failed liveness probe, will be restarted").await;
    let readiness = json!({"exec": {"command": ["check"]}, "initialDelaySeconds": 7});
    let spec = json!({"containers": [{"name": "c", "image": "i", "readinessProbe": readiness,
        "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"sleep": {"seconds": 4}}}}]});
    test.pod("q", spec);
    let start = test.env.monotonic();
    test.cluster.until_pod("q", "ready by probe", is_ready).await;
    assert_eq!((test.env.monotonic() - start).as_secs(), 7);
    test.cluster.delete("q", 30);
    let start = test.env.monotonic();
    test.cluster.until("gone", |cluster| cluster.pod("q").is_none()).await;
    assert_eq!((test.env.monotonic() - start).as_secs(), 4, "the preStop hook slept");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_rejected() {
    let test = Test::new();
    let _agent = test.agent();
    let spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1000"}}}]});
    test.pod("p", spec);
    let pod = test.cluster.until_pod("p", "failed", |pod| phase(pod) == "Failed").await;
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert!(test.is_empty().await);
    test.cluster.delete("p", 30);
    test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn the_node_registers_and_its_lease_is_renewed() {
    let test = Test::new();
    let _agent = test.agent();
    test.cluster.until("registered", |c| c.get::<Node>("", "n1").is_some()).await;
    let node = test.cluster.get::<Node>("", "n1").unwrap();
    let labels = node.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/hostname"], "n1");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let renewals = test.cluster.writes::<Lease>("n1");
    assert!((11..=14).contains(&renewals), "every ten seconds: {renewals}");
    let lease = test.cluster.get::<Lease>("kube-node-lease", "n1").unwrap();
    assert_eq!(lease.metadata.owner_references.as_ref().map(|owners| owners[0].name.clone()), Some("n1".into()));
    assert!(test.cluster.writes::<Node>("n1") <= 2, "an unchanged node is not written");
    tokio::time::sleep(Duration::from_secs(700)).await;
    let writes = test.cluster.writes::<Node>("n1");
    assert!((3..=4).contains(&writes), "but every five minutes it says that it is there: {writes}");
}

#[tokio::test(start_paused = true)]
async fn volumes_follow_tokens_labels_and_config_maps() {
    let test = Test::new();
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::builder(test.client.clone(), test.runtime.clone(), test.env.clone(), "n1")
        .network(test.network.clone())
        .folder(folder.path().join("node"))
        .start()
        .unwrap();
    test.cluster.create::<ConfigMap>(json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "one"}}));
    let sources = json!([{"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "m"}},
        {"configMap": {"name": "later", "optional": true}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]);
    let mut spec = one();
    spec["volumes"] = json!([{"name": "v", "projected": {"sources": sources}}]);
    let uid = test.pod("p", spec).metadata.uid.unwrap();
    test.cluster.until_pod("p", "ready", is_ready).await;
    let volume = folder.path().join("node/pods").join(&uid).join("volumes/v");
    let read = |name: &str| std::fs::read_to_string(volume.join(name)).unwrap_or_default();
    let becomes = async |name: &str, text: &str| {
        for _ in 0..1000 {
            if read(name) == text {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} never became {text:?} but stayed {:?}", read(name));
    };
    let token = read("token");
    assert!(token.starts_with("token-default-"), "{token}");
    assert_eq!((read("k").as_str(), read("labels").as_str()), ("one", ""));
    test.cluster.replace::<ConfigMap>("default", "m", |map| map["data"]["k"] = json!("two"));
    becomes("k", "two").await;
    test.cluster
        .create::<ConfigMap>(json!({"metadata": {"name": "later", "namespace": "default"}, "data": {"l": "x"}}));
    becomes("l", "x").await;
    test.cluster.replace::<Pod>("default", "p", |pod| pod["metadata"]["labels"] = json!({"a": "b"}));
    becomes("labels", "a=\"b\"").await;
    assert_eq!(read("token"), token, "a token is kept while it is young");
    tokio::time::sleep(Duration::from_secs(2950)).await;
    assert_ne!(read("token"), token, "and replaced before it runs out");
    test.cluster.delete("p", 1);
    test.cluster.until("gone", |cluster| cluster.pod("p").is_none()).await;
    assert!(!volume.exists());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hollow_nodes_share_an_informer_and_run_their_own_pods() {
    let env = Clock::env();
    let cluster = Cluster::new(env.clone());
    let client = Client::new(Arc::new(Wire(cluster.clone())), env.clone());
    let nodes = HollowNodes::builder(client, env.clone(), 20).start().unwrap();
    for number in 0..100 {
        let spec = json!({"nodeName": format!("hollow-{}", number % 20), "containers": [{"name": "c", "image": "i"}]});
        let meta = json!({"name": format!("p{number}"), "namespace": "default"});
        cluster.create::<Pod>(json!({"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}));
    }
    let all = |cluster: &Cluster| (0..100).all(|n| cluster.pod(&format!("p{n}")).is_some_and(|pod| is_ready(&pod)));
    cluster.until("all ready", all).await;
    let addresses: std::collections::BTreeSet<String> = (0..100)
        .map(|n| cluster.pod(&format!("p{n}")).unwrap().status.as_ref().unwrap().pod_ip.clone().unwrap())
        .collect();
    assert_eq!(addresses.len(), 100, "every pod has an address of its own");
    cluster.until("nodes are there", |c| (0..20).all(|n| c.get::<Node>("", &format!("hollow-{n}")).is_some())).await;
    nodes.stop().await;
}
