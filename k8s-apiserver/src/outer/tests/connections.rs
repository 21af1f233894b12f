//! Connections to backends: what they are sent, and what comes back.

use http_body_util::BodyExt;
use k8s_core::seam::node::ByteStream;
use k8s_wire::{
    env::System,
    port_forward,
    serve::{CancellationToken, Protocol, Server},
    websocket::{self, CHANNELS, Channels, ERROR, Frame, STDIN, STDOUT},
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{super::*, fake::*};

/// The node's side: says what it saw, redirects at `/redirect`, echoes over a WebSocket at exec.
async fn backend(env: Env, mut request: Request<Body>) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    if path.contains("redirect") {
        let to = if path.contains("away") { "http://elsewhere/x" } else { "/inside" };
        return Response::builder().status(302).header("location", to).body(body::empty()).unwrap();
    }
    if path.contains("waits") {
        let body = body::full("container \"c\" in pod \"p\" is waiting to start: PodInitializing\n");
        return Response::builder().status(400).body(body).unwrap();
    }
    if path.starts_with("/backend/portforward") {
        return forward_ports(env, request);
    }
    if websocket::is_upgrade(request.headers()) {
        return match websocket::accept(&mut request, CHANNELS) {
            Ok((response, opening)) => {
                let echoing = async move {
                    let Channels { sender, mut receiver } = opening.channels().await.unwrap();
                    while let Some(Ok(frame)) = receiver.next().await {
                        match frame {
                            Frame::Data { channel: STDIN, bytes } => sender.send(STDOUT, &bytes).await.unwrap(),
                            Frame::Data { .. } => {}
                            Frame::Ended(_) => {
                                sender.send(ERROR, br#"{"status":"Success"}"#).await.unwrap();
                                sender.close().await.unwrap();
                            }
                        }
                    }
                };
                env.spawn("echo", Box::pin(echoing)).detach();
                response
            }
            Err(refused) => refused.response(),
        };
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: Vec<String> = head.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
    let said = format!("{} {path} [{}] {}", head.method, headers.join(" "), String::from_utf8_lossy(&body));
    Response::builder().header("x-backend", "yes").body(body::full(said)).unwrap()
}

/// Every port echoes.
fn forward_ports(env: Env, mut request: Request<Body>) -> Response<Body> {
    let (response, opening) = match port_forward::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refused) => return refused.response(),
    };
    let tasks = env.clone();
    let dial: port_forward::Dial = Arc::new(move |_| {
        let (near, far) = tokio::io::duplex(1024);
        let echoing = async move {
            let (mut read, mut write) = tokio::io::split(far);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
        };
        tasks.spawn("echo", Box::pin(echoing)).detach();
        Box::pin(async move { Ok(Box::new(near.compat()) as Box<dyn ByteStream>) })
    });
    let serving = {
        let env = env.clone();
        async move { opening.serve(&env, &[], dial).await }
    };
    env.spawn("port-forward", Box::pin(serving)).detach();
    response
}

pub fn dial(env: &Env) -> Dial {
    let env = env.clone();
    Box::new(move |_| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let tasks = env.clone();
        let service = tower::service_fn(move |request| {
            let tasks = tasks.clone();
            async move { Ok::<_, Infallible>(backend(tasks, request).await) }
        });
        let server = Server::new(env.clone(), service);
        let serving = async move {
            server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
        };
        env.spawn("backend", Box::pin(serving)).detach();
        Box::new(near.compat())
    })
}

const POD: &str = "/api/v1/namespaces/n/pods/p";

#[tokio::test]
async fn a_proxied_request_keeps_its_path_and_loses_its_credentials() {
    let (outer, door) = outer();
    *door.dial.lock() = Some(dial(&System::current()));
    let asked = request("POST", &format!("{POD}/proxy/a%20b?q=1"))
        .header("impersonate-user", "someone")
        .header("x-remote-user", "root")
        .header("te", "trailers")
        .header("x-kept", "1");
    let got = call(&outer, asked.body(body::full("hello")).unwrap()).await;
    assert_eq!((got.code, got.header("x-backend")), (200, "yes"));
    assert!(got.body.starts_with("POST /backend/a%20b?q=1 ["), "{}", got.body);
    assert!(got.body.ends_with("] hello") && got.body.contains("x-kept=1"), "{}", got.body);
    assert!(got.body.contains("host=node:10250"), "{}", got.body);
    for gone in ["authorization", "impersonate", "x-remote", "te="] {
        assert!(!got.body.contains(gone), "{gone}: {}", got.body);
    }
}

#[tokio::test]
async fn a_redirect_of_a_node_is_an_error_and_one_of_an_application_stays_below_its_proxy() {
    let (outer, door) = outer();
    *door.dial.lock() = Some(dial(&System::current()));
    let code = async |path: &str| {
        let got = get(&outer, path).await;
        (got.code, got.header("location").to_owned())
    };
    assert_eq!(code(&format!("{POD}/log?redirect")).await.0, 502);
    assert_eq!(code("/api/v1/nodes/x/proxy/redirect").await.0, 502);
    assert_eq!(code(&format!("{POD}/proxy/redirect/away")).await.0, 502);
    assert_eq!(code(&format!("{POD}/proxy/redirect")).await, (302, format!("{POD}/proxy/inside")));
    assert_eq!(code(&format!("{POD}/proxy?x=1")).await, (301, format!("{POD}/proxy/?x=1")));
}

#[tokio::test]
async fn what_a_node_says_of_logs_that_there_are_not_is_a_status() {
    let (outer, door) = outer();
    *door.dial.lock() = Some(dial(&System::current()));
    let got = get(&outer, &format!("{POD}/log?waits")).await.json();
    assert_eq!((got.str_at(&["kind"]), got.str_at(&["reason"])), ("Status", "BadRequest"));
    assert_eq!(got.str_at(&["message"]), "container \"c\" in pod \"p\" is waiting to start: PodInitializing");
}

#[tokio::test]
async fn a_backend_that_is_away_is_said_to_be() {
    let (outer, _) = outer();
    let got = get(&outer, &format!("{POD}/log")).await;
    assert_eq!((got.code, got.json().str_at(&["reason"])), (503, "ServiceUnavailable"));
}

fn serve(outer: Outer, env: &Env) -> Box<dyn ByteStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = Server::new(env.clone(), outer);
    let serving = async move {
        server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
    };
    env.spawn("outer", Box::pin(serving)).detach();
    Box::new(near.compat())
}

fn exec() -> Request<Body> {
    let path = format!("{POD}/exec?command=cat&stdin=true");
    request("GET", &path).header("host", "api").body(body::empty()).unwrap()
}

#[tokio::test]
async fn an_upgrade_is_spliced_through() {
    let (outer, door) = outer();
    let env = System::current();
    *door.dial.lock() = Some(dial(&env));
    let stream = serve(outer, &env);
    let Channels { sender, mut receiver } = websocket::connect(&env, stream, exec(), CHANNELS).await.unwrap();
    sender.send(STDIN, b"through").await.unwrap();
    let echoed = receiver.next().await.unwrap().unwrap();
    assert_eq!(echoed, Frame::Data { channel: STDOUT, bytes: "through".into() });
    sender.end(STDIN).await.unwrap();
    assert!(matches!(receiver.next().await.unwrap().unwrap(), Frame::Data { channel: ERROR, .. }));
    assert_eq!(door.last().1.options.connect_as, Verb::Create);
}

#[tokio::test]
async fn a_refused_upgrade_closes_the_connection() {
    let (outer, door) = outer();
    let env = System::current();
    *door.dial.lock() = Some(dial(&env));
    let stream = serve(outer, &env);
    let mut asked = exec();
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")] {
        asked.headers_mut().insert(name, value.parse().unwrap());
    }
    *asked.method_mut() = http::Method::POST;
    let answer = k8s_wire::http1::exchange(&env, stream, asked).await.unwrap();
    let k8s_wire::http1::Answer::Response(response) = answer else { panic!("upgraded") };
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers().get("connection").unwrap(), "close");
    let said = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&said).contains("WebSocket"));
}
