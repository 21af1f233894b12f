//! Calls against real HTTPS servers of our own.

use http::{Request, Response, StatusCode};
use k8s_core::env::Task;
use tokio::net::TcpListener;

use super::*;
use crate::{
    body::{self, Body},
    client::Config,
    env::System,
    pki::Authority,
    serve::{CancellationToken, Peer as Client, Server},
};

const LIMIT: Duration = Duration::from_secs(20);

/// An endpoint called `hook.ns.svc`, which echoes what it got: method, path, content type, `Authorization`, who the
/// client's certificate names, and the body. `/slow` never answers, `/broken` answers 500.
struct Hook {
    authority: Authority,
    address: SocketAddr,
    _server: Task,
}

async fn hook() -> Hook {
    let env = System::current();
    let authority = Authority::generate("ca", env.now()).unwrap();
    let identity = authority.issue_server("x", &["hook.ns.svc".into()], env.now()).unwrap();
    let clients = pki::certificates("clients", authority.certificate_pem().as_bytes()).unwrap();
    let tls = tls::server(&env, &identity, Some(&clients)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service =
        tower::service_fn(|request: Request<Body>| async { Ok::<_, std::convert::Infallible>(echo(request).await) });
    let server = Server::new(env.clone(), service);
    let running = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
    Hook { authority, address, _server: env.spawn("hook", Box::pin(running)) }
}

async fn echo(request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let known = head.extensions.get::<Arc<Client>>().is_some_and(|client| !client.certificates.is_empty());
    let text = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = body::read(body, 1024).await.unwrap();
    match head.uri.path() {
        "/slow" => std::future::pending().await,
        "/broken" => {
            let mut answer = Response::new(body::full("no such luck"));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
        path => {
            let (kind, token) = (text("content-type"), text("authorization"));
            let body = String::from_utf8_lossy(&body);
            Response::new(body::full(format!("{} {path} {kind} [{token}] {known} {body}", head.method)))
        }
    }
}

impl Hook {
    fn endpoint(&self, path: &str) -> WebhookEndpoint {
        let authorities_pem = Some(self.authority.certificate_pem().to_owned());
        let tls = WebhookTls { authorities_pem, ..WebhookTls::default() };
        let url = format!("https://hook.ns.svc:443{path}");
        WebhookEndpoint { url, address: Some(self.address), tls: Arc::new(tls), token: None }
    }
}

async fn post(endpoint: &WebhookEndpoint) -> Result<String, WebhookError> {
    let caller = HttpWebhookCaller::new(System::current());
    let answer = caller.post(endpoint, LIMIT, Bytes::from_static(b"{}")).await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

#[tokio::test]
async fn a_named_service_is_called_at_its_address() {
    let hook = hook().await;
    assert_eq!(post(&hook.endpoint("/path")).await.unwrap(), "POST /path application/json [] false {}");
    let elsewhere = WebhookEndpoint { url: "https://hook.ns.svc:8443/path".into(), ..hook.endpoint("/path") };
    assert!(post(&elsewhere).await.is_ok(), "the port of the address counts, not the service's");
}

#[tokio::test]
async fn certificates_and_tokens_are_shown() {
    let hook = hook().await;
    let own = hook.authority.issue_client("server", &[], System::current().now()).unwrap();
    let mut endpoint = hook.endpoint("/");
    let identity = WebhookIdentity { certificate_pem: own.certificate_pem, key_pem: own.key_pem };
    endpoint.tls = Arc::new(WebhookTls { identity: Some(identity), ..(*endpoint.tls).clone() });
    endpoint.token = Some(WebhookToken("secret".into()));
    assert_eq!(post(&endpoint).await.unwrap(), "POST / application/json [Bearer secret] true {}");
    assert!(!format!("{endpoint:?}").contains("secret"));
}

#[tokio::test]
async fn nobody_is_believed_without_an_authority_or_under_another_name() {
    let hook = hook().await;
    let endpoint = hook.endpoint("/");
    let without = WebhookEndpoint { tls: Arc::default(), ..endpoint.clone() };
    let error = post(&without).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let elsewhere = WebhookEndpoint { url: "https://other.ns.svc/".into(), ..endpoint.clone() };
    let error = post(&elsewhere).await.unwrap_err().to_string();
    assert!(error.starts_with("Post \"https://other.ns.svc/\": ") && error.contains("not valid for name"), "{error}");
    let anyone = WebhookTls { insecure: true, ..WebhookTls::default() };
    let anyone = WebhookEndpoint { tls: Arc::new(anyone), ..elsewhere };
    assert!(post(&anyone).await.is_ok());
}

#[tokio::test]
async fn a_kubeconfig_names_an_endpoint_whose_certificate_is_for_another_name() {
    let hook = hook().await;
    let config = Config {
        authorities_pem: Some(hook.authority.certificate_pem().to_owned()),
        server_name: Some("hook.ns.svc".into()),
        token: Some(Token::Text("t".into())),
        ..Config::new(format!("https://{}/authorize", hook.address))
    };
    let answer = post(&endpoint(&config).unwrap()).await.unwrap();
    assert_eq!(answer, "POST /authorize application/json [Bearer t] false {}");
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let hook = hook().await;
    let error = post(&hook.endpoint("/broken")).await.unwrap_err();
    assert!(matches!(&error, WebhookError::Status { code: 500, text, .. } if text == "no such luck"), "{error}");
    assert!(error.retry());
    let caller = HttpWebhookCaller::new(System::current());
    let slow = caller.post(&hook.endpoint("/slow"), Duration::from_millis(50), Bytes::new()).await.unwrap_err();
    assert_eq!(slow.to_string(), "Post \"https://hook.ns.svc:443/slow\": context deadline exceeded");
    let plain = WebhookEndpoint { url: "http://hook.ns.svc/".into(), ..WebhookEndpoint::default() };
    assert!(matches!(post(&plain).await.unwrap_err(), WebhookError::Config(_)));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = WebhookEndpoint { address: Some(nobody), ..hook.endpoint("/") };
    assert!(matches!(post(&gone).await.unwrap_err(), WebhookError::Unreachable { .. }));
}

#[tokio::test]
async fn connections_are_kept_for_one_trust_and_forgotten_at_the_bound() {
    let hook = hook().await;
    let caller = HttpWebhookCaller::new(System::current());
    for _ in 0..3 {
        caller.post(&hook.endpoint("/"), LIMIT, Bytes::new()).await.unwrap();
    }
    assert_eq!(caller.peers.lock().clients.len(), 1);
    for port in 0..MAX_PEERS {
        let url = format!("https://127.0.0.1:{}/", port + 1);
        let endpoint = WebhookEndpoint { url: url.clone(), ..WebhookEndpoint::default() };
        caller.client(&endpoint, &parse(&url).unwrap()).unwrap();
    }
    assert_eq!(caller.peers.lock().clients.len(), MAX_PEERS);
}
