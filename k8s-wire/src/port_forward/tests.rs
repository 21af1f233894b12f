//! Both forms against an echoing port, and one that nobody listens on.

use http::{Request, header};
use k8s_core::env::Env;

use super::*;
use crate::{
    body::{self, Body},
    env::System,
    http1::{self, Answer},
    serve::{CancellationToken, Peer, Protocol, Server},
    spdy::tests::{Client, client, client_on},
    websocket,
};

/// Port 80 echoes in upper case and hangs up after its client; port 79 speaks and hangs up first; every other port
/// refuses.
fn dial(env: &Env) -> Dial {
    let env = env.clone();
    Arc::new(move |port| {
        let env = env.clone();
        Box::pin(async move {
            if ![79, 80].contains(&port) {
                return Err("connection refused".to_owned());
            }
            let (near, far) = tokio::io::duplex(1024);
            let (mut read, mut write) = AsyncReadExt::split(far.compat());
            if port == 79 {
                write.write_all(b"goodbye").await.unwrap();
                write.close().await.unwrap();
                // Still open for what the client says.
                env.spawn("deaf", Box::pin(async move { drop(read.read_to_end(&mut Vec::new()).await) })).detach();
                return Ok(Box::new(near.compat()) as Box<dyn ByteStream>);
            }
            let echoing = async move {
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    write.write_all(&buffer[..count].to_ascii_uppercase()).await.unwrap();
                }
                let _ = write.close().await;
            };
            env.spawn("echo", Box::pin(echoing)).detach();
            Ok(Box::new(near.compat()) as Box<dyn ByteStream>)
        })
    })
}

/// The client's end of a connection whose server forwards what is accepted.
fn server(env: &Env, ports: &'static [u16]) -> Box<dyn ByteStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let tasks = env.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let env = tasks.clone();
        async move {
            Ok::<_, std::convert::Infallible>(match accept(&mut request) {
                Ok((response, opening)) => {
                    let (forwarding, dial) = (env.clone(), dial(&env));
                    let serving = async move { opening.serve(&forwarding, ports, dial).await };
                    env.spawn("port-forward", Box::pin(serving)).detach();
                    response
                }
                Err(refused) => refused.response(),
            })
        }
    });
    let server = Server::new(env.clone(), service);
    let serving = async move {
        server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
    };
    env.spawn("server", Box::pin(serving)).detach();
    Box::new(near.compat())
}

async fn forwarded(protocol: Subprotocol, ports: &'static [u16]) -> Channels {
    let env = System::current();
    let request = Request::get("/portForward").header("host", "node").body(body::empty()).unwrap();
    let opened = websocket::connect(&env, server(&env, ports), request, &[protocol]).await.unwrap();
    assert_eq!(opened.protocol(), protocol);
    opened
}

/// One connection to a port that echoes and one to a port that refuses.
async fn echo_and_refusal(mut client: Client) {
    for (id, port) in [("0", "80"), ("1", "81")] {
        let place = id.parse::<u32>().unwrap() * 4;
        client.open(place + 1, &[("streamtype", "error"), ("requestid", id), ("port", port)]).await;
        client.open(place + 3, &[("streamtype", "data"), ("requestid", id), ("port", port)]).await;
    }
    client.data(3, b"hello", true).await;
    let (mut echoed, mut error, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    while ended.len() < 4 {
        let (stream, bytes, last) = client.next_data().await.unwrap();
        match stream {
            3 => echoed.extend(bytes),
            5 => error.extend(bytes),
            _ => assert!(bytes.is_empty(), "{stream}"),
        }
        if last {
            ended.push(stream);
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5, 7], "both streams of both connections end");
    assert_eq!(String::from_utf8_lossy(&echoed), "HELLO");
    assert_eq!(String::from_utf8_lossy(&error), "error forwarding port 81: connection refused");
}

#[tokio::test]
async fn channels_carry_data_and_errors_of_each_port() {
    let Channels { sender, mut receiver } = forwarded(Subprotocol::V4, &[80, 81]).await;
    let mut next = async || match receiver.next().await.unwrap().unwrap() {
        Frame::Data { channel, bytes } => (channel, bytes.to_vec()),
        other => panic!("{other:?}"),
    };
    let mut first: Vec<(u8, Vec<u8>)> = Vec::new();
    for _ in 0..5 {
        first.push(next().await);
    }
    first.sort();
    let refused = b"connection refused".to_vec();
    let expected = [(0, vec![80, 0]), (1, vec![80, 0]), (2, vec![81, 0]), (3, vec![81, 0]), (3, refused)];
    assert_eq!(first, expected);
    sender.send(0, b"hello").await.unwrap();
    assert_eq!(next().await, (0, b"HELLO".to_vec()));
}

#[tokio::test]
async fn channels_close_when_the_last_port_has_hung_up() {
    let Channels { sender, mut receiver } = forwarded(Subprotocol::V4, &[79, 81]).await;
    let mut said = Vec::new();
    while let Some(frame) = receiver.next().await {
        match frame.expect("closed in good order") {
            Frame::Data { channel: 0, bytes } => said.extend(bytes),
            other => drop(other),
        }
    }
    assert_eq!(said, b"\x4f\0goodbye");
    drop(sender);
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let Channels { sender, mut receiver } = forwarded(Subprotocol::V4, &[80]).await;
    sender.close().await.unwrap();
    while let Some(frame) = receiver.next().await {
        frame.expect("closed in good order");
    }
}

#[tokio::test]
async fn a_tunnelled_session_carries_connections_by_pairs_of_streams() {
    let channels = forwarded(Subprotocol::SpdyPortForward, &[]).await;
    let Channels { sender, mut receiver } = channels;
    // The client's session, pumped through the messages one byte string at a time.
    let env = System::current();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut read, mut write) = AsyncReadExt::split(far.compat());
    let out = env.spawn(
        "out",
        Box::pin(async move {
            let mut buffer = [0; 11];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                sender.send(0, &buffer[..count]).await.unwrap();
            }
        }),
    );
    let back = env.spawn(
        "back",
        Box::pin(async move {
            while let Some(Ok(Frame::Data { bytes, .. })) = receiver.next().await {
                write.write_all(&bytes).await.unwrap();
            }
        }),
    );
    echo_and_refusal(client(near)).await;
    drop((out, back));
}

#[tokio::test]
async fn a_session_of_its_own_carries_the_same() {
    let env = System::current();
    let request = |version: &str| {
        let request = Request::post("/portForward").header(header::HOST, "node");
        let request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "SPDY/3.1");
        request.header("x-stream-protocol-version", version).body(body::empty()).unwrap()
    };
    match http1::exchange(&env, server(&env, &[]), request("portforward.k8s.io")).await.unwrap() {
        Answer::Upgraded { head, stream } => {
            assert_eq!(head.headers["x-stream-protocol-version"], "portforward.k8s.io");
            echo_and_refusal(client_on(stream)).await;
        }
        Answer::Response(response) => panic!("{}", response.status()),
    }
    match http1::exchange(&env, server(&env, &[]), request("v9.example.com")).await.unwrap() {
        Answer::Response(response) => assert_eq!(response.status(), 403),
        Answer::Upgraded { .. } => panic!("a client that speaks something else is accepted"),
    }
}
