//! `kube-apiserver` on a real etcd: what `kubectl` creates lies where operators look for it, and stays.
//!
//! Needs `etcd`, `etcdctl` and the `kubectl` that `./test.sh setup` unpacks.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

#[path = "e2e/kubectl.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod kubectl;

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use k8s::{Credentials, wire::env::System};
use kubectl::{Kubectl, eventually};

/// Ended when the test ends, however it ends.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}; run ./test.sh setup")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn etcd(folder: &Path) -> (Program, String) {
    let [client, peer] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    (Program::start(&mut command), client)
}

fn api_server(folder: &Path, etcd: &str) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-apiserver"));
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--secure-port", &free_port().to_string(), "--etcd-servers", etcd]);
    for (flag, file) in KEYS {
        command.arg(flag).arg(folder.join("keys").join(file));
    }
    Program::start(&mut command)
}

/// The keys that all servers on one etcd share.
const KEYS: [(&str, &str); 4] = [
    ("--encryption-key-file", "encryption.key"),
    ("--service-account-signing-key-file", "sa.key"),
    ("--ca-cert-file", "ca.crt"),
    ("--ca-key-file", "ca.key"),
];

fn make_keys(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    Credentials::load_or_generate(folder, &System::current()).unwrap();
}

fn keys(etcd: &str) -> Vec<String> {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", etcd, "get", "/registry/", "--prefix", "--keys-only"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()).map(Into::into).collect()
}

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "web", "image": "web:1"}]}}"#;

#[test]
fn objects_lie_in_etcd_and_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let (_etcd, endpoint) = etcd(folder.path());
    eventually("etcd answers", || {
        let mut health = Command::new("etcdctl");
        health.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint, "endpoint", "health"]);
        health.output().map_err(|error| error.to_string()).and_then(|output| succeeded(&output))
    });
    make_keys(&folder.path().join("keys"));
    let kubeconfig = folder.path().join("data/admin.kubeconfig");
    let server = api_server(folder.path(), &endpoint);
    eventually("the API server is ready", || ready(&kubeconfig));
    let kubectl = Kubectl::new("1.37", &kubeconfig);
    kubectl.run(&["create", "configmap", "colours", "--from-literal=sky=blue"]);
    kubectl.run(&["create", "secret", "generic", "code", "--from-literal=door=open-sesame"]);
    kubectl.run(&["create", "serviceaccount", "default"]);
    kubectl.run_with(&["create", "-f", "-"], POD);
    let before = keys(&endpoint);
    for key in ["/registry/configmaps/default/colours", "/registry/pods/default/web", "/registry/namespaces/default"] {
        assert!(before.iter().any(|found| found == key), "{key} is not among {before:?}");
    }
    drop(server);
    std::fs::remove_file(&kubeconfig).unwrap();
    let _server = api_server(folder.path(), &endpoint);
    eventually("the API server is ready again", || ready(&kubeconfig));
    assert_eq!(kubectl.run(&["get", "configmap", "colours", "-o", "jsonpath={.data.sky}"]), "blue");
    kubectl.run(&["get", "pod", "web"]);
    assert_eq!(kubectl.run(&["get", "secret", "code", "-o", "jsonpath={.data.door}"]), "b3Blbi1zZXNhbWU=");
    let after = keys(&endpoint);
    let lost: Vec<_> = before.iter().filter(|key| !after.contains(key)).collect();
    assert!(lost.is_empty(), "a restart lost {lost:?}");
}

#[test]
fn an_api_server_whose_etcd_is_gone_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (etcd, endpoint) = etcd(folder.path());
    make_keys(&folder.path().join("keys"));
    let kubeconfig = folder.path().join("data/admin.kubeconfig");
    eventually("etcd answers", || {
        let mut health = Command::new("etcdctl");
        health.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint, "endpoint", "health"]);
        health.output().map_err(|error| error.to_string()).and_then(|output| succeeded(&output))
    });
    let _server = api_server(folder.path(), &endpoint);
    eventually("the API server is ready", || ready(&kubeconfig));
    drop(etcd);
    let kubectl = Kubectl::new("1.37", &kubeconfig);
    for path in ["/readyz", "/livez", "/readyz/etcd"] {
        eventually("the check fails", || match ready_at(&kubectl, path) {
            Ok(()) => Err(format!("{path} is fine")),
            Err(text) if path == "/readyz/etcd" || text.contains("[-]etcd failed: ") => Ok(()),
            Err(text) => Err(text),
        });
    }
    ready_at(&kubectl, "/livez?exclude=etcd").unwrap();
    ready_at(&kubectl, "/livez/ping").unwrap();
}

fn ready_at(kubectl: &Kubectl, path: &str) -> Result<(), String> {
    succeeded(&kubectl.try_run(&["get", "--raw", path]))
}

fn ready(kubeconfig: &Path) -> Result<(), String> {
    if !kubeconfig.exists() {
        return Err("it has not written its kubeconfig".into());
    }
    succeeded(&Kubectl::new("1.37", kubeconfig).try_run(&["get", "--raw", "/readyz"]))
}

fn succeeded(output: &Output) -> Result<(), String> {
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn keys_are_given_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-apiserver"));
    command.arg("--data-dir").arg(folder.path()).args(["--etcd-servers", "http://127.0.0.1:1"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for (flag, _) in KEYS {
        assert!(text.contains(flag), "{flag} is not asked for: {text}");
    }
}
