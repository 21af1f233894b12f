//! Size, start-up, pods, and the costs of doing nothing.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s::{
    core::{
        api::api::core::v1::Pod,
        request::{Options, Target},
        resource::Resource,
    },
    node::image::archive::ImageBuilder,
    reconcile::Client,
};
use serde_json::json;

use super::{
    process::Server,
    report::{
        Aim::{AtMost, Nothing},
        Report,
    },
};

const IMAGE: &str = "example.com/figures:1";
const STARTS: usize = 9;
const PODS: usize = 60;

/// The stripped program.
pub fn size(program: &Path, report: &mut Report) {
    let bytes = fs::metadata(program).map_or(0, |meta| meta.len());
    report.add("stripped size of k8s", "MB", AtMost(15.0), vec![bytes as f64 / 1e6]);
}

/// Exec to `/readyz` on an empty folder.
pub async fn ready(program: &Path, report: &mut Report) {
    let mut samples = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(program, &[], |_| ());
        samples.push(millis(server.ready().await));
    }
    report.add("exec to /readyz, empty folder", "ms", AtMost(20.0), samples);
}

/// Exec to the first pod Running; then many pods one after the other; then nothing at all.
pub async fn pods(program: &Path, report: &mut Report) {
    let mut firsts = Vec::new();
    for _ in 0..STARTS {
        let server = Server::start(program, &[], |folder| import(program, folder));
        server.ready().await;
        let client = server.client();
        start_pod(&client, "first").await;
        firsts.push(millis(server.elapsed()));
    }
    report.add("exec to the first pod Running", "ms", AtMost(100.0), firsts);

    let server = Server::start(program, &[], |folder| import(program, folder));
    server.ready().await;
    let client = server.client();
    tokio::time::sleep(Duration::from_secs(6)).await;
    idle(&server, report).await;
    let mut times = Vec::new();
    for number in 0..PODS {
        times.push(millis(start_pod(&client, &format!("pod-{number}")).await));
    }
    times.sort_by(f64::total_cmp);
    let percentile = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    report.add("pod create to Running, p50", "ms", AtMost(10.0), vec![percentile(0.5)]);
    report.add("pod create to Running, p99", "ms", AtMost(50.0), vec![percentile(0.99)]);
}

async fn idle(server: &Server, report: &mut Report) {
    report.add("idle memory of everything", "MiB", AtMost(25.0), vec![server.process().memory()]);
    let mut samples = Vec::new();
    for _ in 0..3 {
        let before = server.process().cpu();
        tokio::time::sleep(Duration::from_secs(4)).await;
        samples.push((server.process().cpu() - before).as_secs_f64() / 4.0 * 100.0);
    }
    report.add("idle CPU of everything", "%", AtMost(0.0), samples);
}

fn import(program: &Path, folder: &Path) {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    let archive = folder.with_extension("tar");
    fs::write(&archive, ImageBuilder::busybox(IMAGE, &busybox).cmd(["sleep", "1000000"]).docker_archive())
        .expect("an image");
    let status = Command::new(program).args(["image", "import"]).arg(&archive).arg("--data-dir").arg(folder).output();
    assert!(status.is_ok_and(|output| output.status.success()), "the image is imported");
    let _ = fs::remove_file(archive);
}

/// Creates a pod and waits until it runs; how long that took.
async fn start_pod(client: &Client, name: &str) -> Duration {
    // The default service account is made by a controller: right after the start it may not be there yet.
    let value = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE}]},
    });
    let pods = client.namespaced::<Pod>("default");
    let mut start = Instant::now();
    let created = loop {
        match pods.create(serde_json::from_value(value.clone()).expect("a pod")).await {
            Ok(created) => break created,
            Err(error) if error.to_string().contains("serviceaccount") => {
                tokio::time::sleep(Duration::from_micros(500)).await;
                start = Instant::now();
            }
            Err(error) => panic!("create {name}: {error}"),
        }
    };
    let options = Options {
        field_selector: k8s::core::selector::FieldSelector::equal("metadata.name", name),
        resource_version: Some(created.revision()),
        ..Default::default()
    };
    let mut events = client.watch_objects(Target::all(Pod::resource(), "default"), options).await.expect("a watch");
    while let Some(event) = events.next().await {
        let event = event.expect("an event");
        let pod = event.object().and_then(|object| object.typed::<Pod>().ok());
        let phase = pod.and_then(|pod| pod.status.clone()).and_then(|status| status.phase);
        if phase.as_deref() == Some("Running") {
            return start.elapsed();
        }
    }
    panic!("the watch ended before {name} ran");
}

/// A clean release build into a folder of its own.
pub fn clean_build(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--bin", "k8s", "--target-dir"])
        .arg(folder.path())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "a clean build");
    report.add("clean release build of k8s", "s", Nothing, vec![start.elapsed().as_secs_f64()]);
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
