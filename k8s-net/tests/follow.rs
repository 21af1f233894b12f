//! The proxy follows a cluster: what the API server says ends up in the backend.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use k8s_core::{
    object::Object,
    request::{ApiRequest, ApiResponse, ObjectList, ResponseBody, Verb, WatchEvent},
    seam::transport::Transport,
    status::ApiResult,
};
use k8s_net::proxy::{Applied, NodeView, Proxy, ProxyError, ProxyMetrics, Rules, ServiceBackend, follow};
use k8s_reconcile::Client;
use k8s_wire::env::System;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// An API server that answers lists from what it was given, and watches from a channel for each resource.
#[derive(Default)]
struct Server {
    lists: BTreeMap<&'static str, Vec<Arc<Object>>>,
    watches: Mutex<BTreeMap<&'static str, mpsc::UnboundedReceiver<WatchEvent>>>,
}

impl Server {
    fn holding(mut self, plural: &'static str, objects: &[Value]) -> Self {
        self.lists.insert(plural, objects.iter().map(|value| object(value, 1)).collect());
        self
    }

    fn watched(&self, plural: &'static str) -> mpsc::UnboundedSender<WatchEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watches.lock().unwrap().insert(plural, receiver);
        sender
    }
}

#[async_trait]
impl Transport for Server {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let plural = request.target.resource.plural.as_str();
        let body = match request.verb {
            Verb::List => {
                let items = self.lists.get(plural).cloned().unwrap_or_default();
                ResponseBody::List(ObjectList { items, revision: 1, ..ObjectList::default() })
            }
            Verb::Watch => {
                let events = match self.watches.lock().unwrap().remove(plural) {
                    Some(receiver) => {
                        stream::unfold(receiver, |mut r| async { r.recv().await.map(|event| (Ok(event), r)) }).boxed()
                    }
                    None => stream::pending().boxed(),
                };
                ResponseBody::Watch(events)
            }
            verb => panic!("the proxy only reads, and asked to {verb:?}"),
        };
        Ok(ApiResponse::ok(body))
    }
}

/// A backend that hands on what it is told, after failing as often as it was told to.
struct Recorder {
    told: mpsc::UnboundedSender<String>,
    failures: usize,
    /// Whether the next look finds the rules gone.
    lost: bool,
    forgot: bool,
}

#[async_trait]
impl ServiceBackend for Recorder {
    async fn apply(&mut self, rules: Rules) -> Result<Applied, ProxyError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(k8s_net::NftError::Refused { message: "for the test".into() }.into());
        }
        let forgot = if std::mem::take(&mut self.forgot) { "anew: " } else { "" };
        self.told.send(format!("{forgot}{rules}")).expect("the test listens");
        Ok(Applied { full: false, changes: 1 })
    }

    async fn intact(&mut self) -> Result<bool, ProxyError> {
        Ok(!std::mem::take(&mut self.lost))
    }

    fn forget(&mut self) {
        self.forgot = true;
    }

    async fn cleanup(&mut self) -> Result<(), ProxyError> {
        Ok(())
    }
}

fn object(value: &Value, revision: u64) -> Arc<Object> {
    let json = serde_json::to_vec(value).unwrap();
    Arc::new(Object::from_json(json.into(), Some(revision)).unwrap())
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "ns", "name": "web", "uid": "1"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}]},
    })
}

fn slice(address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": "web-1", "uid": "2", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}],
    })
}

fn node(address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "here", "uid": "3"},
        "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "here"}]},
    })
}

/// Runs the proxy on `server` while `test` reads what the backend is told. Time passes as fast as it is waited for.
async fn following(server: Server, recorder: Recorder, test: impl AsyncFnOnce()) {
    let view = NodeView { name: "here".into(), ..NodeView::default() };
    let mut proxy = Proxy::new(view, recorder);
    let client = Client::new(Arc::new(server), System::current());
    let metrics = ProxyMetrics::default();
    tokio::select! {
        biased;
        () = test() => {}
        () = follow(&client, &mut proxy, &metrics) => panic!("following does not end"),
    }
}

fn recorder() -> (Recorder, mpsc::UnboundedReceiver<String>) {
    let (told, heard) = mpsc::unbounded_channel();
    (Recorder { told, failures: 0, lost: false, forgot: false }, heard)
}

#[tokio::test(start_paused = true)]
async fn changes_of_services_slices_and_the_node_reach_the_backend() {
    let server = Server::default()
        .holding("services", &[service()])
        .holding("endpointslices", &[slice("10.1.0.2")])
        .holding("nodes", &[node("192.0.2.1")]);
    let (services, slices) = (server.watched("services"), server.watched("endpointslices"));
    let nodes = server.watched("nodes");
    let (recorder, mut heard) = recorder();
    following(server, recorder, async || {
        insta::assert_snapshot!(heard.recv().await.unwrap(), @"
        10.96.0.1:80/tcp [ns/web:] -> 10.1.0.2:8080, masquerade OffCluster
        192.0.2.1:30080/tcp [ns/web:] -> 10.1.0.2:8080, masquerade Always
        ");
        slices.send(WatchEvent::Modified(object(&slice("10.1.0.3"), 2))).unwrap();
        assert!(heard.recv().await.unwrap().contains("10.1.0.3:8080"));
        nodes.send(WatchEvent::Modified(object(&node("192.0.2.7"), 3))).unwrap();
        assert!(heard.recv().await.unwrap().contains("192.0.2.7:30080/tcp"));
        slices.send(WatchEvent::Deleted(object(&slice("10.1.0.3"), 4))).unwrap();
        assert!(heard.recv().await.unwrap().contains("reject"));
        services.send(WatchEvent::Deleted(object(&service(), 5))).unwrap();
        assert_eq!(heard.recv().await.unwrap(), "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_from_nothing() {
    let server = Server::default().holding("services", &[service()]);
    let (recorder, mut heard) = recorder();
    following(server, Recorder { failures: 2, ..recorder }, async || {
        let told = heard.recv().await.unwrap();
        assert!(told.starts_with("anew: 10.96.0.1:80/tcp"), "{told}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_removed_is_replaced() {
    let server = Server::default().holding("services", &[service()]);
    let (recorder, mut heard) = recorder();
    following(server, Recorder { lost: true, ..recorder }, async || {
        let first = heard.recv().await.unwrap();
        assert!(!first.starts_with("anew"), "{first}");
        assert_eq!(heard.recv().await.unwrap(), format!("anew: {first}"));
    })
    .await;
}
