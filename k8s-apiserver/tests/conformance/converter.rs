//! A conversion webhook of one's own, over HTTPS: `v1` says `hostPort`, `v2` says `host` and `port`.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response};
use k8s_core::env::Task;
use k8s_wire::{
    body::{self, Body},
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The webhook, for as long as it is kept.
pub struct Converter {
    url: String,
    bundle: String,
    /// Of how many objects each review was.
    pub reviews: Arc<Mutex<Vec<usize>>>,
    _server: Task,
}

impl Converter {
    /// Listens at a port of the loopback.
    pub async fn start() -> Self {
        let env = System::current();
        let authority = Authority::generate("ca", env.now()).expect("an authority");
        let identity = authority.issue_server("converter", &["127.0.0.1".into()], env.now()).expect("a certificate");
        let tls = tls::server(&env, &identity, None).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let reviews = Arc::new(Mutex::default());
        let noted = Arc::clone(&reviews);
        let service = tower::service_fn(move |request: Request<Body>| {
            let noted = noted.clone();
            async move { Ok::<_, Infallible>(answer(request, &noted).await) }
        });
        let server = Server::new(env.clone(), service);
        let running = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
        let _server = env.spawn("converter", Box::pin(running));
        let bundle = STANDARD.encode(authority.certificate_pem());
        Self { url: format!("https://127.0.0.1:{port}/crdconvert"), bundle, reviews, _server }
    }

    /// `spec.conversion` of a definition that it converts for.
    pub fn conversion(&self) -> Value {
        json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": self.url, "caBundle": self.bundle},
            "conversionReviewVersions": ["v1", "v1beta1"]
        }})
    }
}

async fn answer(request: Request<Body>, reviews: &Mutex<Vec<usize>>) -> Response<Body> {
    let body = body::read(request.into_body(), 1024 * 1024).await.expect("a body");
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    let wanted = review["request"]["desiredAPIVersion"].as_str().expect("a version");
    let objects = review["request"]["objects"].as_array().expect("objects");
    reviews.lock().push(objects.len());
    let converted: Vec<Value> = objects.iter().map(|object| convert(object, wanted)).collect();
    let response =
        json!({"uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": converted});
    let answer = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
    Response::new(body::full(answer.to_string()))
}

fn convert(object: &Value, wanted: &str) -> Value {
    let mut new = object.clone();
    let fields = new.as_object_mut().expect("an object");
    fields.insert("apiVersion".into(), wanted.into());
    let mut take = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    if wanted.ends_with("/v2") {
        if let Some(text) = take("hostPort") {
            let (host, port) = text.split_once(':').expect("a host and a port");
            fields.insert("host".into(), host.into());
            fields.insert("port".into(), port.into());
        }
    } else if let (Some(host), Some(port)) = (take("host"), take("port")) {
        fields.insert("hostPort".into(), format!("{host}:{port}").into());
    }
    new
}
