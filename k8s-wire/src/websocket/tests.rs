//! Channels over a served connection, both ends ours.

use std::sync::Arc;

use http::{Request, header};
use k8s_core::env::Env;

use super::*;
use crate::{
    body::{self, Body},
    env::System,
    serve::{CancellationToken, Peer, Protocol, Server},
};

/// Echoes what comes on stdin to stdout, says `resized` for a size, and ends when stdin ends.
async fn echo(channels: Channels) {
    let Channels { sender, mut receiver } = channels;
    while let Some(Ok(frame)) = receiver.next().await {
        match frame {
            Frame::Data { channel: STDIN, bytes } => sender.send(STDOUT, &bytes).await.unwrap(),
            Frame::Data { channel: RESIZE, .. } => sender.send(STDERR, b"resized").await.unwrap(),
            Frame::Data { .. } => {}
            Frame::Ended(channel) => {
                sender.send(ERROR, format!("{channel} ended").as_bytes()).await.unwrap();
                sender.close().await.unwrap();
            }
        }
    }
}

fn serve_echo(env: &Env, offered: &'static [Subprotocol]) -> Box<dyn ByteStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let tasks = env.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let tasks = tasks.clone();
        async move {
            Ok::<_, std::convert::Infallible>(match accept(&mut request, offered) {
                Ok((response, opening)) => {
                    let serving = async move { echo(opening.channels().await.unwrap()).await };
                    tasks.spawn("echo", Box::pin(serving)).detach();
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
    Box::new(tokio_util::compat::TokioAsyncReadCompatExt::compat(near))
}

fn request() -> Request<Body> {
    Request::get("/exec").header(header::HOST, "node").body(body::empty()).unwrap()
}

fn data(channel: u8, bytes: &'static [u8]) -> Frame {
    Frame::Data { channel, bytes: Bytes::from_static(bytes) }
}

#[tokio::test]
async fn version_5_carries_channels_and_ends_single_ones() {
    let env = System::current();
    let stream = serve_echo(&env, CHANNELS);
    let Channels { sender, mut receiver } = connect(&env, stream, request(), CHANNELS).await.unwrap();
    assert_eq!(sender.protocol, Subprotocol::V5);
    sender.send(STDIN, b"hello").await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(STDOUT, b"hello"));
    sender.send(RESIZE, br#"{"Width":80,"Height":24}"#).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(STDERR, b"resized"));
    sender.send(STDIN, b"").await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(STDOUT, b""));
    sender.end(STDIN).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(ERROR, b"0 ended"));
    assert!(receiver.next().await.is_none());
}

#[tokio::test]
async fn version_4_has_no_close_signal() {
    let env = System::current();
    let stream = serve_echo(&env, CHANNELS);
    let Channels { sender, mut receiver } = connect(&env, stream, request(), &[Subprotocol::V4]).await.unwrap();
    assert_eq!(sender.protocol, Subprotocol::V4);
    sender.end(STDIN).await.unwrap();
    sender.send(STDIN, b"still open").await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(STDOUT, b"still open"));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_sender() {
    let env = System::current();
    let stream = serve_echo(&env, CHANNELS);
    let Channels { sender, receiver } = connect(&env, stream, request(), CHANNELS).await.unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let flood = async move {
        let block = vec![7; 32 * 1024];
        while sender.send(STDIN, &block).await.is_ok() {
            counter.fetch_add(block.len(), std::sync::atomic::Ordering::Relaxed);
        }
    };
    let task = env.spawn("flood", Box::pin(flood));
    // Both directions fill up, and then nothing moves: wait until the count stands still.
    let mut last = usize::MAX;
    loop {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == last {
            break;
        }
        last = now;
    }
    assert!((1..1024 * 1024).contains(&last), "{last} bytes were taken from a client that reads nothing");
    task.stop().await;
    drop(receiver);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let env = System::current();
    let refusal = |change: fn(&mut Request<Body>), protocols: &'static [Subprotocol]| {
        let (env, stream) = (env.clone(), serve_echo(&env, CHANNELS));
        async move {
            let mut asked = request();
            change(&mut asked);
            match connect(&env, stream, asked, protocols).await.err() {
                Some(ConnectError::Refused { code, text }) => (code, text),
                other => panic!("{other:?}"),
            }
        }
    };
    let (code, text) = refusal(|_| {}, &[Subprotocol::Binary]).await;
    assert!(code == 400 && text.contains("v5.channel.k8s.io"), "{code} {text}");
    let (code, text) = refusal(|request| *request.method_mut() = http::Method::POST, CHANNELS).await;
    assert!(code == 400 && text.contains("GET"), "{code} {text}");
}
