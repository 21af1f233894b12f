//! Protobuf the whole way: a cluster with a node, asked over HTTPS and inside the process, read by `protoc` with
//! messages described beside this file.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use futures::StreamExt;
use http::{Request, header};
use http_body_util::BodyExt;
use k8s::{
    prelude::{
        types::{apps::v1::Deployment, core::v1::Pod},
        *,
    },
    wire::{
        body, pki,
        pki::Identity,
        serve::Peer,
        tls::{self, ServerTrust},
    },
};
use serde_json::json;
use tower::ServiceExt;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn web() -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{
                "name": "web",
                "image": "web:1",
                "ports": [{"name": "http", "containerPort": 80}],
                "resources": {"requests": {"memory": "64Mi", "cpu": "100m"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}}
            }]}}},
    }))
    .unwrap()
}

/// What `protoc` makes of a message; the magic bytes of an envelope are taken off before.
fn read(message: &str, bytes: &[u8]) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protobuf");
    let mut protoc = Command::new("protoc")
        .args([&format!("--decode={message}"), "--proto_path", folder, "kubernetes.proto"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("protoc is there: ./test.sh setup");
    let bytes = if message.ends_with("Envelope") { bytes.strip_prefix(b"k8s\0").unwrap() } else { bytes };
    protoc.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = protoc.wait_with_output().unwrap();
    assert!(output.status.success(), "{message}");
    String::from_utf8(output.stdout).unwrap()
}

/// Who asks, and the two ways to do it.
struct Asker {
    cluster: Cluster,
    identity: Identity,
    https: reqwest::Client,
}

impl Asker {
    fn new(cluster: Cluster) -> Self {
        let identity = cluster.credentials().client("someone", &["system:masters"]).unwrap();
        let authorities = pki::certificates("authority", cluster.credentials().ca_pem().as_bytes()).unwrap();
        let trust = ServerTrust::Authorities(&authorities);
        let tls = tls::client(cluster.env(), trust, Some(&identity), tls::API_PROTOCOLS).unwrap();
        let https = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        Self { cluster, identity, https }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.cluster.address().unwrap())
    }

    async fn over_https(&self, path: &str) -> Vec<u8> {
        let response = self.https.get(self.url(path)).header("accept", PROTOBUF).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], PROTOBUF);
        response.bytes().await.unwrap().to_vec()
    }

    async fn post(&self, path: &str, json: serde_json::Value) -> Vec<u8> {
        let post =
            self.https.post(self.url(path)).header("accept", PROTOBUF).header("content-type", "application/json");
        let response = post.body(json.to_string()).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], PROTOBUF);
        response.bytes().await.unwrap().to_vec()
    }

    async fn inside(&self, path: &str) -> Vec<u8> {
        let certificates = self.identity.certificates().unwrap();
        let peer = Arc::new(Peer { certificates, ..Peer::default() });
        let request = Request::get(path).header(header::ACCEPT, PROTOBUF).extension(peer).body(body::empty()).unwrap();
        let response = self.cluster.control_plane().outer.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], PROTOBUF);
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    /// The first events of a watch over HTTPS: what `protoc` reads of each frame, and the object's envelope.
    async fn watched(&self, path: &str, count: usize) -> Vec<(String, Vec<u8>)> {
        let accept = format!("{PROTOBUF};stream=watch");
        let response = self.https.get(self.url(path)).header("accept", &accept).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], accept.as_str());
        let (mut chunks, mut kept, mut events) = (response.bytes_stream(), Vec::new(), Vec::new());
        while events.len() < count {
            let framed = kept
                .split_first_chunk::<4>()
                .map(|(head, rest): (&[u8; 4], &[u8])| (u32::from_be_bytes(*head) as usize, rest));
            match framed {
                Some((length, rest)) if rest.len() >= length => {
                    let frame = &rest[..length];
                    let envelope = frame.windows(4).position(|window| window == b"k8s\0").unwrap();
                    events.push((read("WatchEvent", frame), frame[envelope..].to_vec()));
                    kept.drain(..4 + length);
                }
                _ => kept.extend_from_slice(&chunks.next().await.unwrap().unwrap()),
            }
        }
        events
    }
}

async fn with_pods() -> Asker {
    let cluster = Cluster::builder().hollow_nodes(1).listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    cluster.client().namespaced::<Deployment>("default").create(web()).await.unwrap();
    let pods = cluster.client().informer::<Pod>(InformerScope::all());
    let is_running = |pod: &Stored<Pod>| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    pods.wait_until(|pods| pods.iter().filter(|pod| is_running(pod)).count() == 2).await;
    Asker::new(cluster)
}

fn assert_says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|said| said.trim() == *line), "no {line:?} in\n{text}");
    }
}

#[tokio::test]
async fn protoc_reads_what_a_cluster_says() {
    let asker = with_pods().await;
    let over_https = read("PodListEnvelope", &asker.over_https(PODS).await);
    let inside = read("PodListEnvelope", &asker.inside(PODS).await);
    for text in [&over_https, &inside] {
        assert_eq!(text.matches("items {").count(), 2, "{text}");
        assert_says(text, &["kind: \"PodList\"", "phase: \"Running\"", "image: \"web:1\"", "containerPort: 80"]);
        assert_says(text, &["key: \"memory\"", "string: \"64Mi\"", "string: \"100m\"", "strVal: \"http\""]);
        assert_says(text, &["terminationGracePeriodSeconds: 30", "periodSeconds: 10", "protocol: \"TCP\""]);
        let unknown = text.lines().find(|line| line.trim_start().starts_with("contentType"));
        assert_eq!(unknown, Some("contentType: \"\""), "the envelope ends as upstream's");
    }
    let scale =
        read("ScaleEnvelope", &asker.over_https("/apis/apps/v1/namespaces/default/deployments/web/scale").await);
    assert_says(&scale, &["kind: \"Scale\"", "replicas: 2", "selector: \"app=web\""]);
    let missing = read("StatusEnvelope", &asker.inside(&format!("{PODS}/none")).await);
    assert_says(&missing, &["reason: \"NotFound\"", "code: 404"]);
    asker.cluster.stop().await;
}

#[tokio::test]
async fn protoc_reads_a_watch_and_what_is_made() {
    let asker = with_pods().await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let events = asker.watched(&format!("{PODS}?{query}"), 3).await;
    let names = ["ADDED", "ADDED", "BOOKMARK"];
    for ((event, object), name) in events.iter().zip(names) {
        assert_says(event, &[&format!("type: \"{name}\"")]);
        assert_says(&read("PodEnvelope", object), &["kind: \"Pod\""]);
    }
    assert_says(&read("PodEnvelope", &events[2].1), &["key: \"k8s.io/initial-events-end\""]);
    let pod = read("PodEnvelope", &events[0].1);
    let name = pod.lines().find_map(|line| line.trim().strip_prefix("name: \"web-")).unwrap().trim_end_matches('"');

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": format!("web-{name}")}});
    let evicted = asker.post(&format!("{PODS}/web-{name}/eviction"), eviction).await;
    assert_says(&read("StatusEnvelope", &evicted), &["status: \"Success\"", "code: 201"]);
    let token = asker.post("/api/v1/namespaces/default/serviceaccounts/default/token", json!({"spec": {}})).await;
    let token = read("TokenRequestEnvelope", &token);
    assert_says(&token, &["kind: \"TokenRequest\""]);
    assert!(token.contains("token: \"ey") && token.contains("seconds: "), "{token}");
    asker.cluster.stop().await;
}
