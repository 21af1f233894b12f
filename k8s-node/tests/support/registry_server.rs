//! A registry on the loopback interface, with the faults that real ones have.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_node::image::archive::ImageBuilder;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

/// The registry; it ends with the value.
pub struct Registry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// By path: media type and content.
    content: BTreeMap<String, (String, Vec<u8>)>,
    /// What goes wrong next with a path that contains the text. Each happens once.
    faults: Vec<(String, Fault)>,
    log: Vec<String>,
    auth: Auth,
    address: String,
}

/// What goes wrong.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Refuses with this status and these seconds in `Retry-After`.
    Busy(u16, u32),
    /// Ends the connection after so many bytes.
    Cut(usize),
    /// Says nothing more after so many bytes.
    Silent(usize),
    /// Changes one byte.
    Damage,
    /// Sends one byte more.
    Longer,
}

/// Who may pull.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Auth {
    #[default]
    Anyone,
    /// `user`, `pass` with each request.
    Basic,
    /// A token, for `user`, `pass`.
    Token,
    /// A token, for anybody.
    AnonymousToken,
}

pub fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    pub async fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), None).await
    }

    pub async fn start_on(address: IpAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { address: address.to_string(), ..State::default() }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, task }
    }

    /// A name of an image here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub fn require(&self, auth: Auth) {
        self.state.lock().auth = auth;
    }

    pub fn fail(&self, path: &str, fault: Fault) {
        self.state.lock().faults.push((path.to_owned(), fault));
    }

    /// What was asked since the last time, sorted.
    pub fn asked(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.state.lock().log);
        log.sort();
        log
    }

    /// The blobs that were asked for since the last time.
    pub fn loaded(&self) -> usize {
        self.asked().iter().filter(|line| line.contains("/blobs/")).count()
    }

    pub fn put(&self, path: &str, media_type: &str, content: &[u8]) {
        self.state.lock().content.insert(path.to_owned(), (media_type.to_owned(), content.to_vec()));
    }

    /// Publishes an image as `repository:tag`, behind an index. Answers the index's digest.
    pub fn push(&self, repository: &str, tag: &str, image: &ImageBuilder) -> String {
        let folder = tempfile::tempdir().unwrap();
        image.write_oci_layout(folder.path()).unwrap();
        for blob in std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap() {
            let content = std::fs::read(blob.unwrap().path()).unwrap();
            let digest = digest(&content);
            if content.starts_with(br#"{"schemaVersion""#) {
                let media_type = "application/vnd.oci.image.manifest.v1+json";
                self.put(&format!("/v2/{repository}/manifests/{digest}"), media_type, &content);
            }
            self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", &content);
        }
        let index = std::fs::read(folder.path().join("index.json")).unwrap();
        self.tag(repository, tag, "application/vnd.oci.image.index.v1+json", &index)
    }

    /// Publishes a manifest or an index by tag and digest.
    pub fn tag(&self, repository: &str, tag: &str, media_type: &str, content: &[u8]) -> String {
        let digest = digest(content);
        for name in [tag, &digest] {
            self.put(&format!("/v2/{repository}/manifests/{name}"), media_type, content);
        }
        digest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a client that wants TLS begins.
const TLS_HANDSHAKE: u8 = 0x16;

struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        if head == [TLS_HANDSHAKE] {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Asked { method, path, headers })
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Answer {
    fn refusal(status: u16, code: &str, headers: Vec<String>) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"said the registry"}}]}}"#);
        Self { status, headers, body: body.into(), fault: None }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let answer = answer(&asked, &mut state.lock());
    let Answer { status, headers, mut body, fault } = answer;
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head += &format!("{header}\r\n");
    }
    let sent = match fault {
        Some(Fault::Cut(length) | Fault::Silent(length)) => length.min(body.len()),
        _ => body.len(),
    };
    body.truncate(if asked.method == "HEAD" { 0 } else { sent });
    // Who has enough hangs up.
    let _ = stream.write_all((head + "\r\n").as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.flush().await;
    if matches!(fault, Some(Fault::Silent(_))) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let _ = stream.shutdown().await;
}

fn answer(asked: &Asked, state: &mut State) -> Answer {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let range = asked.headers.get("range").map(|range| format!(" {range}")).unwrap_or_default();
    state.log.push(format!("{} {path}{range}", asked.method));
    let given = asked.headers.get("authorization").map(String::as_str).unwrap_or_default();
    // user:pass
    let known = given == "Basic dXNlcjpwYXNz";
    if path == "/token" {
        assert!(query.contains("service=here"), "{query}");
        assert!(query.contains("scope=repository%3A"), "{query}");
        return match known || state.auth == Auth::AnonymousToken {
            true => Answer { status: 200, headers: vec![], body: br#"{"token":"good"}"#.into(), fault: None },
            false => Answer::refusal(401, "UNAUTHORIZED", vec![]),
        };
    }
    let allowed = match state.auth {
        Auth::Anyone => true,
        Auth::Basic => known,
        Auth::Token | Auth::AnonymousToken => given == "Bearer good",
    };
    if !allowed {
        let realm = format!(r#"Bearer realm="http://{}/token",service="here""#, state.address);
        let challenge = if state.auth == Auth::Basic { r#"Basic realm="here""#.to_owned() } else { realm };
        return Answer::refusal(401, "UNAUTHORIZED", vec![format!("WWW-Authenticate: {challenge}")]);
    }
    let place = state.faults.iter().position(|(part, _)| asked.method == "GET" && path.contains(part.as_str()));
    let fault = place.map(|place| state.faults.remove(place).1);
    if let Some(Fault::Busy(status, wait)) = fault {
        return Answer::refusal(status, "TOOMANYREQUESTS", vec![format!("Retry-After: {wait}")]);
    }
    let Some((media_type, content)) = state.content.get(path) else {
        return Answer::refusal(404, "MANIFEST_UNKNOWN", vec![]);
    };
    let mut headers = vec![format!("Content-Type: {media_type}")];
    if path.contains("/manifests/") {
        headers.push(format!("Docker-Content-Digest: {}", digest(content)));
    }
    let mut body = content.clone();
    match fault {
        Some(Fault::Damage) => body[0] ^= 1,
        Some(Fault::Longer) => body.push(0),
        _ => {}
    }
    let start =
        asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        Some(start) => {
            headers.push(format!("Content-Range: bytes {start}-{}/{}", body.len() - 1, body.len()));
            Answer { status: 206, headers, body: body.split_off(start), fault }
        }
        None => Answer { status: 200, headers, body, fault },
    }
}
