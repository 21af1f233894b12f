//! The real etcd, started beside the store on the same file system, and spoken to in the cheapest way: one gRPC call
//! per put, without any client library.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;

use super::{
    super::usage::Process,
    target::{KEYS, Target, name, value},
};

/// Connections that share the puts, so that none of them is what limits.
const CONNECTIONS: usize = 8;
/// What stands before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// An etcd that runs as long as this value. Its CPU is the server's alone, its callers' does not count.
#[derive(Clone)]
pub struct Etcd {
    server: Arc<Server>,
    connections: Arc<[reqwest::Client]>,
    /// The request that puts each key.
    requests: Arc<[Bytes]>,
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
            requests: (0..KEYS).map(|number| put_request(&name(number), &value())).collect(),
        };
        etcd.wait_until_ready().await;
        Some(etcd)
    }

    async fn wait_until_ready(&self) {
        let start = Instant::now();
        while let Err(error) = self.try_put(0).await {
            assert!(start.elapsed() < Duration::from_secs(20), "etcd is not ready: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_put(&self, key: usize) -> Result<(), String> {
        let request = self.connections[key % CONNECTIONS]
            .post(format!("{}/etcdserverpb.KV/Put", self.server.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(self.requests[key % KEYS].clone());
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        // A refusal is told in trailers, without a message; a success always has one.
        if body.len() > PREFIX { Ok(()) } else { Err("etcd refused a put".into()) }
    }
}

impl Target for Etcd {
    async fn put(&self, key: usize) {
        self.try_put(key).await.expect("a put");
    }

    fn cpu(&self) -> Duration {
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

/// `PutRequest` as a message of gRPC: the key is field 1, the value field 2.
fn put_request(key: &str, value: &[u8]) -> Bytes {
    let mut message = vec![0; PREFIX];
    for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value)] {
        message.push(tag);
        push_varint(bytes.len(), &mut message);
        message.extend_from_slice(bytes);
    }
    let length = u32::try_from(message.len() - PREFIX).expect("a put is small");
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.into()
}

fn push_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
