//! What Kubernetes v1.37's conformance list asks of `kubectl` with the API server alone, row by row.
//!
//! A row is one test function, and every MUST of the row an assertion in it. Each runs with several versions of the real
//! program, against `k8s up` with a simulated node.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

#[path = "clients/hollow.rs"]
#[allow(dead_code, reason = "shared with the other clients' tests")]
mod hollow;
#[path = "e2e/kubectl.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod kubectl;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Child,
};

use hollow::Hollow;
use kubectl::{Kubectl, eventually};

/// Runs a row with each version of `kubectl`.
fn with_each(row: impl Fn(&Hollow, &Kubectl, &str)) {
    let cluster = Hollow::start(1);
    for version in ["1.37", "1.32", "1.20"] {
        row(&cluster, &cluster.kubectl(version), version);
    }
    cluster.interrupt();
}

/// Kubectl, check version v1.
#[test]
fn api_versions() {
    with_each(|_, kubectl, _| {
        let said = kubectl.run(&["api-versions"]);
        assert!(said.lines().any(|line| line == "v1"), "{said}");
        assert!(said.lines().any(|line| line == "apps/v1"), "{said}");
    });
}

/// Kubectl, cluster info.
#[test]
fn cluster_info() {
    with_each(|cluster, kubectl, _| {
        let said = kubectl.run(&["cluster-info"]);
        // Some color it even where nobody looks.
        let plain = without_colors(&said);
        assert!(plain.contains("Kubernetes control plane is running at https://127.0.0.1:"), "{plain}");
        let url = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let shown = plain.split_whitespace().find(|word| word.starts_with("https://")).unwrap();
        assert!(url.contains(shown), "{shown}");
    });
}

/// Kubectl, diff Deployment.
#[test]
fn diff_deployment() {
    with_each(|_, kubectl, version| {
        let name = format!("httpd-{}", version.replace('.', "-"));
        let deployment = |image: &str| {
            serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": image}]}}}})
            .to_string()
        };
        kubectl.run_with(&["create", "-f", "-"], &deployment("example.com/httpd:1"));
        let differs = kubectl.try_run_with(&["diff", "-f", "-"], &deployment("example.com/busybox:1"));
        let said = String::from_utf8_lossy(&differs.stdout).into_owned();
        assert_eq!(differs.status.code(), Some(1), "there is a difference: {said}");
        let line = |sign: char, image: &str| {
            let image = format!("image: {image}");
            said.lines().any(|line| line.starts_with(sign) && line.contains(&image))
        };
        assert!(line('-', "example.com/httpd:1") && line('+', "example.com/busybox:1"), "{said}");
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        assert_eq!(kubectl.run(&["get", "deployment", &name, "-o", path]), "example.com/httpd:1", "it is only tried");
        let same = kubectl.try_run_with(&["diff", "-f", "-"], &deployment("example.com/httpd:1"));
        assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stdout));
        kubectl.run(&["delete", "deployment", &name]);
    });
}

/// Kubectl, run pod.
#[test]
fn run_pod() {
    with_each(|_, kubectl, version| {
        let name = format!("once-{}", version.replace('.', "-"));
        kubectl.run(&["run", &name, "--image=example.com/httpd:1", "--restart=Never"]);
        let get = |path: &str| kubectl.run(&["get", "pod", &name, "-o", &format!("jsonpath={path}")]);
        assert_eq!(get("{.spec.containers[*].image}"), "example.com/httpd:1");
        assert_eq!(get("{.spec.restartPolicy}"), "Never");
        kubectl.until(&["get", "pod", &name, "-o", "jsonpath={.status.phase}"], |said| said == "Running");
        kubectl.run(&["delete", "pod", &name, "--now"]);
    });
}

/// Kubectl, server-side dry-run Pod.
#[test]
fn server_side_dry_run() {
    with_each(|_, kubectl, version| {
        let name = format!("tried-{}", version.replace('.', "-"));
        kubectl.run(&["run", &name, "--image=example.com/httpd:1", &format!("--labels=run={name}")]);
        let image = ["get", "pod", &name, "-o", "jsonpath={.spec.containers[0].image}"];
        assert_eq!(kubectl.run(&image), "example.com/httpd:1");
        let patch = format!(r#"{{"spec":{{"containers":[{{"name":"{name}","image":"example.com/busybox:1"}}]}}}}"#);
        let shown = "jsonpath={.spec.containers[0].image}";
        let tried = kubectl.run(&["patch", "pod", &name, "-p", &patch, "--dry-run=server", "-o", shown]);
        assert_eq!(tried, "example.com/busybox:1", "it shows what would be");
        assert_eq!(kubectl.run(&image), "example.com/httpd:1", "and nothing is");
        kubectl.run(&["delete", "pod", &name, "--now"]);
    });
}

/// Kubectl, version.
#[test]
fn version() {
    with_each(|_, kubectl, client| {
        let said = kubectl.run(&["version", "-o", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        for side in ["clientVersion", "serverVersion"] {
            for field in
                ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "platform"]
            {
                // A server that is built from no known commit names none.
                let may_be_empty = (side, field) == ("serverVersion", "gitCommit");
                let value = said[side][field].as_str();
                assert!(value.is_some_and(|value| may_be_empty || !value.is_empty()), "{side}.{field}: {said}");
            }
        }
        assert_eq!((&said["serverVersion"]["major"], &said["serverVersion"]["minor"]), (&"1".into(), &"37".into()));
        let minor = said["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+');
        assert_eq!(format!("1.{minor}"), client);
        let text = kubectl.run(&["version"]);
        assert!(text.contains("Server Version") && text.contains("v1.37."), "{text}");
    });
}

/// Kubectl, proxy socket.
#[test]
fn proxy_unix_socket() {
    with_each(|cluster, kubectl, version| {
        let socket = cluster.file(&format!("proxy-{version}"));
        let argument = format!("--unix-socket={}", socket.display());
        let proxy = Proxy::start(kubectl, &["proxy", &argument]);
        let connected = || UnixStream::connect(&socket).map_err(|why| why.to_string());
        proxy.names_versions(eventually("the socket is there", connected));
    });
}

/// Kubectl, proxy port zero.
#[test]
fn proxy_port_zero() {
    with_each(|_, kubectl, _| {
        let proxy = Proxy::start(kubectl, &["proxy", "--port=0", "--disable-filter"]);
        let address = proxy.said.strip_prefix("Starting to serve on ").unwrap_or_else(|| panic!("{}", proxy.said));
        assert!(!address.ends_with(":0"), "{address}");
        proxy.names_versions(TcpStream::connect(address).unwrap());
    });
}

/// A running `kubectl proxy`; killed when the test ends, however it ends.
struct Proxy {
    program: Child,
    said: String,
}

impl Proxy {
    fn start(kubectl: &Kubectl, arguments: &[&str]) -> Self {
        let mut program = kubectl.start(arguments);
        let mut said = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { program, said: said.trim_end().to_owned() }
    }

    /// What it leads to has versions of the API.
    fn names_versions(&self, mut connection: impl Read + Write) {
        connection.write_all(b"GET /api HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
        let answer: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["versions"][0], "v1");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn without_colors(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}
