//! The agent over real containers: volumes, variables, probes, hooks and logs as programs inside see them. Needs root.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

#[path = "agent/cluster.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod cluster;
mod support;

use std::{sync::Arc, time::Duration};

use cluster::{Cluster, Wire};
use futures::StreamExt;
use k8s_core::{
    api::api::core::v1::{ConfigMap, Pod, Secret, Service},
    env::Env,
};
use k8s_node::{
    agent::Agent,
    runtime::{ContainerState, LogOptions, PodRuntime},
};
use k8s_reconcile::Client;
use serde_json::{Value, json};

struct Test {
    node: support::Node,
    runtime: Arc<k8s_node::native::Native>,
    env: Env,
    cluster: Arc<Cluster>,
    client: Client,
}

impl Test {
    async fn start() -> Self {
        let mut node = support::Node::start().await;
        let runtime = Arc::new(node.runtime.take().unwrap());
        let env = k8s_wire::env::System::current();
        let cluster = Cluster::new(env.clone());
        let client = Client::new(Arc::new(Wire(cluster.clone())), env.clone());
        Self { node, runtime, env, cluster, client }
    }

    fn agent(&self) -> Agent {
        Agent::builder(self.client.clone(), self.runtime.clone(), self.env.clone(), "n1")
            .folder(self.node.folder.path().join("agent"))
            .addresses(vec!["127.0.0.1".parse().unwrap()])
            .start()
            .unwrap()
    }

    /// A pod on the host's network that runs `script` in `c`; `more` is added to the container, `spec` to the pod.
    fn pod(&self, name: &str, script: &str, more: Value, spec: Value) {
        let mut container = json!({"name": "c", "image": support::IMAGE, "command": ["sh", "-c", script]});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut full = json!({"nodeName": "n1", "hostNetwork": true, "containers": [container],
            "serviceAccountName": "default", "terminationGracePeriodSeconds": 2});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let meta = json!({"name": name, "namespace": "default", "labels": {"app": "web"}});
        self.cluster.create::<Pod>(json!({"metadata": meta, "spec": full, "status": {"phase": "Pending"}}));
    }

    /// The log of the newest instance of a container of the only pod.
    async fn log(&self, container: &str) -> String {
        let observed = self.runtime.observe().await.unwrap();
        let newest = observed.containers.iter().filter(|c| c.name == container).max_by_key(|c| c.attempt).unwrap();
        let mut reader = self.runtime.logs().unwrap().read(&newest.id, LogOptions::default()).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = reader.next().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// Waits until the log holds something.
    async fn logged(&self, container: &str, text: &str) -> String {
        let wait = async {
            loop {
                let log = self.log(container).await;
                if log.contains(text) {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(log) => log,
            Err(_) => panic!("never logged {text:?}: {}\n{:#?}", self.log(container).await, self.cluster.events()),
        }
    }

    async fn ready(&self, name: &str) -> Arc<Pod> {
        let is_ready = |pod: &Pod| condition(pod, "Ready");
        let wait = self.cluster.until_pod(name, "ready", is_ready);
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(pod) => pod,
            Err(_) => panic!("never ready: {:?}\n{:#?}", self.cluster.pod(name), self.cluster.events()),
        }
    }

    /// Deletes the pod and checks that nothing of it stays.
    async fn gone(mut self, name: &str, agent: Agent) {
        self.cluster.delete(name, 2);
        let gone = self.cluster.until("gone", |cluster| cluster.pod(name).is_none());
        if tokio::time::timeout(Duration::from_secs(20), gone).await.is_err() {
            panic!("not gone: {:?}\n{:#?}", self.cluster.pod(name), self.cluster.events());
        }
        let observed = self.runtime.observe().await.unwrap();
        assert!(observed.sandboxes.is_empty() && observed.containers.is_empty());
        let left = |part: &str| std::fs::read_dir(self.node.folder.path().join("agent").join(part)).unwrap().count();
        assert_eq!((left("pods"), left("logs")), (0, 0), "volumes and logs are gone");
        agent.stop().await;
        let Ok(runtime) = Arc::try_unwrap(self.runtime) else { panic!("a stopped agent holds on to its runtime") };
        self.node.runtime = Some(runtime);
        self.node.finish().await;
    }
}

fn condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn status(pod: &Pod) -> &k8s_core::api::api::core::v1::ContainerStatus {
    &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0]
}

#[tokio::test]
async fn a_container_sees_its_volumes_variables_and_files() {
    let test = Test::start().await;
    let agent = test.agent();
    test.cluster.create::<ConfigMap>(json!({"metadata": {"name": "conf", "namespace": "default"}, "data": {"key": "one"}}));
    test.cluster.create::<Secret>(json!({"metadata": {"name": "sec", "namespace": "default"}, "data": {"pw": "aHVudGVyMg=="}}));
    test.cluster.create::<Service>(json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}));
    let volumes = json!([
        {"name": "data", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}},
        {"name": "conf", "configMap": {"name": "conf"}}, {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "all", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]);
    let mounts = json!([
        {"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/sub", "subPath": "a/b"},
        {"name": "mem", "mountPath": "/mem"}, {"name": "conf", "mountPath": "/conf"}, {"name": "sec", "mountPath": "/sec"},
        {"name": "all", "mountPath": "/all"}, {"name": "conf", "mountPath": "/etc/one", "subPath": "key"}]);
    let env = json!([{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
        {"name": "WHO", "value": "$(PW)@$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"}]);
    let init = json!([{"name": "i", "image": support::IMAGE, "command": ["sh", "-c", "echo from-init > /data/init"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]);
    let script = "cat /data/init /conf/key /sec/pw; echo; cat /all/labels; echo; cat /all/token; echo; echo $WHO; cat /etc/one; echo;\
        echo x > /sub/f; cat /data/a/b/f; echo y > /mem/f; grep ' /mem ' /proc/mounts | cut -d' ' -f3; grep alias /etc/hosts; \
        (echo no > /conf/key) 2>/dev/null || echo read-only; echo end; \
        until grep -q two /conf/key; do sleep 0.1; done; echo updated; exec sleep 1000";
    test.pod("p", script, json!({"env": env, "volumeMounts": mounts}), json!({"volumes": volumes, "initContainers": init,
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["alias"]}]}));
    test.ready("p").await;
    let log = test.logged("c", "end\n").await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["from-init", "onehunter2"]);
    assert_eq!(lines[2], "app=\"web\"");
    assert!(lines[3].starts_with("token-default-"), "{log}");
    assert_eq!(lines[4..], ["hunter2@10.96.0.1:443", "one", "x", "tmpfs", "1.2.3.4\talias", "read-only", "end"], "{log}");
    test.cluster.replace::<ConfigMap>("default", "conf", |map| map["data"]["key"] = json!("two"));
    test.logged("c", "updated").await;
    test.gone("p", agent).await;
}

#[tokio::test]
async fn probes_hooks_and_termination_messages_work() {
    let test = Test::start().await;
    let agent = test.agent();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = json!({"httpGet": {"path": "/ok", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1});
    let more = json!({
        "ports": [{"name": "web", "containerPort": port}],
        "startupProbe": {"exec": {"command": ["test", "-f", "/tmp/started"]}, "periodSeconds": 1},
        "readinessProbe": http, "livenessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "lifecycle": {"postStart": {"exec": {"command": ["touch", "/tmp/started"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo bye > /proc/1/fd/1"]}}}});
    let script = format!(
        "mkdir -p /www /tmp; test -f /www/fail || echo fine > /www/ok; httpd -p 127.0.0.1:{port} -h /www; \
         trap 'echo last words > /dev/termination-log; exit 3' TERM; while true; do sleep 0.1; done"
    );
    test.pod("p", &script, more, json!({}));
    let pod = test.ready("p").await;
    assert_eq!(status(&pod).started, Some(true));
    assert_eq!(pod.status.as_ref().unwrap().pod_ip.as_deref(), Some("127.0.0.1"));
    let id = status(&pod).container_id.clone().unwrap();
    let id = id.strip_prefix("native://").expect("the runtime's name comes first");
    let exec = test.runtime.exec().unwrap();
    let command = ["rm", "/www/ok"].map(str::to_owned).into();
    k8s_node::runtime::run_to_end(exec, &*test.env, id, command, Duration::from_secs(5), 100).await.unwrap();
    test.cluster.until_pod("p", "not ready", |pod| !condition(pod, "Ready")).await;
    assert_eq!(status(&test.cluster.pod("p").unwrap()).restart_count, 0, "readiness does not restart");
    test.runtime.kill_container(id, 15).await.unwrap();
    let pod = test.cluster.until_pod("p", "restarted", |pod| status(pod).restart_count == 1).await;
    let ended = status(&pod).last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.message.as_deref()), (3, Some("last words\n")));
    test.ready("p").await;
    let wait = test.cluster.events();
    assert!(wait.iter().any(|event| event.starts_with("Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 404")), "{wait:#?}");
    test.gone("p", agent).await;
}

#[tokio::test]
async fn containers_outlive_the_agent_and_are_taken_over() {
    let test = Test::start().await;
    let agent = test.agent();
    test.pod("p", "echo started; exec sleep 1000", json!({}), json!({}));
    test.ready("p").await;
    let running = async |test: &Test| {
        let observed = test.runtime.observe().await.unwrap();
        let pid = |state: &ContainerState| match state {
            ContainerState::Running { pid, .. } => *pid,
            _ => None,
        };
        observed.containers.iter().map(|c| (c.id.clone(), pid(&c.state))).collect::<Vec<_>>()
    };
    let before = running(&test).await;
    agent.stop().await;
    let agent = test.agent();
    // The new agent is at work once it has registered what is there: a second pod tells.
    test.pod("q", "exec sleep 1000", json!({}), json!({}));
    test.ready("q").await;
    let after = running(&test).await;
    assert!(before.iter().all(|container| after.contains(container)), "{before:?} {after:?}");
    assert_eq!(status(&test.cluster.pod("p").unwrap()).restart_count, 0);
    test.cluster.delete("q", 1);
    test.cluster.until("gone", |cluster| cluster.pod("q").is_none()).await;
    test.gone("p", agent).await;
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let test = Test::start().await;
    let agent = test.agent();
    let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]);
    test.pod("claim", "true", json!({}), json!({"volumes": claim}));
    test.pod("command", "true", json!({"command": ["nonsense"]}), json!({}));
    test.pod("image", "true", json!({"image": "not/here:1"}), json!({}));
    test.pod("config", "true", json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), json!({}));
    test.pod("network", "true", json!({}), json!({"hostNetwork": false}));
    let expected = [
        "FailedMount MountVolume.SetUp failed for volume \"v\" : volumes of kind persistentVolumeClaim are not supported",
        "Failed Error: exec: \"nonsense\"",
        "Failed Failed to pull image \"not/here:1\"",
        "Failed Error: configmap \"none\" not found",
        "FailedCreatePodSandBox Failed to create pod sandbox: pod network: this node has no pod network",
    ];
    for text in expected {
        let told = test.cluster.until(text, |cluster| cluster.events().iter().any(|event| event.starts_with(text)));
        if tokio::time::timeout(Duration::from_secs(20), told).await.is_err() {
            panic!("never told: {text}\n{:#?}", test.cluster.events());
        }
    }
    for name in ["claim", "command", "image", "config"] {
        test.cluster.delete(name, 1);
        test.cluster.until("gone", |cluster| cluster.pod(name).is_none()).await;
    }
    test.gone("network", agent).await;
}
