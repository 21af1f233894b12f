//! Real containers, as the `kube` crate enters them: commands, the first process, ports and logs.
//!
//! Needs what `e2e.rs` needs.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

#[path = "e2e/cluster.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod cluster;
#[path = "e2e/kubectl.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod kubectl;
#[path = "e2e/lan.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod lan;
#[path = "e2e/machine.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod machine;

use std::{path::Path, time::Duration};

use cluster::Cluster;
use futures::{AsyncBufReadExt, SinkExt, TryStreamExt};
use k8s::node::image::archive::ImageBuilder;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{AttachParams, AttachedProcess, LogParams, PostParams, TerminalSize},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions},
};
use machine::Machine;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// The longest that one step may take.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "example.com/ear:1";

#[test]
fn the_kube_crate_enters_real_containers() {
    let machine = Machine::claim();
    let mut cluster = Cluster::all_in_one(&machine, Path::new("/etc/resolv.conf"));
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    cluster.import(&machine, &ImageBuilder::busybox(IMAGE, &program));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pods = running_ear(&cluster.admin_kubeconfig()).await;
        runs_a_command(&pods).await;
        ends_with_its_input_open(&pods).await;
        has_a_terminal(&pods).await;
        follows_and_attaches(&pods).await;
        reaches_a_port_that_hangs_up(&pods).await;
        hangs_up_on_a_port(&pods).await;
        hears_of_a_closed_port(&pods).await;
    });
    cluster.interrupt();
}

/// What a step comes to. A step that does not end fails the test by its name.
async fn step<T>(name: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{name}: not done after {PATIENCE:?}"))
}

async fn running_ear(kubeconfig: &Path) -> Api<Pod> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let made = await_condition(accounts, "default", conditions::is_created());
    step("the namespace gets its account", made).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let script = "mkdir -p /www; echo served > /www/index.html; httpd -p 8080 -h /www; echo started; \
                  while read line; do echo heard $line; done";
    let pod = json!({"metadata": {"name": "ear"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "ear", "image": IMAGE, "command": ["sh", "-c", script], "stdin": true}]}});
    let pod = serde_json::from_value(pod).unwrap();
    step("the pod is made", pods.create(&PostParams::default(), &pod)).await.unwrap();
    step("the pod runs", await_condition(pods.clone(), "ear", conditions::is_pod_running())).await.unwrap();
    pods
}

async fn exec(pods: &Api<Pod>, command: &[&str], params: &AttachParams) -> AttachedProcess {
    let command: Vec<String> = command.iter().map(ToString::to_string).collect();
    step(&format!("{command:?} begins"), pods.exec("ear", command.clone(), params)).await.unwrap()
}

async fn all_of(name: &str, mut stream: impl AsyncRead + Unpin) -> String {
    let mut said = String::new();
    step(name, stream.read_to_string(&mut said)).await.unwrap();
    said
}

async fn runs_a_command(pods: &Api<Pod>) {
    let params = AttachParams::default().stdin(true);
    let mut process = exec(pods, &["sh", "-c", "cat; echo complained >&2; exit 7"], &params).await;
    let mut input = process.stdin().unwrap();
    step("input is taken", input.write_all(b"typed")).await.unwrap();
    step("input ends", input.shutdown()).await.unwrap();
    let (output, errors) = (process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    let (said, complained) = tokio::join!(all_of("output ends", output), all_of("errors end", errors));
    assert_eq!((said.as_str(), complained.as_str()), ("typed", "complained\n"));
    let status = step("the status comes", status).await.unwrap();
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    assert_eq!(causes[0].message.as_deref(), Some("7"), "{causes:?}");
    step("the connection ends", process.join()).await.unwrap();
}

/// Nothing but the command's own end ends it.
async fn ends_with_its_input_open(pods: &Api<Pod>) {
    let mut process = exec(pods, &["echo", "brief"], &AttachParams::default().stdin(true)).await;
    let input = process.stdin().unwrap();
    let said = all_of("output ends while input is open", process.stdout().unwrap()).await;
    assert_eq!(said, "brief\n");
    let status = step("the status comes while input is open", process.take_status().unwrap()).await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));
    drop(input);
}

async fn has_a_terminal(pods: &Api<Pod>) {
    let mut process = exec(pods, &["sh"], &AttachParams::interactive_tty()).await;
    let (mut input, mut sizes) = (process.stdin().unwrap(), process.terminal_size().unwrap());
    let size = TerminalSize { width: 101, height: 43 };
    step("a size is taken", sizes.send(size)).await.unwrap();
    // The size and the input come by different ways: the shell asks until the size is there.
    let script = b"until stty size | grep '43 101'; do :; done; tty; exit\n";
    step("input is taken", input.write_all(script)).await.unwrap();
    let said = all_of("the terminal's output ends", process.stdout().unwrap()).await;
    assert!(said.contains("43 101\r\n") && said.contains("\n/dev/pts/"), "{said}");
    let status = step("the shell's status comes", process.take_status().unwrap()).await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));
    drop(sizes);
    step("the terminal's connection ends", process.join()).await.unwrap();
}

async fn follows_and_attaches(pods: &Api<Pod>) {
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = step("the log opens", pods.log_stream("ear", &follow)).await.unwrap().lines();
    assert_eq!(step("the log's first line", lines.try_next()).await.unwrap().as_deref(), Some("started"));
    let params = AttachParams::default().stdin(true);
    let mut process = step("attach begins", pods.attach("ear", &params)).await.unwrap();
    let mut input = process.stdin().unwrap();
    step("the first process is told", input.write_all(b"the news\n")).await.unwrap();
    let (mut output, mut said) = (process.stdout().unwrap(), Vec::new());
    while !said.ends_with(b"heard the news\n") {
        let read = step("the first process answers", output.read_buf(&mut said)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(step("the log's second line", lines.try_next()).await.unwrap().as_deref(), Some("heard the news"));
}

/// A server of HTTP/1.0 closes after its answer; the client learns of it by the end of the connection.
async fn reaches_a_port_that_hangs_up(pods: &Api<Pod>) {
    let mut forward = step("the first forwarding begins", pods.portforward("ear", &[8080])).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    step("a request is taken", stream.write_all(b"GET / HTTP/1.0\r\n\r\n")).await.unwrap();
    let answer = all_of("the answer ends", &mut stream).await;
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("served\n"), "{answer}");
    drop(stream);
    // The crate sends a close of its own after the server's, which its WebSocket refuses: how it ends is its affair.
    let _ = step("the first forwarding ends", forward.join()).await;
}

async fn hangs_up_on_a_port(pods: &Api<Pod>) {
    let mut forward = step("the second forwarding begins", pods.portforward("ear", &[8080])).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    // Half a request, to which there is no answer.
    step("half a request is taken", stream.write_all(b"GET / HTTP/1.0\r\n")).await.unwrap();
    drop(stream);
    step("the second forwarding ends", forward.join()).await.unwrap();
}

async fn hears_of_a_closed_port(pods: &Api<Pod>) {
    let mut forward = step("the third forwarding begins", pods.portforward("ear", &[9])).await.unwrap();
    let (error, stream) = (forward.take_error(9).unwrap(), forward.take_stream(9).unwrap());
    let error = step("the closed port is told", error).await.unwrap();
    assert!(error.contains("refused"), "{error}");
    assert_eq!(all_of("the closed port's stream ends", stream).await, "");
}
