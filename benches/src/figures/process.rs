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

/// The release program, built beside this one.
pub fn release_program() -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let program = here.with_file_name("k8s");
    // The same selection of packages as in the README's commands, so that dependencies are built once.
    let status = Command::new("cargo").args(["build", "--release", "--quiet", "--bin", "k8s"]).status();
    assert!(status.is_ok_and(|status| status.success()), "the release program builds");
    assert!(program.exists(), "{} is there", program.display());
    program
}

/// Asks for `/readyz`, as often as told.
pub struct Prober {
    http: reqwest::Client,
    url: String,
}

impl Prober {
    /// Sends `count` requests, `at_once` of them at a time. Each must succeed.
    pub async fn many(&self, count: usize, at_once: usize) {
        let asks = (0..count).map(|_| async {
            let answer = self.http.get(&self.url).send().await.and_then(reqwest::Response::error_for_status);
            answer.expect("an answer").bytes().await.expect("its body");
        });
        stream::iter(asks).buffer_unordered(at_once).collect::<()>().await;
    }
}

/// One running `k8s up`.
pub struct Server {
    child: Child,
    program: PathBuf,
    folder: TempDir,
    port: u16,
    started: Instant,
}

impl Server {
    /// Starts it on a new folder. With `prepare`, that is called with the folder first.
    pub fn start(program: &Path, more: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("k8s-figures-").tempdir().expect("a folder");
        prepare(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let started = Instant::now();
        let log = fs::File::create(folder.path().with_extension("log")).expect("a log");
        let child = Command::new(program)
            .args(["up", "--secure-port", &port.to_string(), "--data-dir"])
            .arg(folder.path())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Self { child, program: program.into(), folder, port, started }
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
        let env = System::current();
        Client::new(Arc::new(HttpTransport::new(self.config(), env.clone()).expect("a transport")), env)
    }

    /// A plain HTTP client as the administrator, over TLS, for paths that are no resource.
    pub fn prober(&self) -> Prober {
        let config = self.config();
        let tls = tls::client(&System::current(), ServerTrust::Anyone, config.identity.as_ref(), API_PROTOCOLS);
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls.expect("a TLS configuration")).no_proxy();
        Prober { http: http.build().expect("an HTTP client"), url: format!("{}/readyz", config.server) }
    }

    /// The administrator's configuration, which is written when the server is ready, or a moment later.
    fn config(&self) -> Config {
        let path = self.folder.path().join("admin.kubeconfig");
        while !path.exists() && self.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Config::from_kubeconfig(&path, None).expect("a kubeconfig")
    }

    /// User and system time of the process so far.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).unwrap_or_default();
        // The first field is nanoseconds on a processor, but of the main thread only: sum all threads.
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let of_task = |path: PathBuf| -> Option<u64> {
            fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        let sum: u64 = tasks.filter_map(|task| of_task(task.path())).sum();
        assert!(!text.is_empty(), "the process runs: {}", self.log());
        Duration::from_nanos(sum)
    }

    /// Resident memory of the process, in MiB.
    pub fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The benchmark is over: what is left of the cluster goes.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new(&self.program).args(["reset", "--yes", "--data-dir"]).arg(self.folder.path()).output();
        let _ = fs::remove_file(self.folder.path().with_extension("log"));
    }
}
