//! A SPDY client written by hand, asking over a served connection.

use http::{Method, StatusCode, header};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::{
    body,
    env::System,
    http1::{self, Answer},
    serve::{CancellationToken, Peer, Protocol, Server},
    spdy::tests::{Client, client_on},
};

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: true };

/// Echoes stdin to stdout and sizes to stderr; ends when stdin ends.
async fn echo(env: Env, opening: Opening) {
    let Ok((sender, mut receiver)) = opening.streams(&env).await else { return };
    while let Some(frame) = receiver.next().await {
        match frame {
            Frame::Data { channel: STDIN, bytes } => sender.send(STDOUT, &bytes).await.unwrap(),
            Frame::Data { channel: RESIZE, bytes } => sender.send(STDERR, &bytes).await.unwrap(),
            Frame::Ended(STDIN) => break,
            Frame::Data { .. } | Frame::Ended(_) => {}
        }
    }
    sender.send(ERROR, b"all").await.unwrap();
    sender.close().await.unwrap();
    drop(sender);
    receiver.close(&env).await;
}

async fn ask(env: &Env, wanted: Wanted, version: &str) -> Answer {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let tasks = env.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let env = tasks.clone();
        async move {
            Ok::<_, std::convert::Infallible>(match accept(&mut request, wanted) {
                Ok((response, opening)) => {
                    env.spawn("echo", Box::pin(echo(env.clone(), opening))).detach();
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
    let request = Request::builder().method(Method::POST).uri("/exec").header(header::HOST, "node");
    let request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "SPDY/3.1");
    let request = request.header("x-stream-protocol-version", version).body(body::empty()).unwrap();
    http1::exchange(env, Box::new(near.compat()), request).await.unwrap()
}

async fn upgraded(env: &Env, wanted: Wanted) -> Client {
    match ask(env, wanted, "v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io").await {
        Answer::Upgraded { head, stream } => {
            assert_eq!(head.headers[header::UPGRADE], "SPDY/3.1");
            assert_eq!(head.headers["x-stream-protocol-version"], "v4.channel.k8s.io");
            client_on(stream)
        }
        Answer::Response(response) => panic!("{}", response.status()),
    }
}

#[tokio::test]
async fn each_stream_is_a_channel_and_all_of_them_end() {
    let env = System::current();
    let mut client = upgraded(&env, ALL).await;
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr"), (9, "resize")] {
        client.open(id, &[("streamType", kind)]).await;
    }
    client.data(9, b"{}", false).await;
    assert_eq!(client.next_data().await.unwrap(), (7, b"{}".to_vec(), false));
    client.data(3, b"hello", false).await;
    assert_eq!(client.next_data().await.unwrap(), (5, b"hello".to_vec(), false));
    client.data(3, b"", true).await;
    assert_eq!(client.next_data().await.unwrap(), (1, b"all".to_vec(), false));
    let mut ended = Vec::new();
    while let Some((stream, bytes, last)) = client.next_data().await {
        assert!(bytes.is_empty() && last, "{stream}: {bytes:?}");
        ended.push(stream);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5, 7, 9], "and then the connection is closed");
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_ends_the_session() {
    let env = System::current();
    for kind in ["stdin", "error", "other"] {
        let mut client = upgraded(&env, Wanted { stdin: false, tty: false, ..ALL }).await;
        client.open(1, &[("streamtype", "error")]).await;
        client.open(3, &[("streamtype", kind)]).await;
        assert_eq!(client.next_data().await, None, "{kind}");
    }
}

#[tokio::test]
async fn a_client_that_knows_no_status_is_refused() {
    let env = System::current();
    match ask(&env, ALL, "v1.channel.k8s.io").await {
        Answer::Response(response) => assert_eq!(response.status(), StatusCode::FORBIDDEN),
        Answer::Upgraded { .. } => panic!("accepted"),
    }
}
