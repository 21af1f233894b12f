//! The agent over real containers: volumes, variables, probes, hooks and logs as programs inside see them. Needs root.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

#[path = "agent/cluster.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod cluster;
#[path = "support/registry_server.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod registry_server;
mod support;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use cluster::{Cluster, Wire};
use futures::StreamExt;
use k8s_core::seam::node::{NodeAddress, NodeDialer};
use k8s_core::{
    api::api::core::v1::{ConfigMap, Pod, Secret, Service},
    env::Env,
};
use k8s_node::{
    agent::{Agent, CounterNetwork, ImageLimits, LogLimits},
    image::{
        ImageSource,
        archive::{ImageBuilder, Layer},
        registry::{Registries, RegistrySettings},
    },
    runtime::{ContainerState, ImagePull, LogOptions, PodRuntime},
    server::{Callers, InProcessDialer, NodeServer},
};
use k8s_reconcile::Client;
use k8s_wire::{
    body,
    client::Dialer,
    env::System,
    http1::{self, Answer},
    pki::{Authority, Identity, certificates},
    serve::CancellationToken,
    tls::{self, ServerTrust},
    websocket::{self, Frame, Subprotocol},
};
use registry_server::{Auth, Registry};
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
        Self::start_with(None).await
    }

    async fn start_with(images: Option<Arc<dyn ImageSource>>) -> Self {
        let mut node = support::Node::start_with(images).await;
        let runtime = Arc::new(node.runtime.take().unwrap());
        let env = System::current();
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
    test.cluster
        .create::<ConfigMap>(json!({"metadata": {"name": "conf", "namespace": "default"}, "data": {"key": "one"}}));
    test.cluster
        .create::<Secret>(json!({"metadata": {"name": "sec", "namespace": "default"}, "data": {"pw": "aHVudGVyMg=="}}));
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
    test.pod(
        "p",
        script,
        json!({"env": env, "volumeMounts": mounts}),
        json!({"volumes": volumes, "initContainers": init,
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["alias"]}]}),
    );
    test.ready("p").await;
    let log = test.logged("c", "end\n").await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["from-init", "onehunter2"]);
    assert_eq!(lines[2], "app=\"web\"");
    assert!(lines[3].starts_with("token-default-"), "{log}");
    assert_eq!(
        lines[4..],
        ["hunter2@10.96.0.1:443", "one", "x", "tmpfs", "1.2.3.4\talias", "read-only", "end"],
        "{log}"
    );
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
    assert!(
        wait.iter()
            .any(|event| event.starts_with("Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 404")),
        "{wait:#?}"
    );
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
async fn an_image_of_a_registry_is_pulled_with_the_pods_secret() {
    let registries = Registries::new(System::current(), RegistrySettings::default());
    let test = Test::start_with(Some(Arc::new(registries))).await;
    let registry = Registry::start().await;
    registry.require(Auth::Token);
    let program = std::fs::read("/bin/busybox").unwrap();
    registry.push("team/app", "latest", &ImageBuilder::busybox("any", &program).gzip());
    let image = registry.name("team/app");
    let agent = test.agent();
    let config = json!({"auths": {registry.address.to_string(): {"username": "user", "password": "pass"}}}).to_string();
    let more = json!({"image": image, "imagePullPolicy": "Always"});
    let spec = json!({"imagePullSecrets": [{"name": "pull"}, {"name": "missing"}]});
    test.pod("p", "echo ran; exec sleep 1000", more, spec);
    let refused = |pod: &Pod| {
        let waiting = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref()?[0].state.as_ref()?.waiting.clone());
        waiting.is_some_and(|waiting| {
            waiting.reason.as_deref() == Some("ErrImagePull") && waiting.message.unwrap_or_default().contains("401")
        })
    };
    support::within(test.cluster.until_pod("p", "refused", refused)).await;
    let secret = json!({"metadata": {"name": "pull", "namespace": "default"}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": BASE64.encode(config)}});
    test.cluster.create::<Secret>(secret);
    let pod = test.ready("p").await;
    test.logged("c", "ran").await;
    assert!(status(&pod).image_id.starts_with(&format!("{image}@sha256:")), "{}", status(&pod).image_id);
    let told = |events: &[String], text: &str| events.iter().filter(|event| event.contains(text)).count();
    let pulled = format!("Pulled Successfully pulled image \"{image}\" in ");
    support::within(test.cluster.until("told", |cluster| told(&cluster.events(), &pulled) == 1)).await;
    let events = test.cluster.events();
    assert_eq!(
        told(&events, "FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (pull, missing)"),
        1
    );
    assert!(told(&events, &format!("Pulling Pulling image \"{image}\"")) > 0, "{events:#?}");
    assert_eq!(told(&events, "including waiting). Image size: "), 1, "{events:#?}");
    test.gone("p", agent).await;
}

#[tokio::test]
async fn unused_images_go_when_the_disk_fills_up() {
    let registries = Registries::new(System::current(), RegistrySettings::default());
    let test = Test::start_with(Some(Arc::new(registries))).await;
    let registry = Registry::start().await;
    let program = std::fs::read("/bin/busybox").unwrap();
    for (name, layer) in [("used", "a"), ("unused", "b")] {
        let image = ImageBuilder::busybox("any", &program).layer(Layer::new().file(layer, b"", 0o644));
        registry.push(name, "1", &image.gzip());
    }
    // Every disk is full for these.
    let limits = ImageLimits {
        high_percent: 0,
        low_percent: 0,
        min_age: Duration::from_secs(3),
        every: Duration::from_millis(100),
    };
    let agent = Agent::builder(test.client.clone(), test.runtime.clone(), test.env.clone(), "n1")
        .folder(test.node.folder.path().join("agent"))
        .addresses(vec!["127.0.0.1".parse().unwrap()])
        .image_limits(limits)
        .start()
        .unwrap();
    let reference = registry.name("unused:1");
    let pull = ImagePull { reference: reference.clone(), ..ImagePull::default() };
    test.runtime.pull_image(pull).await.unwrap();
    let more = json!({"image": registry.name("used:1"), "imagePullPolicy": "IfNotPresent"});
    test.pod("p", "exec sleep 1000", more, json!({}));
    test.ready("p").await;
    assert!(test.runtime.image_status(&reference).await.unwrap().is_some(), "it is young");
    let gone = async {
        while test.runtime.image_status(&reference).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    support::within(gone).await;
    // The one that was imported, and the one that runs.
    let names: Vec<_> = test.runtime.images().await.unwrap().into_iter().flat_map(|image| image.names).collect();
    assert!(names.len() == 2 && names.contains(&registry.name("used:1")), "{names:?}");
    test.gone("p", agent).await;
}

#[tokio::test]
async fn logs_are_rotated_and_no_line_is_lost_or_shown_twice() {
    let test = Test::start().await;
    let limits = LogLimits { max_size_bytes: 20_000, max_files: 3, every: Duration::from_millis(400) };
    let agent = Agent::builder(test.client.clone(), test.runtime.clone(), test.env.clone(), "n1")
        .folder(test.node.folder.path().join("agent"))
        .addresses(vec!["127.0.0.1".parse().unwrap()])
        .log_limits(limits)
        .start()
        .unwrap();
    // Some ten thousand lines in a few seconds, and one after the end of the flood.
    let script = "i=0; while [ $i -lt 40 ]; do seq $((i * 250 + 1)) $((i * 250 + 250)); i=$((i + 1)); sleep 0.1; done; \
        until [ -e /tmp/go ]; do sleep 0.05; done; echo last; exec sleep 1000";
    test.pod("p", script, json!({}), json!({}));
    test.ready("p").await;
    let id = test.runtime.observe().await.unwrap().containers[0].id.clone();
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut follower = test.runtime.logs().unwrap().read(&id, options).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\n10000\n") {
        text += std::str::from_utf8(&support::within(follower.next()).await.unwrap().unwrap()).unwrap();
    }
    let expected: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    assert!(text == expected, "lines were lost or came twice: {} bytes of {}", text.len(), expected.len());
    let path = test.runtime.observe().await.unwrap().containers[0].log_path.clone().unwrap();
    // The last rotation may still be to come.
    let calm = async {
        while std::fs::metadata(&path).is_ok_and(|found| found.len() >= limits.max_size_bytes) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    support::within(calm).await;
    let kept = k8s_node::logs::rotated(&path).unwrap();
    assert_eq!(kept.len() + 1, limits.max_files, "{kept:?}");
    // What is kept is shown, from the first line that is kept to the last.
    let shown = test.log("c").await;
    assert!(expected.ends_with(&shown) && shown.len() > 5_000, "{} bytes", shown.len());
    let ask = Ask::new(&test, &agent);
    let (_, tail) = ask.get("/containerLogs/default/p/c?tailLines=2").await;
    assert_eq!(tail, "9999\n10000\n");
    let (_, _, done) = ask.exec("command=touch&command=/tmp/go&output=1", None).await;
    assert_eq!(done["status"], "Success");
    assert_eq!(support::within(follower.next()).await.unwrap().unwrap(), "last\n");
    drop(follower);
    test.gone("p", agent).await;
}

/// A connection to a port of a pod by channels: sends, and reads until what was wanted came.
async fn forwarded(ask: &Ask<'_>, port: u16, said: &str, wanted: &str) -> String {
    let request = http::Request::get(format!("/portForward/default/p?port={port}")).header("host", "n1");
    let request = request.body(body::empty()).unwrap();
    let channels = websocket::connect(&ask.test.env, ask.stream().await, request, &[Subprotocol::V4]).await.unwrap();
    let (sender, mut receiver) = (channels.sender, channels.receiver);
    sender.send(0, said.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains(wanted) {
        let Frame::Data { channel, bytes } = support::within(receiver.next()).await.expect(&text).unwrap() else {
            continue;
        };
        // Each channel begins with the port that it is about.
        if bytes[..] != port.to_le_bytes() {
            text += &format!("{channel}:{}", String::from_utf8_lossy(&bytes));
        }
    }
    text
}

#[tokio::test]
async fn ports_of_pods_are_reached_in_their_own_network_and_in_the_machines() {
    let test = Test::start().await;
    let agent = Agent::builder(test.client.clone(), test.runtime.clone(), test.env.clone(), "n1")
        .folder(test.node.folder.path().join("agent"))
        .addresses(vec!["127.0.0.1".parse().unwrap()])
        .network(Arc::new(CounterNetwork::of_node(1)))
        .start()
        .unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for host_network in [false, true] {
        let port = free();
        let script = format!(
            "mkdir -p /www; echo it is $HOSTNAME > /www/index.html; echo up; exec httpd -f -p 127.0.0.1:{port} -h /www"
        );
        let probe =
            json!({"exec": {"command": ["sh", "-c", format!("nc 127.0.0.1 {port} < /dev/null")]}, "periodSeconds": 1});
        test.pod("p", &script, json!({"readinessProbe": probe}), json!({"hostNetwork": host_network}));
        test.ready("p").await;
        let ask = Ask::new(&test, &agent);
        let answer = forwarded(&ask, port, "GET / HTTP/1.0\r\n\r\n", "it is ").await;
        assert!(answer.starts_with("0:HTTP/1.") && answer.contains("200 OK"), "{answer}");
        assert_eq!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), host_network, "it is where it should be");
        let refused = forwarded(&ask, free(), "", "refused").await;
        assert!(refused.starts_with("1:") && refused.contains("Connection refused"), "{refused}");
        assert_eq!(ask.get(&format!("/portForward/default/none?port={port}")).await.0, 404);
        assert_eq!(ask.get("/portForward/default/p?port=0").await.0, 400);
        assert_eq!(ask.get(&format!("/portForward/default/p?port={port}")).await.0, 400, "a plain GET is no upgrade");
        test.cluster.delete("p", 1);
        support::within(test.cluster.until("gone", |cluster| cluster.pod("p").is_none())).await;
    }
    test.pod("p", "exec sleep 1000", json!({}), json!({}));
    test.ready("p").await;
    test.gone("p", agent).await;
}

/// One question to the node's own server, in process.
struct Ask<'a> {
    test: &'a Test,
    dialer: InProcessDialer,
}

impl<'a> Ask<'a> {
    fn new(test: &'a Test, agent: &Agent) -> Self {
        let dialer = InProcessDialer::new(None);
        dialer.add(agent);
        Self { test, dialer }
    }

    async fn stream(&self) -> Box<dyn k8s_core::seam::node::ByteStream> {
        let address = NodeAddress { name: "n1".into(), host: "127.0.0.1".into(), port: 10250 };
        self.dialer.dial(&address).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let request = http::Request::get(path).header("host", "n1").body(body::empty()).unwrap();
        let answer = http1::exchange(&self.test.env, self.stream().await, request).await.unwrap();
        let Answer::Response(response) = answer else { panic!("{path} was upgraded") };
        let code = response.status().as_u16();
        let text = body::read(response.into_body(), 1 << 20).await.unwrap();
        (code, String::from_utf8(text.to_vec()).unwrap())
    }

    /// Runs a command; answers output, error output and status. `input` is sent, then ended.
    async fn exec(&self, query: &str, input: Option<&str>) -> (String, String, Value) {
        let path = format!("/exec/default/p/c?{query}");
        let request = http::Request::get(path).header("host", "n1").body(body::empty()).unwrap();
        let channels =
            websocket::connect(&self.test.env, self.stream().await, request, &[Subprotocol::V5]).await.unwrap();
        let (sender, mut receiver) = (channels.sender, channels.receiver);
        if let Some(input) = input {
            sender.send(websocket::STDIN, input.as_bytes()).await.unwrap();
            sender.end(websocket::STDIN).await.unwrap();
        }
        sender.send(websocket::RESIZE, br#"{"Width":101,"Height":33}"#).await.unwrap();
        let (mut out, mut err, mut status) = (String::new(), String::new(), Value::Null);
        while let Some(frame) = support::within(receiver.next()).await {
            let Frame::Data { channel, bytes } = frame.unwrap() else { continue };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match channel {
                websocket::STDOUT => out += &text,
                websocket::STDERR => err += &text,
                websocket::ERROR => status = serde_json::from_str(&text).unwrap(),
                other => panic!("channel {other}"),
            }
        }
        (out, err, status)
    }
}

#[tokio::test]
async fn logs_and_commands_reach_containers() {
    let test = Test::start().await;
    let agent = test.agent();
    let script = "for i in 1 2 3; do echo line $i; done; echo oops >&2; read x; echo got $x; exec sleep 1000";
    test.pod("p", script, json!({"stdin": true, "stdinOnce": true}), json!({}));
    test.ready("p").await;
    test.logged("c", "oops").await;
    let ask = Ask::new(&test, &agent);
    let log = |query: &str| format!("/containerLogs/default/p/c{query}");
    assert_eq!(ask.get(&log("?stream=Stdout")).await, (200, "line 1\nline 2\nline 3\n".into()));
    assert_eq!(ask.get(&log("?tailLines=1")).await, (200, "oops\n".into()));
    assert_eq!(ask.get(&log("?stream=Stdout&tailLines=1")).await.0, 400);
    assert_eq!(ask.get(&log("?stream=Stdout&limitBytes=8")).await, (200, "line 1\nl".into()));
    let (_, stamped) = ask.get(&log("?stream=Stderr&timestamps=true&sinceSeconds=600")).await;
    assert!(stamped.ends_with("Z oops\n") && stamped.starts_with("20"), "{stamped}");
    assert_eq!(ask.get(&log("?previous=true")).await.0, 400);
    assert_eq!(ask.get("/containerLogs/default/none/c").await, (404, "pods \"none\" not found".into()));
    assert_eq!(ask.get("/nonsense").await.0, 404);
    assert_eq!(ask.get("/healthz").await, (200, "ok".into()));
    let (_, pods) = ask.get("/pods").await;
    assert_eq!(serde_json::from_str::<Value>(&pods).unwrap()["items"][0]["metadata"]["name"], "p");
    let (_, stats) = ask.get("/stats/summary").await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["pods"][0]["containers"][0]["memory"]["usageBytes"].as_u64().unwrap() > 0, "{stats}");

    let escape =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let command =
        |script: &str| format!("command=sh&command=-c&command={}", script.bytes().map(escape).collect::<String>());
    let both = "&output=1&error=1";
    let (out, err, status) = ask.exec(&(command("echo hi; echo no >&2; exit 7") + both), None).await;
    assert_eq!((out.as_str(), err.as_str()), ("hi\n", "no\n"));
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    let (out, _, status) = ask.exec("command=cat&input=1&output=1", Some("half\nclosed")).await;
    assert_eq!((out.as_str(), status["status"].as_str()), ("half\nclosed", Some("Success")));
    let (out, _, _) = ask.exec(&(command("sleep 0.3; stty size") + "&tty=1&output=1&input=1"), None).await;
    assert_eq!(out.trim(), "33 101");
    let (_, _, status) = ask.exec("command=nonsense&output=1", None).await;
    assert_eq!(status["status"], "Failure");
    assert_eq!(ask.get("/exec/default/p/c?command=true&output=1").await.0, 400, "a plain GET is no upgrade");

    let path = "/attach/default/p/c?input=1&output=1";
    let request = http::Request::get(path).header("host", "n1").body(body::empty()).unwrap();
    let channels = websocket::connect(&test.env, ask.stream().await, request, &[Subprotocol::V4]).await.unwrap();
    channels.sender.send(websocket::STDIN, b"me\n").await.unwrap();
    test.logged("c", "got me").await;
    drop(channels);
    test.gone("p", agent).await;
}

#[tokio::test]
async fn only_the_api_server_may_use_the_port() {
    let test = Test::start().await;
    let agent = test.agent();
    let authority = Authority::generate("ca", test.env.now()).unwrap();
    let stranger = Authority::generate("other", test.env.now()).unwrap();
    let hosts = ["127.0.0.1".to_owned()];
    let identity = authority.issue_server("n1", &hosts, test.env.now()).unwrap();
    let roots = certificates("ca", authority.certificate_pem().as_bytes()).unwrap();
    let config = tls::server(&test.env, &identity, Some(&roots)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let server = NodeServer::new(&agent, Callers::Users(vec!["api".into()]));
    let serving = tokio::spawn(server.serve(listener, config, stop.clone()));
    let ask = async |identity: Option<&Identity>| -> Option<u16> {
        let dialer = Dialer::new(test.env.clone(), ServerTrust::Authorities(&roots), identity).unwrap();
        let stream = dialer.dial("127.0.0.1", port, "127.0.0.1").await.ok()?;
        let request = http::Request::get("/pods").header("host", "n1").body(body::empty()).unwrap();
        match http1::exchange(&test.env, stream, request).await.ok()? {
            Answer::Response(response) => Some(response.status().as_u16()),
            Answer::Upgraded { .. } => None,
        }
    };
    let issue = |authority: &Authority, name: &str| authority.issue_client(name, &[], test.env.now()).unwrap();
    assert_eq!(ask(Some(&issue(&authority, "api"))).await, Some(200));
    assert_eq!(ask(Some(&issue(&authority, "system:node:n2"))).await, Some(403));
    assert_eq!(ask(None).await, Some(401));
    assert_eq!(ask(Some(&issue(&stranger, "api"))).await, None, "the handshake fails");
    stop.cancel();
    serving.await.unwrap();
    test.pod("p", "exec sleep 1000", json!({}), json!({}));
    test.ready("p").await;
    test.gone("p", agent).await;
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let test = Test::start().await;
    let agent = test.agent();
    let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]);
    test.pod("claim", "true", json!({}), json!({"volumes": claim}));
    let git = json!([{"name": "v", "gitRepo": {"repository": "https://example.com/x"}}]);
    test.pod("git", "true", json!({}), json!({"volumes": git}));
    test.pod("command", "true", json!({"command": ["nonsense"]}), json!({}));
    test.pod("image", "true", json!({"image": "not/here:1"}), json!({}));
    test.pod("config", "true", json!({"envFrom": [{"configMapRef": {"name": "none"}}]}), json!({}));
    test.pod("network", "true", json!({}), json!({"hostNetwork": false}));
    let expected = [
        "FailedMount MountVolume.SetUp failed for volume \"v\" : volumes of kind persistentVolumeClaim are not supported",
        "FailedMount MountVolume.SetUp failed for volume \"v\" : volumes of kind gitRepo are not supported",
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
    for name in ["claim", "git", "command", "image", "config"] {
        test.cluster.delete(name, 1);
        test.cluster.until("gone", |cluster| cluster.pod(name).is_none()).await;
    }
    test.gone("network", agent).await;
}
