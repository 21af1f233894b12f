//! Floods of HTTP/2 frames, written by hand.

use std::sync::atomic::AtomicUsize;

use tokio::io::DuplexStream;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET https://x/`, in the fewest bytes.
const GET: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'x'];
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
/// The end of the headers, and of the request.
const WHOLE: u8 = 5;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The kinds and payloads of whole frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        found.push((bytes[3], payload));
        bytes = &bytes[9 + length..];
    }
    found
}

/// The client's end of a connection to a server that never answers, and how often it was asked.
fn silent() -> (DuplexStream, Arc<AtomicUsize>, env::Task) {
    let env = System::current();
    let (near, far) = tokio::io::duplex(16 * 1024);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let service = tower::service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    });
    let server = Server::new(env.clone(), service);
    let serving =
        async move { server.serve_stream(far, Peer::default(), Protocol::Http2, CancellationToken::new()).await };
    let task = env.spawn("stream", Box::pin(serving));
    (near, asked, task)
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_takes_back_over_and_over_is_sent_away() {
    const TIMES: u32 = 10_000;
    let (near, asked, _server) = silent();
    let mut flood = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for stream in (1..).step_by(2).take(TIMES as usize) {
        flood.extend(frame(HEADERS, WHOLE, stream, GET));
        flood.extend(frame(RESET, 0, stream, &CANCEL));
    }
    let (mut read, mut write) = tokio::io::split(near);
    let mut told = Vec::new();
    let (flooded, ended) = tokio::join!(write.write_all(&flood), read.read_to_end(&mut told));
    assert!(flooded.is_err() && ended.is_ok(), "the server hangs up in the middle: {flooded:?} {ended:?}");
    let (kind, payload) = *frames(&told).last().unwrap();
    assert_eq!((kind, &payload[4..8]), (GO_AWAY, &ENHANCE_YOUR_CALM[..]));
    assert!(asked.load(Ordering::Relaxed) < TIMES as usize / 10, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn who_sends_settings_and_reads_no_answer_is_not_read_any_more() {
    let (mut near, _, _server) = silent();
    let env = System::current();
    let flood = [PREFACE, &frame(SETTINGS, 0, 0, &[]).repeat(1_000_000)].concat();
    let mut sent = 0;
    let flooding = async {
        while sent < flood.len() {
            sent += near.write(&flood[sent..]).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::pin!(flooding);
    assert!(env::timeout(&*env, Duration::from_secs(5), &mut flooding).await.is_none(), "the server goes on reading");
    // It asks nothing, either: the connection ends as any does that asks nothing.
    let ended = env::timeout(&*env, Duration::from_secs(60), &mut flooding).await.expect("the connection ends");
    assert!(ended.is_err());
    assert!(sent < 1024 * 1024, "{sent} bytes were taken");
}
