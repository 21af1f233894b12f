//! Pods that nobody schedules, requests about them, and what requests cost the server.

use std::{future::Future, time::Duration};

use futures::{StreamExt, stream};
use k8s::{
    core::{
        api::api::core::v1::{Pod, ServiceAccount},
        doc::Doc,
        request::{ApiRequest, Options, RequestBody, Target, Verb},
        resource::Resource,
    },
    reconcile::Client,
};
use serde_json::{Value, json};

use super::process::Server;

/// Requests under way at once.
pub const CONCURRENCY: usize = 16;

/// A server on a new folder that takes pods, and the administrator's client.
pub async fn server(program: &std::path::Path) -> (Server, Client) {
    let server = Server::start(program, &["--nodes", "hollow:1"], |_| ());
    server.ready().await;
    let client = server.client();
    wait_for_service_account(&client).await;
    (server, client)
}

async fn wait_for_service_account(client: &Client) {
    for _ in 0..2000 {
        if client.namespaced::<ServiceAccount>("default").find("default").await.ok().flatten().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the default service account is not made");
}

/// A request about one pod, or all.
pub fn request(verb: Verb, name: Option<String>, body: RequestBody) -> ApiRequest {
    let target = match name {
        Some(name) => Target::one(Pod::resource(), "default", name),
        None => Target::all(Pod::resource(), "default"),
    };
    ApiRequest { verb, target, body, options: Options::default(), ..Default::default() }
}

/// A request that creates a pod.
pub fn create(pod: Doc) -> ApiRequest {
    request(Verb::Create, None, RequestBody::Doc(pod))
}

/// A pod with what pods usually have.
pub fn pod(name: &str) -> Doc {
    let value: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "figures", "tier": "bench"}},
        "spec": {"schedulerName": "nobody", "containers": [{
            "name": "web", "image": "example.com/web:1", "args": ["--listen", ":8080"],
            "env": [{"name": "COLOR", "value": "blue"}, {"name": "MODE", "value": "bench"}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        }]},
    });
    Doc::from_serialize(&value).expect("a document")
}

/// Sends `count` requests, some at a time. Each must succeed.
pub async fn many(client: &Client, count: usize, make: impl Fn(usize) -> ApiRequest) {
    let requests: Vec<ApiRequest> = (0..count).map(make).collect();
    let sends = requests.into_iter().map(|request| async move {
        if let Err(error) = client.call(request).await {
            panic!("a request failed: {error}");
        }
    });
    stream::iter(sends).buffer_unordered(CONCURRENCY).collect::<()>().await;
}

/// Microseconds of the server's CPU per operation.
pub async fn per(server: &Server, operations: usize, work: impl Future<Output = ()>) -> f64 {
    let before = server.process().cpu();
    work.await;
    (server.process().cpu() - before).as_secs_f64() * 1e6 / operations as f64
}
