//! A KMS plugin: called in process, or a real one on a Unix socket. It speaks the protocol by numbers of its own.
#![allow(clippy::disallowed_methods)] // The socket's tasks and clock are the test's own.

use std::{collections::BTreeMap, convert::Infallible, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_core::seam::grpc::{GrpcCaller, GrpcError};
use parking_lot::Mutex;
use tokio::{net::UnixListener, task::JoinHandle};

use crate::storage::EncryptionKey;

/// Where the plugin in this process is asked.
pub const ENDPOINT: &str = "unix:///in/process";
/// What it wants to see again with everything that it encrypted.
const ANNOTATION: (&str, &[u8]) = ("version.example.com", b"1");

/// A plugin, and what it was asked.
pub struct Plugin(Mutex<State>);

struct State {
    key_id: String,
    /// The keys that it still has.
    keys: Vec<String>,
    healthz: String,
    away: bool,
    calls: BTreeMap<String, usize>,
}

impl Plugin {
    pub fn new(key_id: &str) -> Arc<Self> {
        let (key_id, healthz) = (key_id.to_owned(), "ok".to_owned());
        let keys = vec![key_id.clone()];
        Arc::new(Self(Mutex::new(State { key_id, keys, healthz, away: false, calls: BTreeMap::new() })))
    }

    pub fn rotate(&self, key_id: &str) {
        let mut state = self.0.lock();
        state.key_id = key_id.into();
        state.keys.push(key_id.into());
    }

    pub fn forget(&self, key_id: &str) {
        self.0.lock().keys.retain(|key| key != key_id);
    }

    pub fn says(&self, healthz: &str) {
        self.0.lock().healthz = healthz.into();
    }

    pub fn is_away(&self, away: bool) {
        self.0.lock().away = away;
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        self.0.lock().calls.get(method).copied().unwrap_or_default()
    }

    /// The answer, or a status code and a text.
    fn answer(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, (u32, String)> {
        let mut state = self.0.lock();
        let method = method.strip_prefix("/v2.KeyManagementService/").ok_or((12, "no such service".to_owned()))?;
        *state.calls.entry(method.into()).or_default() += 1;
        let fields = fields(message);
        match method {
            "Status" => {
                Ok([field(1, b"v2"), field(2, state.healthz.as_bytes()), field(3, state.key_id.as_bytes())].concat())
            }
            "Encrypt" => {
                assert!(!fields[&2].is_empty(), "a request has an id");
                let mut sealed = Vec::new();
                key(&state.key_id).seal("kms", &fields[&1], &mut sealed).unwrap();
                let annotation = [field(1, ANNOTATION.0.as_bytes()), field(2, ANNOTATION.1)].concat();
                Ok([field(1, &sealed), field(2, state.key_id.as_bytes()), field(3, &annotation)].concat())
            }
            "Decrypt" => {
                let key_id = String::from_utf8(fields[&3].clone()).unwrap();
                let annotation = self::fields(&fields[&4]);
                assert_eq!((&annotation[&1][..], &annotation[&2][..]), (ANNOTATION.0.as_bytes(), ANNOTATION.1));
                if !state.keys.contains(&key_id) {
                    return Err((3, format!("there is no key {key_id}")));
                }
                let plain = key(&key_id).open("kms", &fields[&1]).ok_or((3, "altered".to_owned()))?;
                Ok(field(1, &plain))
            }
            _ => Err((12, "no such method".into())),
        }
    }
}

/// The plugin's key of a name.
fn key(name: &str) -> EncryptionKey {
    let byte = name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    EncryptionKey::new("kms", &[byte; 32]).unwrap()
}

/// A field of bytes, shorter than 16 kB.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let head = if length < 128 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    [&[number << 3 | 2][..], &head, value].concat()
}

/// The fields of a message that has bytes only.
fn fields(mut message: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut fields = BTreeMap::new();
    while let [tag, rest @ ..] = message {
        assert_eq!(tag & 7, 2);
        let (length, rest) = match rest {
            [low, high, rest @ ..] if low & 0x80 != 0 => (usize::from(low & 0x7f) | usize::from(*high) << 7, rest),
            [length, rest @ ..] => (usize::from(*length), rest),
            [] => panic!("cut off"),
        };
        fields.insert(tag >> 3, rest[..length].to_vec());
        message = &rest[length..];
    }
    fields
}

#[async_trait]
impl GrpcCaller for Plugin {
    async fn call(&self, endpoint: &str, method: &str, _: Duration, message: Bytes) -> Result<Bytes, GrpcError> {
        assert_eq!(endpoint, ENDPOINT);
        if self.0.lock().away {
            return Err(GrpcError::Unreachable { endpoint: endpoint.into(), why: "connection refused".into() });
        }
        let answer = self.answer(method, &message).map(Bytes::from);
        answer.map_err(|(code, text)| GrpcError::Status { endpoint: endpoint.into(), code, text })
    }
}

/// A plugin that listens, until it is dropped.
pub struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a plugin by gRPC on a socket.
pub fn listen(plugin: Arc<Plugin>, socket: &Path) -> Listening {
    let listener = UnixListener::bind(socket).unwrap();
    Listening(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let plugin = plugin.clone();
            let serve = service_fn(move |request| answered(plugin.clone(), request));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), serve);
            tokio::spawn(async move { drop(connection.await) });
        }
    }))
}

type Frames = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answered(plugin: Arc<Plugin>, request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body[0], 0, "not compressed");
    assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match plugin.answer(&path, &body[5..]) {
        Ok(message) => {
            let mut framed = BytesMut::from(&[0][..]);
            framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
            framed.extend_from_slice(&message);
            // In two pieces, as it may come.
            let rest = framed.split_off(3);
            frames.extend([framed, rest].map(|part| Ok(Frame::data(part.freeze()))));
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        Err((code, text)) => {
            trailers.insert("grpc-status", HeaderValue::from(code));
            trailers.insert("grpc-message", text.replace(' ', "%20").parse().unwrap());
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
