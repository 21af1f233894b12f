//! Programs under test, and who asks them.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use k8s::{Credentials, wire::env::System};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, process::Child};

/// The longest that anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a program says that ends at once with this code; one line.
pub fn refusal(program: &str, arguments: &[&str], code: i32) -> String {
    let Output { status, stderr, .. } = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{arguments:?}: {text}");
    // What the parser of arguments says has a hint on how to get help below.
    let first = text.lines().next().unwrap_or_default().to_owned();
    assert!(code == 2 || text.lines().count() == 1, "{arguments:?}: {text}");
    first
}

/// A running program; killed when the test ends, however it ends.
pub struct Program(Child);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: std::process::ExitStatus,
    /// What it said on standard error.
    pub text: String,
}

impl Program {
    /// Starts it.
    pub fn start(path: &str, arguments: &[String]) -> Self {
        let mut command = tokio::process::Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.0.id().expect("it has not been waited for");
        kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ended {
        let mut text = String::new();
        let read = self.0.stderr.take().unwrap().read_to_string(&mut text).await.map(drop);
        let status = tokio::time::timeout(PATIENCE, self.0.wait()).await.expect("it ends").unwrap();
        read.unwrap();
        Ended { status, text }
    }
}

/// A `kube-apiserver` in a folder of its own.
pub struct ApiServer {
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    _program: Program,
}

impl ApiServer {
    /// Starts one, and waits until it is ready.
    pub async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let arguments =
            ["--data-dir".into(), folder.path().display().to_string(), "--secure-port".into(), port.to_string()];
        let program = Program::start(env!("CARGO_BIN_EXE_kube-apiserver"), &arguments);
        let api = Self { port, folder, _program: program };
        let admin = api.folder.path().join("admin.kubeconfig");
        let stranger = Asker::stranger();
        let is_ready = async || (admin.exists() && stranger.text(port, "/readyz").await.is_ok()).then_some(());
        stranger.until("the API server is ready", is_ready).await;
        api
    }

    /// The flags of a component of this cluster, with a port of its own.
    pub fn component(&self, name: &str, port: u16) -> Vec<String> {
        let data = self.folder.path().display();
        vec![
            format!("--kubeconfig={data}/{name}.kubeconfig"),
            format!("--client-ca-file={data}/pki/ca.crt"),
            format!("--secure-port={port}"),
        ]
    }

    /// Asks as the administrator.
    pub fn admin(&self) -> Asker {
        let credentials = Credentials::load_or_generate(&self.pki(), &System::current()).unwrap();
        let identity = credentials.client("root", &["system:masters"]).unwrap();
        Asker::new(Some(identity.certificate_pem + &identity.key_pem))
    }

    fn pki(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join("pki")
    }

    /// Asks as nobody.
    pub fn stranger(&self) -> Asker {
        Asker::stranger()
    }
}

/// Somebody who asks programs on this machine over HTTPS, whatever their certificates are.
#[derive(Clone)]
pub struct Asker {
    http: reqwest::Client,
    token: Option<String>,
}

/// What came instead of a good answer: its code (0 if there was none) and its text.
pub type Refused = (u16, String);

impl Asker {
    /// Somebody without credentials.
    pub fn stranger() -> Self {
        Self::new(None)
    }

    fn new(identity_pem: Option<String>) -> Self {
        let mut builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
        builder = builder.timeout(Duration::from_secs(10));
        if let Some(pem) = identity_pem {
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        Self { http: builder.build().unwrap(), token: None }
    }

    /// The same with a bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// What a path says.
    pub async fn text(&self, port: u16, path: &str) -> Result<String, Refused> {
        self.send(self.http.get(format!("https://127.0.0.1:{port}{path}"))).await
    }

    /// Creates an object; it must work.
    pub async fn create(&self, port: u16, path: &str, object: &str) -> String {
        let request = self.http.post(format!("https://127.0.0.1:{port}{path}"));
        self.send(request.header("content-type", "application/json").body(object.to_owned())).await.unwrap()
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<String, Refused> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| (0, format!("{error:?}")))?;
        let code = answer.status();
        let text = answer.text().await.map_err(|error| (0, error.to_string()))?;
        if code.is_success() { Ok(text) } else { Err((code.as_u16(), text)) }
    }

    /// Tries until there is something.
    pub async fn until<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
