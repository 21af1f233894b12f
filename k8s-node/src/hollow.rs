//! A runtime that pretends: no processes, no files, no network. For simulated nodes and for simulations.
//!
//! Deterministic: all state is in ordered maps, time comes only from the [`Env`], and there is no I/O. Containers
//! run as soon as they are started and stay so until they are stopped, unless annotations say otherwise
//! (see [`Instructions`]). The state belongs to the value: share it by `Arc` to let it outlive an agent.

mod instructions;

pub use instructions::Instructions;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use k8s_core::env::{Env, Task, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{
    image::Reference,
    logs::{self, LogLine},
    runtime::{
        Attach, ContainerSpec, ContainerState, ContainerStats, ContainerStatus, Exec, ExecSpec, Exit, HintStream,
        Hints, ImageInfo, ImagePull, LogOptions, LogReader, LogStream, Logs, Observation, PodRuntime, PortForward,
        Resources, RuntimeError, SandboxSpec, SandboxStarted, SandboxState, SandboxStats, SandboxStatus, Session,
        Stats,
    },
};

/// The pretending runtime.
pub struct Hollow {
    env: Env,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    hints: Hints,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, ImageInfo>,
}

struct Sandbox {
    spec: SandboxSpec,
    created_at: Timestamp,
    state: SandboxState,
}

struct Container {
    sandbox: String,
    spec: ContainerSpec,
    image_id: String,
    instructions: Instructions,
    created_at: Timestamp,
    state: ContainerState,
    /// Ends the container when its time has come; dropping it cancels that.
    timer: Option<Task>,
}

impl Hollow {
    /// An empty runtime.
    pub fn new(env: Env) -> Self {
        Self { env, shared: Arc::default() }
    }

    /// Ends a running container as if its program had exited. For tests that drive a node.
    pub fn exit(&self, container: &str, code: i32) {
        self.shared.finish(container, self.env.now(), code, None);
    }

    /// As after a restart of the machine: no sandbox is ready any more, and running containers ended with code 255.
    pub fn reboot(&self) {
        let now = self.env.now();
        let mut state = self.shared.state.lock();
        for container in state.containers.values_mut() {
            container.end(now, 255, None, "ContainerStatusUnknown");
        }
        state.sandboxes.values_mut().for_each(|sandbox| sandbox.state = SandboxState::NotReady);
        let sandboxes: Vec<String> = state.sandboxes.keys().cloned().collect();
        drop(state);
        sandboxes.iter().for_each(|sandbox| self.shared.hints.send(sandbox));
    }
}

impl Shared {
    fn finish(&self, id: &str, now: Timestamp, code: i32, signal: Option<i32>) {
        let mut state = self.state.lock();
        let Some(container) = state.containers.get_mut(id) else { return };
        let reason = if code == 0 { "Completed" } else { "Error" };
        if container.end(now, code, signal, reason) {
            let sandbox = container.sandbox.clone();
            drop(state);
            self.hints.send(&sandbox);
        }
    }
}

impl Container {
    /// Whether it was running before.
    fn end(&mut self, now: Timestamp, code: i32, signal: Option<i32>, reason: &str) -> bool {
        let ContainerState::Running { started_at, .. } = self.state else { return false };
        self.timer = None;
        let (reason, message) = (reason.to_owned(), String::new());
        self.state = ContainerState::Exited(Exit { code, signal, reason, message, started_at, finished_at: now });
        true
    }

    fn status(&self, id: &str) -> ContainerStatus {
        ContainerStatus {
            id: id.to_owned(),
            sandbox: self.sandbox.clone(),
            name: self.spec.name.clone(),
            attempt: self.spec.attempt,
            image: self.spec.image.clone(),
            image_id: self.image_id.clone(),
            image_ref: self.image_id.clone(),
            labels: self.spec.labels.clone(),
            annotations: self.spec.annotations.clone(),
            log_path: self.spec.log_path.clone(),
            resources: self.spec.resources.clone(),
            user: None,
            created_at: self.created_at,
            state: self.state.clone(),
        }
    }
}

fn not_found(what: &'static str, id: &str) -> RuntimeError {
    RuntimeError::NotFound { what, id: id.to_owned() }
}

#[async_trait]
impl PodRuntime for Hollow {
    fn version(&self) -> String {
        concat!("hollow://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    async fn start_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStarted, RuntimeError> {
        let sandbox = Sandbox { spec, created_at: self.env.now(), state: SandboxState::Ready };
        self.shared.state.lock().sandboxes.entry(sandbox.spec.id.clone()).or_insert(sandbox);
        Ok(SandboxStarted { netns: None })
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.shared.state.lock();
        state.containers.retain(|_, container| container.sandbox != id);
        state.sandboxes.remove(id);
        Ok(())
    }

    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<(), RuntimeError> {
        let mut state = self.shared.state.lock();
        let pod = state.sandboxes.get(sandbox).ok_or_else(|| not_found("sandbox", sandbox))?;
        let instructions = Instructions::of(&pod.spec, &spec)?;
        let image_id =
            state.image(&spec.image)?.ok_or_else(|| RuntimeError::ImageNotPresent { reference: spec.image.clone() })?;
        let created_at = self.env.now();
        state.containers.entry(spec.id.clone()).or_insert(Container {
            sandbox: sandbox.to_owned(),
            spec,
            image_id: image_id.id,
            instructions,
            created_at,
            state: ContainerState::Created,
            timer: None,
        });
        Ok(())
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let now = self.env.now();
        let mut state = self.shared.state.lock();
        let container = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        if container.state != ContainerState::Created {
            return Ok(());
        }
        container.state = ContainerState::Running { pid: None, started_at: now };
        if let Some(message) = container.instructions.start_error.clone() {
            container.end(now, 128, None, "StartError");
            return Err(RuntimeError::Start { message });
        }
        if let Some((after, code)) = container.instructions.exit(container.spec.attempt) {
            container.timer = Some(self.end_later(id, after, code));
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration, signal: Option<i32>) -> Result<(), RuntimeError> {
        let needs = match self.shared.state.lock().containers.get(id) {
            Some(container) if matches!(container.state, ContainerState::Running { .. }) => {
                container.instructions.stop_after
            }
            _ => return Ok(()),
        };
        self.env.sleep(needs.min(grace)).await;
        let signal = if needs > grace { 9 } else { signal.unwrap_or(15) };
        self.shared.finish(id, self.env.now(), 128 + signal, Some(signal));
        Ok(())
    }

    async fn kill_container(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        if signal != 0 {
            self.shared.finish(id, self.env.now(), 128 + signal, Some(signal));
        }
        Ok(())
    }

    async fn update_resources(&self, id: &str, resources: Resources) -> Result<(), RuntimeError> {
        let mut state = self.shared.state.lock();
        let container = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        container.spec.resources.update(resources);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.shared.state.lock().containers.remove(id);
        Ok(())
    }

    async fn observe(&self) -> Result<Observation, RuntimeError> {
        let state = self.shared.state.lock();
        let sandboxes = state.sandboxes.values().map(|Sandbox { spec, created_at, state }| SandboxStatus {
            id: spec.id.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
            state: *state,
            network: spec.network,
            netns: None,
            created_at: *created_at,
        });
        let containers = state.containers.iter().map(|(id, container)| container.status(id));
        Ok(Observation { sandboxes: sandboxes.collect(), containers: containers.collect() })
    }

    fn hints(&self) -> HintStream {
        self.shared.hints.listen()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        self.shared.state.lock().image(reference)
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        Ok(self.shared.state.lock().images.values().cloned().collect())
    }

    /// Every image can be had, but those of registries whose name ends in `.invalid`.
    async fn pull_image(&self, pull: ImagePull) -> Result<ImageInfo, RuntimeError> {
        let reference = parse(&pull.reference)?;
        if reference.registry.ends_with(".invalid") {
            let message =
                format!("failed to pull image {:?}: lookup {}: no such host", pull.reference, reference.registry);
            return Err(RuntimeError::Image { message });
        }
        let name = reference.to_string();
        let id = format!("sha256:{:x}", Sha256::digest(name.as_bytes()));
        let imported_at = Some(self.env.now());
        let names = vec![name];
        let image = ImageInfo { id: id.clone(), names, size_bytes: 1 << 20, imported_at, ..ImageInfo::default() };
        Ok(self.shared.state.lock().images.entry(id).or_insert(image).clone())
    }

    async fn import_images(&self, path: &Path) -> Result<Vec<ImageInfo>, RuntimeError> {
        Err(RuntimeError::Unsupported { runtime: "hollow", what: format!("importing {}", path.display()) })
    }

    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError> {
        let mut state = self.shared.state.lock();
        if let Some(image) = state.image(reference)? {
            state.images.remove(&image.id);
        }
        Ok(())
    }

    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn attach(&self) -> Option<&dyn Attach> {
        None
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        None
    }

    fn stats(&self) -> Option<&dyn Stats> {
        Some(self)
    }
}

impl Hollow {
    fn end_later(&self, id: &str, after: Duration, code: i32) -> Task {
        let (sleep, env, id) = (self.env.sleep(after), Arc::clone(&self.env), id.to_owned());
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        let end = async move {
            sleep.await;
            if let Some(shared) = shared.upgrade() {
                shared.finish(&id, env.now(), code, None);
            }
        };
        self.env.spawn("hollow-container", Box::pin(end))
    }
}

impl State {
    fn image(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        if let Some(image) = self.images.get(reference) {
            return Ok(Some(image.clone()));
        }
        let name = parse(reference)?.to_string();
        Ok(self.images.values().find(|image| image.names.contains(&name)).cloned())
    }
}

fn parse(reference: &str) -> Result<Reference, RuntimeError> {
    reference
        .parse()
        .map_err(|error: crate::image::InvalidReference| RuntimeError::Image { message: error.to_string() })
}

#[async_trait]
impl Logs for Hollow {
    async fn read(&self, container: &str, options: LogOptions) -> Result<LogReader, RuntimeError> {
        let state = self.shared.state.lock();
        let found = state.containers.get(container).ok_or_else(|| not_found("container", container))?;
        let time = match &found.state {
            ContainerState::Created => return Ok(Box::pin(futures::stream::empty())),
            ContainerState::Running { started_at, .. } => *started_at,
            ContainerState::Exited(exit) => exit.started_at,
        };
        let lines = found.instructions.log.lines().map(|line| LogLine {
            time,
            stream: LogStream::Stdout,
            partial: false,
            content: line.as_bytes().to_vec(),
        });
        let text = logs::select(lines.collect(), &options);
        Ok(Box::pin(futures::stream::iter(text.map(Ok))))
    }

    async fn reopen(&self, _container: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[async_trait]
impl Exec for Hollow {
    async fn exec(&self, spec: ExecSpec) -> Result<Session, RuntimeError> {
        let state = self.shared.state.lock();
        let found = state.containers.get(&spec.container).ok_or_else(|| not_found("container", &spec.container))?;
        let ContainerState::Running { .. } = found.state else {
            return Err(RuntimeError::NotRunning { id: spec.container });
        };
        let code = found.instructions.exec_exit_code;
        let output = std::io::Cursor::new(found.instructions.exec_output.clone().into_bytes());
        Ok(Session {
            stdin: if spec.stdin { Some(Box::pin(tokio::io::sink())) } else { None },
            stdout: if spec.stdout { Some(Box::pin(output)) } else { None },
            stderr: if spec.stderr && !spec.tty { Some(Box::pin(tokio::io::empty())) } else { None },
            terminal: None,
            exit: Box::pin(std::future::ready(Ok(code))),
        })
    }
}

#[async_trait]
impl Stats for Hollow {
    async fn container(&self, id: &str) -> Result<ContainerStats, RuntimeError> {
        let state = self.shared.state.lock();
        let found = state.containers.get(id).ok_or_else(|| not_found("container", id))?;
        match found.state {
            ContainerState::Running { .. } => Ok(ContainerStats { pids: 1, ..ContainerStats::default() }),
            _ => Err(RuntimeError::NotRunning { id: id.to_owned() }),
        }
    }

    async fn sandbox(&self, id: &str) -> Result<SandboxStats, RuntimeError> {
        let state = self.shared.state.lock();
        state.sandboxes.get(id).ok_or_else(|| not_found("sandbox", id))?;
        let running = |c: &&Container| c.sandbox == id && matches!(c.state, ContainerState::Running { .. });
        let pids = state.containers.values().filter(running).count() as u64;
        Ok(SandboxStats { usage: ContainerStats { pids, ..ContainerStats::default() }, ..SandboxStats::default() })
    }
}
