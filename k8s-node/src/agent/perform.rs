//! Carrying operations out, and writing down what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use k8s_core::{
    api::api::core::v1::Pod,
    env::Timestamp,
    request::Options,
    resource::Stored,
    seam::network::{Attachment, HostPort},
};
use tokio::sync::Notify;

use super::{Shared, start, stop};
use crate::{
    environment::is_host_network,
    plan::{CRASH_LOOP, Failure, Ladder, Observed, Op, Severity, Subject, Volumes, parts},
    runtime::{NetworkMode, SandboxStatus},
};

/// How failures are spaced, by what failed.
const SANDBOX: Ladder = Ladder { base: Duration::from_secs(1), max: Duration::from_secs(60) };
const VOLUMES: Ladder = Ladder { base: Duration::from_millis(500), max: Duration::from_secs(122) };
const CONFIG: Ladder = Ladder { base: Duration::from_secs(1), max: Duration::from_secs(20) };

/// What an operation may know of its pod at the moment it began.
pub(crate) struct Scene {
    pub uid: String,
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    pub sandboxes: Vec<SandboxStatus>,
    /// Containers whose `preStop` hook has begun: it runs once.
    pub stopped: BTreeSet<String>,
    pub volumes_changed: Arc<Notify>,
}

/// What came of an operation.
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// The volumes are set up, and current until then at most.
    Mounted(Option<Timestamp>),
    /// The sandbox has these addresses.
    Connected(Vec<IpAddr>),
    /// It failed, and may be tried again after the back-off.
    Failed(Subject, Trouble),
}

/// Why an operation failed.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub reason: String,
    pub message: String,
}

impl Trouble {
    pub fn new(reason: impl Into<String>, message: impl ToString) -> Self {
        Self { reason: reason.into(), message: message.to_string() }
    }
}

/// Carries one operation out. `pod` is `None` for pods that the API server no longer knows.
pub(crate) async fn perform(shared: Arc<Shared>, pod: Option<Stored<Pod>>, op: Op, scene: Scene) -> Outcome {
    match (&op, &pod) {
        (Op::MountVolumes, Some(pod)) => mount(&shared, pod, &scene).await,
        (Op::StartSandbox { id, attempt }, Some(pod)) => start_sandbox(&shared, pod, id, *attempt).await,
        (Op::Connect { sandbox }, Some(pod)) => connect(&shared, pod, sandbox, &scene).await,
        (Op::RunContainer { .. }, Some(pod)) => start::run_container(&shared, pod, &op, &scene).await,
        (Op::StopContainer { .. }, pod) => stop::stop_container(&shared, pod.as_ref(), &op, &scene).await,
        (Op::UpdateResources { id, resources }, _) => {
            let name = scene_name(pod.as_ref(), id);
            let done = shared.runtime.update_resources(id, resources.clone()).await;
            outcome(done, Subject::Container(name), "ResizeError")
        }
        (Op::RemoveContainer { id }, _) => {
            outcome(shared.runtime.remove_container(id).await, Subject::Removal, "RemoveContainerError")
        }
        (Op::Disconnect { sandbox }, _) => {
            outcome(shared.network.detach(sandbox).await, Subject::Removal, "NetworkError")
        }
        (Op::RemoveSandbox { id }, _) => remove_sandbox(&shared, pod.as_ref(), id).await,
        (Op::CleanUp, _) => outcome(shared.provision.clean_up(&scene.uid).await, Subject::Removal, "CleanUpError"),
        (Op::Finish, Some(pod)) => finish(&shared, pod).await,
        // An orphan is only ever stopped and removed.
        (_, None) => Outcome::Done,
    }
}

fn scene_name(pod: Option<&Stored<Pod>>, id: &str) -> String {
    let prefix = pod.map(|pod| format!("{}-", pod.uid())).unwrap_or_default();
    let rest = id.strip_prefix(&prefix).unwrap_or(id);
    rest.rsplit_once('-').map_or(rest, |(name, _)| name).to_owned()
}

fn outcome<E: ToString>(result: Result<(), E>, subject: Subject, reason: &str) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(subject, Trouble::new(reason, error)),
    }
}

async fn mount(shared: &Arc<Shared>, pod: &Stored<Pod>, scene: &Scene) -> Outcome {
    match shared.provision.mount(pod, &scene.volumes_changed).await {
        Ok(refresh_at) => Outcome::Mounted(refresh_at),
        Err(error) => {
            shared.events.tell(pod.object(), None, Severity::Warning, "FailedMount", error.message.clone());
            Outcome::Failed(Subject::Volumes, Trouble::new("FailedMount", error))
        }
    }
}

async fn start_sandbox(shared: &Arc<Shared>, pod: &Stored<Pod>, id: &str, attempt: u32) -> Outcome {
    let made = match shared.provision.sandbox(pod, id, attempt).await {
        Ok(spec) => shared.runtime.start_sandbox(spec).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.message),
    };
    match made {
        Ok(_) => Outcome::Done,
        Err(message) => no_sandbox(shared, pod, Subject::Sandbox, message),
    }
}

fn no_sandbox(shared: &Arc<Shared>, pod: &Stored<Pod>, subject: Subject, message: String) -> Outcome {
    let text = format!("Failed to create pod sandbox: {message}");
    shared.events.tell(pod.object(), None, Severity::Warning, "FailedCreatePodSandBox", text);
    Outcome::Failed(subject, Trouble::new("CreatePodSandboxError", message))
}

async fn connect(shared: &Arc<Shared>, pod: &Stored<Pod>, id: &str, scene: &Scene) -> Outcome {
    let sandbox = scene.sandboxes.iter().find(|sandbox| sandbox.id == id);
    if sandbox.is_some_and(|sandbox| sandbox.network == NetworkMode::Host) || is_host_network(pod) {
        return Outcome::Connected(shared.host.addresses.clone());
    }
    let netns = sandbox.and_then(|sandbox| sandbox.netns.clone()).unwrap_or_default();
    let attachment = Attachment { id: id.to_owned(), netns, host_ports: host_ports(pod) };
    match shared.network.attach(attachment).await {
        Ok(attached) => Outcome::Connected(attached.addresses),
        Err(error) => no_sandbox(shared, pod, Subject::Network, error.to_string()),
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let all = parts(pod);
    let ports = all.iter().flat_map(|part| part.container.ports.iter().flatten());
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    let mapped = ports.filter_map(|port| {
        Some(HostPort {
            container_port: number(port.container_port)?,
            host_port: number(port.host_port?)?,
            host_ip: port.host_ip.as_ref().and_then(|ip| ip.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        })
    });
    mapped.collect()
}

async fn remove_sandbox(shared: &Arc<Shared>, pod: Option<&Stored<Pod>>, id: &str) -> Outcome {
    let removed = match shared.network.detach(id).await {
        Ok(()) => shared.runtime.remove_sandbox(id).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let (Err(message), Some(pod)) = (&removed, pod) {
        let text = format!("error killing pod: {message}");
        shared.events.tell(pod.object(), None, Severity::Warning, "FailedKillPod", text);
    }
    outcome(removed, Subject::Removal, "KillPodSandboxError")
}

async fn finish(shared: &Arc<Shared>, pod: &Stored<Pod>) -> Outcome {
    let options =
        Options { grace_period_seconds: Some(0), precondition_uid: Some(pod.uid().into()), ..Options::default() };
    let pods = shared.client.namespaced::<Pod>(pod.namespace());
    match pods.delete_with(pod.name(), options).await {
        Ok(()) => Outcome::Done,
        // Somebody else was quicker, or a successor has taken the name.
        Err(error) if error.is_not_found() || error.is_conflict() => Outcome::Done,
        Err(error) => Outcome::Failed(Subject::Removal, Trouble::new("DeleteError", error)),
    }
}

/// Writes down what came of an operation.
pub(crate) fn record(observed: &mut Observed, op: &Op, outcome: Outcome, now: Timestamp) {
    let history = &mut observed.history;
    match outcome {
        Outcome::Failed(subject, trouble) => {
            let count = history.failures.get(&subject).map_or(0, |failure| failure.count) + 1;
            let wait = ladder(&subject, &trouble).delay(count);
            let until = now.checked_add(wait).unwrap_or(now);
            let Trouble { reason, message } = trouble;
            history.failures.insert(subject, Failure { reason, message, count, at: now, until });
            return;
        }
        Outcome::Mounted(refresh_at) => observed.volumes = Volumes::Ready { refresh_at },
        Outcome::Connected(addresses) => {
            if let Op::Connect { sandbox } = op {
                observed.addresses.insert(sandbox.clone(), addresses);
            }
        }
        Outcome::Done => {}
    }
    match op {
        Op::MountVolumes => drop(history.failures.remove(&Subject::Volumes)),
        Op::StartSandbox { .. } => drop(history.failures.remove(&Subject::Sandbox)),
        Op::Connect { .. } => drop(history.failures.remove(&Subject::Network)),
        Op::RunContainer { name, .. } => {
            history.failures.remove(&Subject::Image(name.clone()));
            history.failures.remove(&Subject::Container(name.clone()));
        }
        Op::Disconnect { sandbox } | Op::RemoveSandbox { id: sandbox } => drop(observed.addresses.remove(sandbox)),
        Op::CleanUp => history.cleaned_up = true,
        Op::Finish => history.finished = true,
        Op::StopContainer { .. } | Op::RemoveContainer { .. } | Op::UpdateResources { .. } => {}
    }
    if takes_down(op) {
        history.failures.remove(&Subject::Removal);
    }
}

/// Whether a failure of this is a failure to take down.
fn takes_down(op: &Op) -> bool {
    !matches!(
        op,
        Op::MountVolumes
            | Op::StartSandbox { .. }
            | Op::Connect { .. }
            | Op::RunContainer { .. }
            | Op::UpdateResources { .. }
    )
}

fn ladder(subject: &Subject, trouble: &Trouble) -> Ladder {
    match subject {
        Subject::Sandbox | Subject::Network | Subject::Removal => SANDBOX,
        Subject::Volumes => VOLUMES,
        Subject::Image(_) => CRASH_LOOP,
        Subject::Container(_) if trouble.reason == "CreateContainerConfigError" => CONFIG,
        Subject::Container(_) => CRASH_LOOP,
    }
}
