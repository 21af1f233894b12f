//! One process of etcd, which ends with the test's process however that ends.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The shell ends etcd when it is told to or when the pipe from the test closes. The latter is the end of the test's
/// process, however that came: nothing is left behind.
const WRAPPER: &str = r#"etcd "$@" >>"$FOLDER/log" 2>&1 & echo $!
    read -r _; told=$?; kill -9 $!; wait; [ $told = 0 ] || rm -rf "$FOLDER""#;

pub struct Member {
    pub client: u16,
    pub peer: u16,
    name: String,
    host: Ipv4Addr,
    /// The network namespace that it runs in, if it is not the test's.
    namespace: Option<String>,
    folder: TempDir,
    arguments: Vec<String>,
    running: Option<(Child, Pid)>,
}

impl Member {
    /// A member that serves alone.
    pub fn alone() -> Self {
        let mut member = Self::new("alone", &[]);
        let cluster = member.in_cluster();
        member.start(&cluster);
        member.wait_until_it_listens();
        member
    }

    /// A member with free ports, not running. `arguments` are added to the usual ones.
    pub fn new(name: &str, arguments: &[&str]) -> Self {
        let available = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(available.is_ok_and(|status| status.success()), "no program etcd: run ./test.sh setup");
        let folder = tempfile::tempdir().expect("a folder");
        let [client, peer] = free_ports();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let (host, namespace) = (Ipv4Addr::LOCALHOST, None);
        Self { client, peer, name: name.into(), host, namespace, folder, arguments, running: None }
    }

    /// A member in a network namespace of its name, in which it has the address `host`; not running.
    pub fn inside(name: &str, host: Ipv4Addr) -> Self {
        let mut member = Self::new(name, &[]);
        (member.host, member.namespace) = (host, Some(name.into()));
        member
    }

    /// Three members of one cluster, running.
    pub fn three() -> [Self; 3] {
        let mut members = ["one", "two", "three"].map(|name| Self::new(name, &[]));
        Self::start_all(&mut members);
        members
    }

    /// Starts the members of one cluster.
    pub fn start_all(members: &mut [Self]) {
        let cluster = members.iter().map(Self::in_cluster).collect::<Vec<_>>().join(",");
        for member in &mut *members {
            member.start(&cluster);
        }
        members.iter().for_each(Self::wait_until_it_listens);
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.host, self.client)
    }

    /// How the member is named among the initial ones.
    pub fn in_cluster(&self) -> String {
        format!("{}=http://{}:{}", self.name, self.host, self.peer)
    }

    pub fn start(&mut self, cluster: &str) {
        let scheme = if self.arguments.iter().any(|argument| argument == "--cert-file") { "https" } else { "http" };
        let (client, peer) =
            (format!("{scheme}://{}:{}", self.host, self.client), format!("http://{}:{}", self.host, self.peer));
        let mut command = Command::new(if self.namespace.is_some() { "ip" } else { "sh" });
        if let Some(namespace) = &self.namespace {
            command.args(["netns", "exec", namespace, "sh"]);
        }
        command.env("FOLDER", self.folder.path()).args(["-c", WRAPPER, "etcd", "--name", &self.name, "--data-dir"]);
        command.arg(self.folder.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", cluster, "--heartbeat-interval", "50", "--election-timeout", "500"]);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("the shell says the number");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process number");
        self.running = Some((child, pid));
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        let Some((mut child, pid)) = self.running.take() else { return };
        let _ = kill_process(pid, Signal::KILL);
        let _ = child.stdin.take().expect("piped").write_all(b"\n");
        child.wait().expect("the shell ends");
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let (_, pid) = self.running.as_ref().expect("it runs");
        kill_process(*pid, signal).expect("it runs");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn wait_until_it_listens(&self) {
        let began = Instant::now();
        while TcpStream::connect((self.host, self.client)).is_err() {
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(20), "etcd does not listen:\n{}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
