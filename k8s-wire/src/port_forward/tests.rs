//! Both forms against an echoing port, and one that nobody listens on.

use http::{Request, Response};
use k8s_core::env::Env;

use super::*;
use crate::{
    body::{self, Body},
    env::System,
    serve::{CancellationToken, Peer, Protocol, Server},
    spdy::tests::client,
    websocket::{self, PORT_FORWARD},
};

/// Port 80 echoes in upper case and hangs up after its client; every other port refuses.
fn dial(env: &Env) -> Dial {
    let env = env.clone();
    Arc::new(move |port| {
        let env = env.clone();
        Box::pin(async move {
            if port != 80 {
                return Err("connection refused".to_owned());
            }
            let (near, far) = tokio::io::duplex(1024);
            let (mut read, mut write) = AsyncReadExt::split(far.compat());
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

async fn forwarded(protocol: Subprotocol, ports: &'static [u16]) -> Channels {
    let env = System::current();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let tasks = env.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let tasks = tasks.clone();
        async move {
            let accepted = websocket::accept(&mut request, PORT_FORWARD);
            Ok::<_, std::convert::Infallible>(match accepted {
                Ok((response, opening)) => {
                    let env = tasks.clone();
                    let serving = async move {
                        serve(&env, opening.channels().await.unwrap(), ports, dial(&env)).await;
                    };
                    tasks.spawn("port-forward", Box::pin(serving)).detach();
                    response
                }
                Err(refused) => refused.response(),
            }) as Result<Response<Body>, _>
        }
    });
    let server = Server::new(env.clone(), service);
    let serving = async move {
        server.serve_stream(far, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
    };
    env.spawn("server", Box::pin(serving)).detach();
    let request = Request::get("/portForward").header("host", "node").body(body::empty()).unwrap();
    let opened = websocket::connect(&env, Box::new(near.compat()), request, &[protocol]).await.unwrap();
    assert_eq!(opened.protocol(), protocol);
    opened
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
    let mut client = client(near);
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
    drop((out, back));
}
