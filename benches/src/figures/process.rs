//! The program under measurement: starting it, reaching it, and reading what it used.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s::{
    Credentials,
    core::env::Env,
    reconcile::Client,
    wire::{
        body,
        client::{Config, HttpTransport},
        env::System,
        http1,
        tls::{self, API_PROTOCOLS, ServerTrust},
    },
};
use tempfile::TempDir;

use super::usage::Process;

/// A release program, built beside this one.
pub fn release_program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let program = here.with_file_name(name);
    // The same selection of packages as in the README's commands, so that dependencies are built once.
    let status = Command::new("cargo").args(["build", "--release", "--quiet", "--bin", name]).status();
    assert!(status.is_ok_and(|status| status.success()), "the release program builds");
    assert!(program.exists(), "{} is there", program.display());
    program
}

/// A plain HTTP client as the administrator, over TLS: its connections are its own.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    server: String,
}

impl Http {
    /// The beginning of an answer, which must be a success.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        let answer = self.client.get(format!("{}{path}", self.server)).send().await;
        answer.and_then(reqwest::Response::error_for_status).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Reads an answer to its end and throws it away; its length.
    pub async fn read(&self, path: &str) -> usize {
        let mut answer = self.get(path).await;
        let mut length = 0;
        while let Some(piece) = answer.chunk().await.unwrap_or_else(|error| panic!("{path}: {error}")) {
            length += piece.len();
        }
        length
    }

    /// Asks for a path `count` times, `at_once` of them at a time.
    pub async fn many(&self, path: &str, count: usize, at_once: usize) {
        stream::iter((0..count).map(|_| self.read(path))).buffer_unordered(at_once).for_each(|_| async {}).await;
    }
}

/// One running `k8s up`, or `kube-apiserver` alone.
pub struct Server {
    child: Child,
    /// What takes everything away that it left on the machine, if it leaves anything.
    reset: Option<PathBuf>,
    folder: TempDir,
    port: u16,
    started: Instant,
}

impl Server {
    /// Starts everything in one on a new folder, which is handed to `prepare` first.
    pub fn start(program: &Path, more: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = new_folder();
        prepare(folder.path());
        let arguments = ["up"].iter().chain(more).map(ToString::to_string).collect();
        Self::run(program, arguments, folder, Some(program.into()))
    }

    /// Starts the API server alone on a new folder, with the flags that `prepare` makes of it.
    pub fn start_alone(program: &Path, prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = new_folder();
        let flags = prepare(folder.path());
        Self::run(program, flags, folder, None)
    }

    fn run(program: &Path, arguments: Vec<String>, folder: TempDir, reset: Option<PathBuf>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let started = Instant::now();
        let log = fs::File::create(folder.path().with_extension("log")).expect("a log");
        let child = Command::new(program)
            .args(arguments)
            .args(["--secure-port", &port.to_string(), "--data-dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Self { child, reset, folder, port, started }
    }

    /// Resolves when `/readyz` answers 200; the time since exec.
    pub async fn ready(&self) -> Duration {
        let env = System::current();
        loop {
            if self.is_ready(&env).await {
                return self.started.elapsed();
            }
            assert!(self.started.elapsed() < Duration::from_secs(30), "not ready: {}", self.log());
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    async fn is_ready(&self, env: &Env) -> bool {
        let Ok(dialer) = k8s::wire::client::Dialer::new(env.clone(), ServerTrust::Anyone, None) else { return false };
        let Ok(stream) = dialer.dial("127.0.0.1", self.port, "localhost").await else { return false };
        let request = http::Request::get("/readyz").header("host", "localhost").body(body::empty());
        let Ok(request) = request else { return false };
        match http1::exchange(env, stream, request).await {
            Ok(http1::Answer::Response(answer)) => answer.status() == 200,
            _ => false,
        }
    }

    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A client as the administrator, over TLS.
    pub fn client(&self) -> Client {
        client(self.config())
    }

    /// A client as somebody else, over TLS.
    pub fn client_as(&self, user: &str) -> Client {
        let Config { server, .. } = self.config();
        let credentials = Credentials::load_or_generate(&self.folder.path().join("pki"), &System::current());
        let text =
            credentials.and_then(|credentials| credentials.kubeconfig(&server, user, &[])).expect("a kubeconfig");
        let path = self.folder.path().join("user.kubeconfig");
        fs::write(&path, text).expect("the kubeconfig is written");
        client(Config::from_kubeconfig(&path, None).expect("a kubeconfig"))
    }

    /// A plain HTTP client as the administrator, with connections of its own.
    pub fn http(&self) -> Http {
        let config = self.config();
        let tls = tls::client(&System::current(), ServerTrust::Anyone, config.identity.as_ref(), API_PROTOCOLS);
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls.expect("a TLS configuration")).no_proxy();
        Http { client: http.build().expect("an HTTP client"), server: config.server }
    }

    /// The administrator's configuration, which is written when the server is ready, or a moment later.
    fn config(&self) -> Config {
        let path = self.folder.path().join("admin.kubeconfig");
        while !path.exists() && self.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Config::from_kubeconfig(&path, None).expect("a kubeconfig")
    }

    /// The process, to see what it uses.
    pub fn process(&self) -> Process {
        Process::numbered(self.child.id())
    }

    /// Resolves when the process has had almost nothing to do for a moment.
    pub async fn quiet(&self) {
        const MOMENT: Duration = Duration::from_millis(300);
        let start = Instant::now();
        loop {
            let before = self.process().cpu();
            tokio::time::sleep(MOMENT).await;
            if self.process().cpu() - before < MOMENT / 50 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the server has things to do all the time");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().with_extension("log")).unwrap_or_default()
    }
}

fn new_folder() -> TempDir {
    tempfile::Builder::new().prefix("k8s-figures-").tempdir().expect("a folder")
}

fn client(config: Config) -> Client {
    let env = System::current();
    Client::new(Arc::new(HttpTransport::new(config, env.clone()).expect("a transport")), env)
}

impl Drop for Server {
    fn drop(&mut self) {
        // The benchmark is over: what is left of the cluster goes.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(program) = &self.reset {
            let _ = Command::new(program).args(["reset", "--yes", "--data-dir"]).arg(self.folder.path()).output();
        }
        let _ = fs::remove_file(self.folder.path().with_extension("log"));
    }
}
