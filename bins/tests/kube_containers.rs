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
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s::node::image::archive::ImageBuilder;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{AttachParams, LogParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions},
};
use machine::Machine;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest that everything together may take.
const PATIENCE: Duration = Duration::from_secs(120);
const IMAGE: &str = "example.com/ear:1";

#[test]
fn the_kube_crate_enters_real_containers() {
    let machine = Machine::claim();
    let mut cluster = Cluster::all_in_one(&machine, Path::new("/etc/resolv.conf"));
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    cluster.import(&machine, &ImageBuilder::busybox(IMAGE, &program));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let kubeconfig = cluster.admin_kubeconfig();
        let entering = enter(&kubeconfig);
        tokio::time::timeout(PATIENCE, entering).await.expect("it ends");
    });
    cluster.interrupt();
}

async fn enter(kubeconfig: &Path) {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    await_condition(accounts, "default", conditions::is_created()).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let script = "mkdir -p /www; echo served > /www/index.html; httpd -p 8080 -h /www; echo started; \
                  while read line; do echo heard $line; done";
    let pod = json!({"metadata": {"name": "ear"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "ear", "image": IMAGE, "command": ["sh", "-c", script], "stdin": true}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    await_condition(pods.clone(), "ear", conditions::is_pod_running()).await.unwrap();
    runs_commands(&pods).await;
    follows_and_attaches(&pods).await;
    reaches_ports(&pods).await;
}

async fn runs_commands(pods: &Api<Pod>) {
    let both = AttachParams::default().stdin(true);
    let script = "cat; echo complained >&2; exit 7";
    let mut process = pods.exec("ear", ["sh", "-c", script], &both).await.unwrap();
    let mut input = process.stdin().unwrap();
    input.write_all(b"typed").await.unwrap();
    input.shutdown().await.unwrap();
    let (mut said, mut complained) = (String::new(), String::new());
    let (mut output, mut errors) = (process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    tokio::try_join!(output.read_to_string(&mut said), errors.read_to_string(&mut complained)).unwrap();
    assert_eq!((said.as_str(), complained.as_str()), ("typed", "complained\n"));
    let status = status.await.unwrap();
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    assert_eq!(causes[0].message.as_deref(), Some("7"), "{causes:?}");
    process.join().await.unwrap();

    let mut process = pods.exec("ear", ["tty"], &AttachParams::interactive_tty()).await.unwrap();
    let mut said = String::new();
    process.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("/dev/pts/"), "{said}");
}

async fn follows_and_attaches(pods: &Api<Pod>) {
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("ear", &follow).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("started"));
    let mut process = pods.attach("ear", &AttachParams::default().stdin(true)).await.unwrap();
    process.stdin().unwrap().write_all(b"the news\n").await.unwrap();
    let (mut output, mut said) = (process.stdout().unwrap(), Vec::new());
    while !said.ends_with(b"heard the news\n") {
        assert!(output.read_buf(&mut said).await.unwrap() > 0, "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("heard the news"));
}

async fn reaches_ports(pods: &Api<Pod>) {
    let mut forward = pods.portforward("ear", &[8080]).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("served\n"), "{answer}");
    drop(stream);
    forward.join().await.unwrap();
}
