//! The real etcd, started on the same file system as what it is compared with, and spoken to in the cheapest way: plain
//! gRPC calls, without any client library.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tempfile::TempDir;

use super::usage::Process;

/// Connections that share the calls, so that none of them is what limits.
const CONNECTIONS: usize = 8;
/// What stands before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// An etcd that runs as long as this value. Its CPU is the server's alone, its callers' does not count.
#[derive(Clone)]
pub struct Etcd {
    server: Arc<Server>,
    connections: Arc<[reqwest::Client]>,
}

struct Server {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Etcd {
    /// Starts one; `None` if the program is not installed.
    pub async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (url, peer) = (free_url(), free_url());
        let spawned = Command::new("etcd")
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .args(["--quota-backend-bytes", "8589934592", "--log-level", "error", "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match spawned {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            spawned => spawned.expect("etcd starts"),
        };
        let connect = || reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
        let etcd = Self {
            server: Arc::new(Server { child, url, _folder: folder }),
            connections: (0..CONNECTIONS).map(|_| connect()).collect(),
        };
        etcd.wait_until_ready().await;
        Some(etcd)
    }

    async fn wait_until_ready(&self) {
        let start = Instant::now();
        let nothing = Message::default().bytes(1, b"nothing").framed();
        while let Err(error) = self.try_call(0, "KV/Range", nothing.clone()).await {
            assert!(start.elapsed() < Duration::from_secs(20), "etcd is not ready: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls a method on one of the connections, which must answer with a message.
    pub async fn call(&self, connection: usize, method: &str, request: Bytes) -> Bytes {
        self.try_call(connection, method, request).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&self, connection: usize, method: &str, request: Bytes) -> Result<Bytes, String> {
        let answer = self.request(connection, method, request.into()).await?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        // A refusal is told in trailers, without a message; a success always has one.
        if body.len() > PREFIX { Ok(body.slice(PREFIX..)) } else { Err("etcd refused".into()) }
    }

    /// Calls a method that answers with a stream; what comes, as it comes. The request stays open as long as the answer
    /// is read.
    pub async fn stream(
        &self,
        connection: usize,
        method: &str,
        request: Bytes,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let open = stream::iter([Ok::<_, std::io::Error>(request)]).chain(stream::pending());
        let answer = self.request(connection, method, reqwest::Body::wrap_stream(open)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
        answer.bytes_stream().map(|piece| piece.expect("the stream goes on"))
    }

    async fn request(&self, connection: usize, method: &str, body: reqwest::Body) -> Result<reqwest::Response, String> {
        let request = self.connections[connection % CONNECTIONS]
            .post(format!("{}/etcdserverpb.{method}", self.server.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body);
        request.send().await.map_err(|error| error.to_string())
    }

    /// CPU so far.
    pub fn cpu(&self) -> Duration {
        Process::numbered(self.server.child.id()).cpu()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_url() -> String {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    format!("http://127.0.0.1:{port}")
}

/// A message of protobuf that is being written.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A field of bytes, text or a message.
    pub fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        push_varint(bytes.len(), &mut self.0);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A field of a number.
    pub fn number(mut self, field: u8, number: usize) -> Self {
        self.0.push(field << 3);
        push_varint(number, &mut self.0);
        self
    }

    /// A field of a message.
    pub fn message(self, field: u8, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// The message as gRPC sends it.
    pub fn framed(self) -> Bytes {
        let length = u32::try_from(self.0.len()).expect("a message is small");
        [&[0], &length.to_be_bytes()[..], &self.0].concat().into()
    }
}

/// `PutRequest`.
pub fn put(key: &str, value: &[u8]) -> Message {
    Message::default().bytes(1, key.as_bytes()).bytes(2, value)
}

fn push_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
