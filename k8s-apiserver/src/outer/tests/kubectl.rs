//! The real `kubectl` against the outer service over TLS.

use std::process::Stdio;

use k8s_wire::{
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};

use super::{super::*, connections::dial, fake::*};

struct Cluster {
    door: Arc<FakeDoor>,
    kubeconfig: std::path::PathBuf,
    directory: tempfile::TempDir,
    _server: k8s_core::env::Task,
}

async fn cluster() -> Cluster {
    let env = System::current();
    let authority = Authority::generate("ca", env.now()).unwrap();
    let identity = authority.issue_server("api", &["127.0.0.1".into()], env.now()).unwrap();
    let tls = tls::server(&env, &identity, None).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (outer, door) = outer();
    *door.dial.lock() = Some(dial(&env));
    let server = Server::new(env.clone(), outer);
    let serving = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.crt"), authority.certificate_pem()).unwrap();
    let kubeconfig = directory.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{server: 'https://{address}', certificate-authority: ca.crt}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u, namespace: 'n'}}}}]\n\
         users: [{{name: u, user: {{token: good}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    Cluster { door, kubeconfig, directory, _server: env.spawn("server", Box::pin(serving)) }
}

impl Cluster {
    /// Runs kubectl; answers what it said on both outputs, and whether it succeeded.
    async fn kubectl(&self, arguments: &[&str], stdin: &str) -> (bool, String) {
        use tokio::io::AsyncWriteExt;
        let mut child = tokio::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.directory.path().join("cache"))
            .args(arguments)
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl is on the PATH");
        let mut input = child.stdin.take().unwrap();
        // A kubectl that reads nothing may be gone before everything is written.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    async fn ok(&self, arguments: &[&str], stdin: &str) -> String {
        let (succeeded, text) = self.kubectl(arguments, stdin).await;
        assert!(succeeded, "kubectl {arguments:?}: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_finds_its_way() {
    let cluster = cluster().await;
    let resources = cluster.ok(&["api-resources", "--no-headers"], "").await;
    for line in ["pods", "po", "deployments", "apps/v1", "wheels", "example.com/v1", "Wheel"] {
        assert!(resources.contains(line), "{line} in {resources}");
    }
    let version = cluster.ok(&["version"], "").await;
    assert!(version.contains("Server Version: v1.37.0"), "{version}");
    let made = cluster.ok(&["create", "configmap", "a", "--from-literal=k=v"], "").await;
    assert_eq!(made, "configmap/a created\n");
    let table = cluster.ok(&["get", "configmaps"], "").await;
    assert!(table.starts_with("NAME   DATA   AGE\na      1 "), "{table}");
    let data = cluster.ok(&["get", "configmap", "a", "-o", "jsonpath={.data.k}"], "").await;
    assert_eq!(data, "v");
    // Where an object is missing, kubectl looks whether its namespace is.
    cluster.ok(&["create", "namespace", "n"], "").await;
    let (succeeded, text) = cluster.kubectl(&["get", "configmap", "missing"], "").await;
    assert!(!succeeded && text.contains(r#"Error from server (NotFound): configmaps "missing" not found"#), "{text}");
    let deleted = cluster.ok(&["delete", "configmap", "a", "--wait=false"], "").await;
    assert!(deleted.contains("deleted"), "{deleted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_and_explains() {
    let cluster = cluster().await;
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  \
                    selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    \
                    spec: {containers: [{name: c, image: i}]}\n";
    assert_eq!(cluster.ok(&["apply", "-f", "-"], manifest).await, "deployment.apps/web created\n");
    let changed = manifest.replace("replicas: 1", "replicas: 2");
    assert_eq!(cluster.ok(&["apply", "-f", "-"], &changed).await, "deployment.apps/web configured\n");
    let patch = cluster.door.last().1;
    let k8s_core::request::RequestBody::Patch(kind, doc) = &patch.body else { panic!("{patch:?}") };
    assert_eq!(*kind, k8s_core::request::PatchKind::Strategic);
    assert_eq!(doc.at(&["spec", "replicas"]).and_then(|replicas| replicas.as_i64()), Some(2));
    let applied = cluster.ok(&["apply", "--server-side", "-f", "-"], manifest).await;
    assert_eq!(applied, "deployment.apps/web serverside-applied\n");
    let explained = cluster.ok(&["explain", "deployment.spec.replicas"], "").await;
    assert!(explained.contains("FIELD: replicas <integer>") && explained.contains("desired pods"), "{explained}");
    let explained = cluster.ok(&["explain", "wheel.spec"], "").await;
    assert!(explained.contains("spokes") && explained.contains("How many spokes it has."), "{explained}");
    let (succeeded, text) = cluster.kubectl(&["create", "namespace", "team"], "").await;
    assert!(succeeded, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_runs_commands_and_reads_logs() {
    let cluster = cluster().await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";
    cluster.ok(&["create", "-f", "-"], pod).await;
    let logs = cluster.ok(&["logs", "p"], "").await;
    assert!(logs.starts_with("GET /backend?"), "{logs}");
    let echoed = cluster.ok(&["exec", "-i", "p", "--", "cat"], "to the other side").await;
    assert!(echoed.contains("to the other side"), "{echoed}");
    let raw = cluster.ok(&["get", "--raw", "/api/v1/namespaces/n/pods/p/proxy/x"], "").await;
    assert!(raw.starts_with("GET /backend/x?"), "{raw}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_forwards_ports() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
    let cluster = cluster().await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n\
               status: {phase: Running}\n";
    cluster.ok(&["create", "--validate=false", "-f", "-"], pod).await;
    let mut child = tokio::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .args(["port-forward", "--address", "127.0.0.1", "pod/p", ":80"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl is on the PATH");
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("kubectl says where it listens");
    let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    for round in 0..3 {
        let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let sent = vec![round; 100_000];
        let (mut read, mut write) = socket.split();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut echoed = Vec::new();
        let (_, read) = tokio::join!(writing, read.read_to_end(&mut echoed));
        read.unwrap();
        assert!(echoed == sent, "{} bytes of {} came back", echoed.len(), sent.len());
    }
}
