//! A session whose client writes frames by hand.

use futures::io::{ReadHalf, WriteHalf};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::env::System;

/// The client's side: its compression, and the connection.
pub(crate) struct Client {
    headers: HeaderWriter,
    replies: HeaderReader,
    read: ReadHalf<Box<dyn ByteStream>>,
    write: WriteHalf<Box<dyn ByteStream>>,
}

pub(crate) fn client(connection: tokio::io::DuplexStream) -> Client {
    client_on(Box::new(connection.compat()))
}

pub(crate) fn client_on(connection: Box<dyn ByteStream>) -> Client {
    let (read, write) = AsyncReadExt::split(connection);
    Client { headers: HeaderWriter::new(), replies: HeaderReader::new(), read, write }
}

impl Client {
    pub(crate) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        self.headers.write(&headers, &mut payload);
        self.raw(&frame::control(Control::SynStream, 0, &payload)).await;
    }

    pub(crate) async fn data(&mut self, id: u32, bytes: &[u8], last: bool) {
        self.raw(&frame::data(id, bytes, last)).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
    }

    async fn next(&mut self) -> Option<(Frame, Vec<u8>)> {
        let mut head = [0; 8];
        self.read.read_exact(&mut head).await.ok()?;
        let (kind, length) = frame::read_head(&head);
        let mut payload = vec![0; length];
        self.read.read_exact(&mut payload).await.ok()?;
        if let Frame::Control { kind: Control::SynReply, .. } = kind {
            assert_eq!(self.replies.read(&payload[4..]).unwrap(), Vec::new(), "replies say nothing more");
        }
        Some((kind, payload))
    }

    /// The next data frame: stream, bytes, whether it is the last.
    pub(crate) async fn next_data(&mut self) -> Option<(u32, Vec<u8>, bool)> {
        loop {
            match self.next().await? {
                (Frame::Data { stream, last }, bytes) => return Some((stream, bytes, last)),
                (Frame::Control { .. }, _) => {}
            }
        }
    }
}

fn session() -> (Session, Client) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (Session::serve(&System::current(), Box::new(far.compat())), client(near))
}

#[tokio::test]
async fn streams_are_opened_answered_and_ended() {
    let (mut session, mut client) = session();
    client.open(1, &[("Streamtype", "data"), ("port", "80")]).await;
    client.open(3, &[("streamtype", "error")]).await;
    let mut first = session.accept().await.unwrap();
    let second = session.accept().await.unwrap();
    assert_eq!(first.headers, [("streamtype".into(), "data".into()), ("port".to_owned(), "80".to_owned())]);
    assert_eq!(second.headers, [("streamtype".to_owned(), "error".to_owned())]);
    for id in [1, 3] {
        let (kind, payload) = client.next().await.unwrap();
        assert_eq!(kind, Frame::Control { kind: Control::SynReply, last: false });
        assert_eq!(frame::number(&payload), Some(id));
    }
    client.data(1, b"ping", false).await;
    client.data(1, b"", true).await;
    assert_eq!(first.receiver.next().await.unwrap(), "ping");
    assert_eq!(first.receiver.next().await, None);
    let long = vec![7; MAX_SEND_BYTES + 1];
    first.sender.send(&long).await.unwrap();
    first.sender.finish().await.unwrap();
    let mut got = Vec::new();
    loop {
        let (stream, bytes, last) = client.next_data().await.unwrap();
        assert_eq!(stream, 1);
        got.extend(bytes);
        if last {
            break;
        }
    }
    assert_eq!(got, long);
}

#[tokio::test]
async fn a_ping_is_answered_and_a_reset_ends_a_stream() {
    let (mut session, mut client) = session();
    client.raw(&frame::control(Control::Ping, 0, &7u32.to_be_bytes())).await;
    let (kind, payload) = client.next().await.unwrap();
    assert_eq!((kind, payload), (Frame::Control { kind: Control::Ping, last: false }, 7u32.to_be_bytes().to_vec()));
    client.open(1, &[]).await;
    let mut stream = session.accept().await.unwrap();
    client.raw(&frame::control(Control::RstStream, 0, &[0, 0, 0, 1, 0, 0, 0, 5])).await;
    assert_eq!(stream.receiver.next().await, None);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session() {
    let mut bomb = 1u32.to_be_bytes().to_vec();
    bomb.extend([0; 6]);
    HeaderWriter::new().write(&vec![("a".repeat(MAX_FRAME_BYTES), String::new())], &mut bomb);
    let mut garbage = 1u32.to_be_bytes().to_vec();
    garbage.extend([0xff; 40]);
    let rows: [(&str, Vec<u8>); 5] = [
        ("even number", frame::control(Control::SynStream, 0, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0])),
        ("no headers", frame::control(Control::SynStream, 0, &[0, 0, 0, 1])),
        ("garbage", frame::control(Control::SynStream, 0, &garbage)),
        ("huge frame", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("huge headers", frame::control(Control::SynStream, 0, &bomb)),
    ];
    for (name, bytes) in rows {
        let (mut session, mut client) = session();
        client.raw(&bytes).await;
        assert!(session.accept().await.is_none(), "{name}");
    }
}

#[test]
fn the_dictionary_is_the_protocols() {
    let dictionary = headers::dictionary();
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &dictionary {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    // The checksum that stands in every session's first block.
    assert_eq!((dictionary.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
}
