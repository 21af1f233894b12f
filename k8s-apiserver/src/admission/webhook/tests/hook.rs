//! A webhook of one's own: a real HTTPS server that behaves as its path says, and a server that asks it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use k8s_core::{
    doc,
    doc::Doc,
    env::{Env, Task},
    seam::webhook::{WebhookCaller, WebhookEndpoint, WebhookError},
};
use k8s_store::Memory;
use k8s_wire::{
    body::{self, Body},
    client::HttpWebhookCaller,
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::server::{
    ApiServerBuilder,
    tests::fixture::{Fixture, over},
};

/// What the webhook was asked: its path and query, and the `request` of the review.
pub type Seen = Arc<Mutex<Vec<(String, Doc)>>>;

/// The webhook and the server.
pub struct Scene {
    pub api: Fixture,
    pub seen: Seen,
    pub port: u16,
    authority: Authority,
    _server: Task,
}

/// Calls over the network, where the address of the webhook's pod leads to this machine's: an EndpointSlice may not hold it.
struct PodNetwork {
    calls: HttpWebhookCaller,
    port: u16,
}

/// Where the webhook's pod would listen.
const POD: &str = "10.244.0.9:8443";

#[async_trait]
impl WebhookCaller for PodNetwork {
    async fn post(&self, endpoint: &WebhookEndpoint, limit: Duration, body: Bytes) -> Result<Bytes, WebhookError> {
        let mut endpoint = endpoint.clone();
        if endpoint.address == POD.parse().ok() {
            endpoint.address = Some(SocketAddr::from(([127, 0, 0, 1], self.port)));
        }
        self.calls.post(&endpoint, limit, body).await
    }
}

/// A webhook, and a server in real time that calls it over TLS.
pub async fn scene() -> Scene {
    scene_with(|builder| builder).await
}

pub async fn scene_with(with: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder) -> Scene {
    let env = System::current();
    let authority = Authority::generate("ca", env.now()).unwrap();
    let hosts = ["127.0.0.1".into(), "hook.default.svc".into()];
    let identity = authority.issue_server("hook", &hosts, env.now()).unwrap();
    let tls = tls::server(&env, &identity, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let (noted, timer) = (seen.clone(), env.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (noted, timer) = (noted.clone(), timer.clone());
        async move { Ok::<_, Infallible>(answer(request, &noted, &timer).await) }
    });
    let server = Server::new(env.clone(), service);
    let running = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
    let _server = env.spawn("hook", Box::pin(running));
    let caller = Arc::new(PodNetwork { calls: HttpWebhookCaller::new(env.clone()), port });
    let store = Arc::new(Memory::new(env.clone()));
    let api = over(store, env, |builder| with(builder.webhooks(caller))).await;
    Scene { api, seen, port, authority, _server }
}

async fn answer(request: Request<Body>, seen: &Seen, env: &Env) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = body::read(request.into_body(), 1024 * 1024).await.unwrap();
    let review = Doc::parse(&body).unwrap();
    let asked = review.get("request").unwrap();
    seen.lock().push((path.clone(), asked.clone()));
    let mut response = match path.split('?').next().unwrap() {
        "/silent" => std::future::pending().await,
        "/slow" => {
            env.sleep(Duration::from_millis(300)).await;
            doc!({"allowed": true})
        }
        path => behave(path, asked),
    };
    response.set_at(&["uid"], asked.str_at(&["uid"]).into());
    let mut answer = doc!({"kind": "AdmissionReview"});
    answer.set_at(&["apiVersion"], review.str_at(&["apiVersion"]).into());
    answer.set_at(&["response"], response);
    Response::new(body::full(answer.to_json()))
}

fn behave(path: &str, asked: &Doc) -> Doc {
    let data = |key: &str| asked.at(&["object", "data", key]).and_then(Doc::as_str);
    match path {
        "/allow" => doc!({"allowed": true, "warnings": ["be careful"], "auditAnnotations": {"seen": "yes"}}),
        "/deny" => {
            doc!({"allowed": false, "status": {"message": "denied by the test", "reason": "Forbidden", "code": 403}})
        }
        "/no-bad" => {
            let of = |field: &str| asked.at(&[field, "data", "bad"]).is_some();
            let (new, old) = (of("object"), asked.str_at(&["operation"]) == "DELETE" && of("oldObject"));
            doc!({"allowed": !new && !old, "status": {"message": "it is bad"}})
        }
        "/patch-delete" => patched(&doc!([{"op": "add", "path": "/x", "value": 1}])),
        "/stages" => {
            let next = [("mutation-stage-1", "mutation-start"), ("mutation-stage-2", "mutation-stage-1")];
            let due = next.iter().find(|(new, after)| data(after) == Some("yes") && data(new).is_none());
            match due {
                Some((new, _)) => patched(&doc!([{"op": "add", "path": format!("/data/{new}"), "value": "yes"}])),
                None => doc!({"allowed": true}),
            }
        }
        "/init-container" => patched(&doc!([{
            "op": "add", "path": "/spec/initContainers", "value": [{"name": "added", "image": "i"}]
        }])),
        "/label" => patched(&doc!([{"op": "add", "path": "/metadata/labels", "value": {"touched": "yes"}}])),
        "/identity" => patched(&doc!([
            {"op": "add", "path": "/metadata/uid", "value": "forged"},
            {"op": "add", "path": "/metadata/namespace", "value": "kube-system"},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}}
        ])),
        "/scale" => patched(&doc!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        "/nonsense" => patched(&doc!([{"op": "replace", "path": "/data", "value": "text"}])),
        other => panic!("the test's webhook has no {other}"),
    }
}

fn patched(patch: &Doc) -> Doc {
    doc!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_json()).as_str()})
}

impl Scene {
    /// A webhook at `path` of this server that wants to see `operations` on `resource` (`GROUP/VERSION/RESOURCE`).
    pub fn hook(&self, path: &str, operations: &[&str], resource: &str) -> Doc {
        let mut parts = resource.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (group, version, resource) = (part(), part(), part());
        let operations: Vec<Doc> = operations.iter().map(|operation| Doc::from(*operation)).collect();
        doc!({
            "name": format!("{}.hooks.example.com", path.trim_start_matches('/')),
            "clientConfig": {
                "url": format!("https://127.0.0.1:{}{path}", self.port),
                "caBundle": STANDARD.encode(self.authority.certificate_pem())
            },
            "rules": [{
                "operations": Doc::Array(operations), "apiGroups": [group], "apiVersions": [version],
                "resources": [resource]
            }],
            "admissionReviewVersions": ["v1"], "sideEffects": "None"
        })
    }

    /// Registers webhooks under one name; `kind` is `mutating` or `validating`.
    pub async fn register(&self, kind: &str, name: &str, webhooks: &[Doc]) -> Doc {
        let doc = doc!({
            "metadata": {"name": name, "labels": {"suite": "hooks"}}, "webhooks": Doc::Array(webhooks.to_vec())
        });
        self.api.create(&format!("{kind}webhookconfigurations"), "", doc).await.unwrap()
    }

    /// What the webhook was asked since this was asked last.
    pub fn asked(&self) -> Vec<(String, Doc)> {
        std::mem::take(&mut *self.seen.lock())
    }
}

/// A ConfigMap with this data.
pub fn config(name: &str, data: Doc) -> Doc {
    doc!({"metadata": {"name": name}, "data": data})
}

/// A Pod.
pub fn pod(name: &str) -> Doc {
    doc!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}
