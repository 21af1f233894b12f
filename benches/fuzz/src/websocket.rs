//! WebSockets with channels: the same frames however the bytes are cut.

use std::sync::Arc;

use http::Request;
use k8s_wire::{
    body::Body,
    serve::{CancellationToken, Peer, Protocol, Server},
    websocket::{CHANNELS, Frame, Receiver, Subprotocol, accept},
};
use parking_lot::Mutex;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::{quiet::Quiet, stream::Said};

/// A letter chooses the version, then comes what a client sends after the upgrade.
pub fn run(input: &[u8]) {
    let [version, frames @ ..] = input else { return };
    let protocol = if *version == b'5' { Subprotocol::V5 } else { Subprotocol::V4 };
    let whole = served(protocol, frames, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(served(protocol, frames, piece), whole, "in pieces of {piece} bytes");
    }
}

/// The data of each channel in order, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    frames: Vec<Frame>,
    broken: bool,
}

fn served(protocol: Subprotocol, frames: &[u8], piece: usize) -> Outcome {
    let quiet = Quiet::new();
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let (tasks, seen) = (quiet.env.clone(), outcome.clone());
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let (tasks, seen) = (tasks.clone(), seen.clone());
        async move {
            Ok::<_, std::convert::Infallible>(match accept(&mut request, CHANNELS) {
                Ok((response, opening)) => {
                    let reading = async move {
                        if let Ok(channels) = opening.channels().await {
                            read(channels.receiver, &seen).await;
                        }
                    };
                    tasks.spawn("read", Box::pin(reading)).detach();
                    response
                }
                Err(refused) => panic!("the upgrade was refused: {}", refused.message),
            })
        }
    });
    let mut bytes = format!(
        "GET /exec HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: {}\r\n\r\n",
        protocol.as_str()
    )
    .into_bytes();
    bytes.extend_from_slice(frames);
    let server = Server::new(quiet.env.clone(), service);
    quiet.run(async {
        let said = Said::new(bytes, piece).compat();
        server.serve_stream(said, Peer::default(), Protocol::Http1, CancellationToken::new()).await;
        // The reader of the frames is the last to hold what it saw.
        while Arc::strong_count(&outcome) > 2 {
            tokio::task::yield_now().await;
        }
    });
    std::mem::take(&mut *outcome.lock())
}

async fn read(mut receiver: Receiver, seen: &Mutex<Outcome>) {
    while let Some(next) = receiver.next().await {
        match next {
            Ok(frame) => seen.lock().frames.push(frame),
            Err(_) => {
                seen.lock().broken = true;
                return;
            }
        }
    }
}
