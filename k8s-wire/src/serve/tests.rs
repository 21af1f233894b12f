//! A real socket with TLS: identities, limits, the graceful end.

mod floods;

use std::sync::Mutex;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    env::System,
    pki::{Authority, Identity},
    tls::{self, ServerTrust},
};

struct Fixture {
    env: Env,
    address: SocketAddr,
    stop: CancellationToken,
    server: Option<env::Task>,
    authority: Authority,
    clients: Authority,
}

fn limits() -> Limits {
    Limits { head_timeout: Duration::from_millis(200), drain: Duration::from_millis(300), ..Limits::default() }
}

async fn fixture<S: Service>(service: S, with_tls: bool) -> Fixture {
    fixture_with(service, with_tls, |server| server).await
}

async fn fixture_with<S: Service>(service: S, with_tls: bool, with: impl FnOnce(Server<S>) -> Server<S>) -> Fixture {
    let env = System::current();
    let authority = Authority::generate("serving", env.now()).unwrap();
    let clients = Authority::generate("clients", env.now()).unwrap();
    let identity = authority.issue_server("x", &["localhost".into()], env.now()).unwrap();
    let trusted = clients.identity().certificates().unwrap();
    let tls = with_tls.then(|| tls::server(&env, &identity, Some(&trusted)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = with(Server::new(env.clone(), service).limits(limits()));
    let (token, shared) = (stop.clone(), env.clone());
    let task = shared.spawn("server", Box::pin(async move { server.serve(listener, tls, token).await }));
    Fixture { env, address, stop, server: Some(task), authority, clients }
}

/// Says how many certificates the peer presented and which version it spoke.
fn identity_service() -> impl Service {
    tower::service_fn(|request: Request<Body>| async move {
        let peer = request.extensions().get::<Arc<Peer>>().unwrap().clone();
        let said = format!("{:?} {}", request.version(), peer.certificates.len());
        Ok(Response::new(body::full(said)))
    })
}

fn client(fixture: &Fixture, identity: Option<&Identity>, protocols: &[&[u8]]) -> reqwest::Client {
    let trusted = fixture.authority.identity().certificates().unwrap();
    let config = tls::client(&fixture.env, ServerTrust::Authorities(&trusted), identity, protocols).unwrap();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .resolve("localhost", fixture.address)
        .no_proxy()
        .build()
        .unwrap()
}

async fn get(fixture: &Fixture, client: &reqwest::Client) -> Result<String, reqwest::Error> {
    client.get(format!("https://localhost:{}/", fixture.address.port())).send().await?.text().await
}

#[tokio::test]
async fn the_service_sees_the_clients_certificate() {
    let fixture = fixture(identity_service(), true).await;
    let issued = fixture.clients.issue_client("someone", &["group"], fixture.env.now()).unwrap();
    for (protocols, version) in [(tls::API_PROTOCOLS, "HTTP/2.0"), (tls::UPGRADE_PROTOCOLS, "HTTP/1.1")] {
        let with = client(&fixture, Some(&issued), protocols);
        assert_eq!(get(&fixture, &with).await.unwrap(), format!("{version} 1"));
        let without = client(&fixture, None, protocols);
        assert_eq!(get(&fixture, &without).await.unwrap(), format!("{version} 0"));
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_or_of_the_past_ends_the_handshake() {
    let fixture = fixture(identity_service(), true).await;
    let now = fixture.env.now();
    let stranger = Authority::generate("clients", now).unwrap().issue_client("someone", &[], now).unwrap();
    let two_years_ago = now - Duration::from_secs(2 * 365 * 24 * 3600);
    let expired = fixture.clients.issue_client("someone", &[], two_years_ago).unwrap();
    let wrong_use = fixture.clients.issue_server("someone", &["localhost".into()], now).unwrap();
    for identity in [&stranger, &expired, &wrong_use] {
        assert!(get(&fixture, &client(&fixture, Some(identity), tls::API_PROTOCOLS)).await.is_err());
    }
    assert!(get(&fixture, &client(&fixture, None, tls::API_PROTOCOLS)).await.is_ok(), "others are still served");
}

/// How many connections a client of HTTP/2 makes for some requests, one after the other.
async fn connections_of(share: f64) -> usize {
    let address = tower::service_fn(|request: Request<Body>| async move {
        let peer = request.extensions().get::<Arc<Peer>>().unwrap().clone();
        Ok(Response::new(body::full(peer.address.unwrap().to_string())))
    });
    let fixture = fixture_with(address, true, |server| server.send_away(share)).await;
    let client = client(&fixture, None, tls::API_PROTOCOLS);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        seen.insert(get(&fixture, &client).await.expect("what is asked is answered"));
    }
    seen.len()
}

#[tokio::test]
async fn clients_are_sent_away_after_a_share_of_requests() {
    assert_eq!(connections_of(0.0).await, 1);
    let (all, some) = (connections_of(1.0).await, connections_of(0.2).await);
    assert!(all >= 20 && (2..all).contains(&some), "{all} {some}");
}

#[tokio::test]
async fn who_dribbles_is_cut_off() {
    let fixture = fixture(identity_service(), false).await;
    let mut half = TcpStream::connect(fixture.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ").await.unwrap();
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_a_while() {
    let env = System::current();
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let server = Server::new(env.clone(), identity_service());
    let (idle, head) = (server.limits.idle_timeout, server.limits.head_timeout);
    assert!(idle > head * 2);
    let serving =
        async move { server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await };
    let task = env.spawn("stream", Box::pin(serving));
    for _ in 0..3 {
        near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"HTTP/1.1 0") {
            assert!(near.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        env.sleep(idle - Duration::from_secs(1)).await;
    }
    let mut rest = Vec::new();
    let ended = env::timeout(&*env, Duration::from_secs(2), near.read_to_end(&mut rest)).await;
    assert_eq!(ended.expect("it ends when it is due").unwrap(), 0);
    drop(task);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let fixture = fixture(identity_service(), false).await;
    let mut socket = TcpStream::connect(fixture.address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(600 * 1024));
    // The server may hang up before it has read everything.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 431");
}

#[tokio::test]
async fn an_answer_that_does_not_wait_for_the_body_is_seen_and_the_connection_goes_on() {
    let refusing = tower::service_fn(|_: Request<Body>| async { Ok(Response::new(body::full("refused"))) });
    let fixture = fixture(refusing, false).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let body = vec![b'x'; 200 * 1024];
    for _ in 0..3 {
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"refused") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended: {answer:?}");
        }
    }
    // Who expects to be told before they send is told no, and sends nothing.
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"refused") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended: {answer:?}");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_cuts_off_what_does_not() {
    let (entered, mut entries) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(4);
    let service = tower::service_fn(move |_: Request<Body>| {
        let entered = entered.clone();
        async move {
            let (release, released) = tokio::sync::oneshot::channel();
            let _ = entered.send(release).await;
            let _ = released.await;
            Ok(Response::new(body::full("done")))
        }
    });
    let mut fixture = fixture(service, false).await;
    let ask = |address: SocketAddr| async move { reqwest::get(format!("http://{address}/")).await?.text().await };
    let mut both = tokio::task::JoinSet::from_iter([ask(fixture.address), ask(fixture.address)]);
    let first = entries.recv().await.unwrap();
    let kept = Mutex::new(Some(entries.recv().await.unwrap()));
    fixture.stop.cancel();
    // One is let go while the server drains; which of the two it is does not matter.
    first.send(()).unwrap();
    fixture.server.take().unwrap().join().await.unwrap();
    let mut finished = 0;
    while let Some(ended) = both.join_next().await {
        finished += usize::from(ended.unwrap().is_ok());
    }
    assert_eq!(finished, 1);
    drop(kept);
    assert!(TcpStream::connect(fixture.address).await.is_err(), "nobody accepts any more");
}

#[tokio::test]
async fn one_stream_in_memory_is_served_without_a_port() {
    let env = System::current();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = Server::new(env.clone(), identity_service());
    let serving =
        async move { server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await };
    let task = env.spawn("stream", Box::pin(serving));
    let request = Request::get("/").header("host", "x").body(body::empty()).unwrap();
    let stream = Box::new(tokio_util::compat::TokioAsyncReadCompatExt::compat(near));
    let answer = crate::http1::exchange(&env, stream, request).await.unwrap();
    let crate::http1::Answer::Response(response) = answer else { panic!("not upgraded") };
    let said = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, "HTTP/1.1 0");
    task.stop().await;
}
