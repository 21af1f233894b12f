//! SPDY sessions: the same streams and the same replies however the bytes are cut.

use k8s_wire::spdy::{Session, Stream};

use crate::{quiet::Quiet, stream::Said};

/// What a client sends after the upgrade.
pub fn run(input: &[u8]) {
    let whole = served(input, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(served(input, piece), whole, "in pieces of {piece} bytes");
    }
}

/// A stream's headers and data.
type Heard = (Vec<(String, String)>, Vec<u8>);

/// The streams, and what was replied.
#[derive(Debug, PartialEq)]
struct Outcome {
    streams: Vec<Heard>,
    replies: Vec<u8>,
}

fn served(input: &[u8], piece: usize) -> Outcome {
    let quiet = Quiet::new();
    let said = Said::new(input.to_vec(), piece);
    let written = said.written.clone();
    let streams = quiet.run(async {
        let mut session = Session::serve(&quiet.env, Box::new(said));
        let mut streams = Vec::new();
        let (send, receive) = futures::channel::mpsc::unbounded();
        let accepting = async {
            while let Some(stream) = session.accept().await {
                // Invariant: the other half lives as long as this future.
                drop(send.unbounded_send(stream));
            }
            send.close_channel();
            session.close().await;
        };
        let reading = read_all(receive, &mut streams);
        futures::join!(accepting, reading);
        streams
    });
    let replies = written.lock().clone();
    Outcome { streams, replies }
}

/// Reads all streams at once: one that is not read holds the others back.
async fn read_all(mut streams: futures::channel::mpsc::UnboundedReceiver<Stream>, read: &mut Vec<Heard>) {
    use futures::StreamExt;
    let mut reading = futures::stream::FuturesUnordered::new();
    let mut number = 0;
    let mut done = Vec::new();
    loop {
        futures::select_biased! {
            stream = streams.next() => match stream {
                Some(stream) => {
                    reading.push(one(number, stream));
                    number += 1;
                }
                None => break,
            },
            stream = reading.select_next_some() => done.push(stream),
        }
    }
    while let Some(stream) = reading.next().await {
        done.push(stream);
    }
    done.sort_by_key(|(number, ..)| *number);
    read.extend(done.into_iter().map(|(_, headers, data)| (headers, data)));
}

async fn one(number: usize, mut stream: Stream) -> (usize, Vec<(String, String)>, Vec<u8>) {
    let mut data = Vec::new();
    drop(stream.sender);
    while let Some(piece) = stream.receiver.next().await {
        data.extend_from_slice(&piece);
    }
    (number, stream.headers, data)
}
