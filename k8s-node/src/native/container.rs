//! Containers: their records, their start through the shim, their end.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_core::env::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Inner,
    cgroup::Cgroup,
    check_id,
    launch::{self, Failure, Launch, LaunchPid, ProcessId, Report, Stage, Started},
    sandbox::Sandbox,
    spawn,
};
use crate::{
    runtime::{
        ContainerSpec, ContainerState, ContainerStatus, Exit, ImageInfo, IpcMode, Mount, PidMode, Propagation,
        Resources, RuntimeError, Seccomp,
    },
    shim, sys,
};

/// A container that exists.
pub struct Container {
    pub record: ContainerRecord,
    pub folder: PathBuf,
    pub cgroup: Cgroup,
    /// Held by verbs that change it.
    turn: Mutex<()>,
    live: Mutex<Live>,
    /// True while it runs.
    running: watch::Sender<bool>,
}

struct Live {
    state: ContainerState,
    started: Option<Started>,
    shim: Option<ProcessId>,
    resources: Resources,
}

/// `container.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub spec: ContainerSpec,
    pub sandbox: String,
    pub image_id: String,
    pub image_ref: String,
    pub stop_signal: i32,
    pub created_at: Timestamp,
}

/// What a program finds its helpers in, where the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Container {
    fn new(inner: &Inner, record: ContainerRecord, cgroup: Cgroup) -> Self {
        let id = record.spec.id.clone();
        let resources = record.spec.resources.clone();
        let live = Live { state: ContainerState::Created, started: None, shim: None, resources };
        Self {
            record,
            folder: inner.container_folder(&id),
            cgroup,
            turn: Mutex::default(),
            live: Mutex::new(live),
            running: watch::Sender::new(false),
        }
    }

    /// Sends a signal to the first process; answers whether it runs.
    pub fn signal(&self, signal: i32) -> Result<bool, RuntimeError> {
        let Some(handle) = self.started().and_then(|started| started.process.open()) else { return Ok(false) };
        if !*self.running.borrow() {
            return Ok(false);
        }
        match sys::send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(true),
            Err(error) => Err(RuntimeError::system(format!("signal container {}", self.record.spec.id), error)),
        }
    }

    /// Resolves when it does not run (any more).
    pub async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.running.subscribe().wait_for(|running| !running).await;
    }

    pub fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    /// Told when it starts or ends.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.running.subscribe()
    }

    pub fn started(&self) -> Option<Started> {
        self.live.lock().started.clone()
    }

    pub fn shim(&self) -> Option<ProcessId> {
        self.live.lock().shim
    }

    fn set_running(&self, shim: ProcessId, started: Started) {
        {
            let mut live = self.live.lock();
            let pid = u32::try_from(started.process.pid).ok();
            live.state = ContainerState::Running { pid, started_at: started.started_at };
            live.started = Some(started);
            live.shim = Some(shim);
        }
        self.running.send_replace(true);
    }

    fn set_exited(&self, exit: Exit) {
        self.live.lock().state = ContainerState::Exited(exit);
        self.running.send_replace(false);
    }

    pub fn status(&self) -> ContainerStatus {
        let (live, record) = (self.live.lock(), &self.record);
        ContainerStatus {
            id: record.spec.id.clone(),
            sandbox: record.sandbox.clone(),
            name: record.spec.name.clone(),
            attempt: record.spec.attempt,
            image: record.spec.image.clone(),
            image_id: record.image_id.clone(),
            image_ref: record.image_ref.clone(),
            labels: record.spec.labels.clone(),
            annotations: record.spec.annotations.clone(),
            log_path: record.spec.log_path.clone(),
            resources: live.resources.clone(),
            user: live.started.as_ref().map(|started| started.user.clone()),
            created_at: record.created_at,
            state: live.state.clone(),
        }
    }
}

impl Inner {
    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<String> {
        let state = self.state.lock();
        let of_it = state.containers.values().filter(|container| container.record.sandbox == sandbox);
        of_it.map(|container| container.record.spec.id.clone()).collect()
    }

    pub(super) fn create_container(self: &Arc<Self>, sandbox: &str, spec: ContainerSpec) -> Result<(), RuntimeError> {
        check_id("container", &spec.id)?;
        let missing = || RuntimeError::NotFound { what: "sandbox", id: sandbox.to_owned() };
        let sandbox = self.sandbox(sandbox).ok_or_else(missing)?;
        let _turn = sandbox.turn();
        if self.container(&spec.id).is_some() {
            return Ok(());
        }
        if !sandbox.is_ready() {
            let message = format!("sandbox {} is not ready: remove it and start another", sandbox.record.spec.id);
            return Err(RuntimeError::Sandbox { message });
        }
        check_confinement(&spec, &sandbox.cgroup)?;
        let missing = || RuntimeError::ImageNotPresent { reference: spec.image.clone() };
        let image = self.images.find(&spec.image)?.ok_or_else(missing)?;
        let id = spec.id.clone();
        let built = self.build_container(&sandbox, spec, &image);
        if built.is_err() {
            // The first error is the one that counts; a pin without a container is ended at the next opening.
            let _ = self.images.unpin(&id);
            let _ = fs::remove_dir_all(self.container_folder(&id));
        }
        let container = built?;
        self.state.lock().containers.insert(id, container);
        Ok(())
    }

    fn build_container(
        &self,
        sandbox: &Sandbox,
        spec: ContainerSpec,
        image: &ImageInfo,
    ) -> Result<Arc<Container>, RuntimeError> {
        let failed = |error: io::Error| RuntimeError::Create { message: format!("create container: {error}") };
        let folder = self.container_folder(&spec.id);
        match fs::remove_dir_all(&folder) {
            // What a crash in the midst of creating left behind.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        for inner in ["upper", "work", "rootfs", "empty"] {
            fs::create_dir_all(folder.join(inner)).map_err(failed)?;
        }
        // It becomes the container's root folder, which everyone there may enter.
        fs::set_permissions(folder.join("upper"), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let layers = self.images.pin(&spec.id, &image.id)?;
        let launch = launch_of(sandbox, &spec, image, layers)?;
        let record = ContainerRecord {
            stop_signal: spec.stop_signal.or_else(|| signal_number(&image.stop_signal)).unwrap_or(nix::libc::SIGTERM),
            sandbox: sandbox.record.spec.id.clone(),
            image_id: image.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            created_at: self.config.env.now(),
            spec,
        };
        launch::write(&folder, "launch.json", &launch).map_err(failed)?;
        // Last: a folder without it is no container.
        launch::write(&folder, "container.json", &record).map_err(failed)?;
        Ok(Arc::new(Container::new(self, record, launch.cgroup)))
    }

    pub(super) fn start_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), RuntimeError> {
        let _turn = container.turn.lock();
        if container.live.lock().state != ContainerState::Created {
            return Ok(());
        }
        let wrong = |error: io::Error| RuntimeError::Start { message: error.to_string() };
        let (mut child, report) = self.shim.report("run", &container.folder).map_err(wrong)?;
        match report {
            Report::Started(started) => {
                let handle = spawn::handle(&child).map_err(wrong)?;
                let shim: Option<ProcessId> = launch::read(&container.folder, "shim.json").map_err(wrong)?;
                let shim = shim.ok_or_else(|| wrong(io::Error::other("the shim left no record of itself")))?;
                container.set_running(shim, started);
                self.watch_container(container, handle).map_err(wrong)
            }
            Report::Failed(failure) => {
                child.wait().map_err(wrong)?;
                let exit = self.exit_of(container).map_err(wrong)?;
                container.set_exited(exit);
                Err(start_error(failure))
            }
            Report::Pinned(_) => Err(wrong(io::Error::other("the shim answered a question that was not asked"))),
        }
    }

    fn watch_container(self: &Arc<Self>, container: &Arc<Container>, shim: OwnedFd) -> io::Result<()> {
        let (inner, container) = (Arc::downgrade(self), Arc::clone(container));
        let ended = move || {
            let Some(inner) = inner.upgrade() else { return };
            let exit = inner.exit_of(&container).unwrap_or_else(|error| inner.lost(&container, &error.to_string()));
            container.set_exited(exit);
            inner.hints.send(&container.record.sandbox);
        };
        self.watch.add(shim, Box::new(ended))
    }

    /// How a container whose shim has ended did end, as recorded; if it is not, its remains are killed and that is
    /// recorded.
    fn exit_of(&self, container: &Container) -> io::Result<Exit> {
        if let Some(exit) = launch::read(&container.folder, "exit.json")? {
            return Ok(exit);
        }
        while container.cgroup.kill() {
            std::thread::yield_now();
        }
        let exit =
            self.lost(container, "the container's end was not recorded: its shim was killed, or the machine restarted");
        launch::write(&container.folder, "exit.json", &exit)?;
        Ok(exit)
    }

    fn lost(&self, container: &Container, message: &str) -> Exit {
        let now = self.config.env.now();
        let started_at = container.started().map_or(now, |started| started.started_at);
        let (reason, message) = ("ContainerStatusUnknown".to_owned(), message.to_owned());
        Exit { code: 255, signal: None, reason, message, started_at, finished_at: now }
    }

    pub(super) fn adopt_container(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let folder = self.container_folder(id);
        let failed = |error| RuntimeError::system(format!("adopt container {id}"), error);
        let Some(record) = launch::read::<ContainerRecord>(&folder, "container.json").map_err(failed)? else {
            // Its creation was interrupted, and will be repeated from the beginning if it is still wanted.
            return fs::remove_dir_all(&folder).map_err(failed);
        };
        let missing = || failed(io::Error::other("launch.json is missing"));
        let launch: Launch = launch::read(&folder, "launch.json").map_err(failed)?.ok_or_else(missing)?;
        let container = Arc::new(Container::new(self, record, launch.cgroup));
        self.adopt_state(&container).map_err(failed)?;
        self.state.lock().containers.insert(id.to_owned(), container);
        Ok(())
    }

    fn adopt_state(self: &Arc<Self>, container: &Arc<Container>) -> io::Result<()> {
        let folder = &container.folder;
        let Some(shim) = launch::read::<ProcessId>(folder, "shim.json")? else { return Ok(()) };
        let handle = shim.open();
        if let Some(handle) = &handle {
            wait_for_start(folder, handle)?;
        }
        container.live.lock().started = launch::read(folder, "running.json")?;
        if let (Some(handle), Some(started), None) =
            (handle, container.started(), launch::read::<Exit>(folder, "exit.json")?)
        {
            container.set_running(shim, started);
            return self.watch_container(container, handle);
        }
        let exit = self.exit_of(container)?;
        container.set_exited(exit);
        Ok(())
    }

    pub(super) fn update_resources(&self, container: &Container, change: Resources) -> Result<(), RuntimeError> {
        let _turn = container.turn.lock();
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: container.record.spec.id.clone() });
        }
        let failed = |error| RuntimeError::system(format!("update container {}", container.record.spec.id), error);
        container.cgroup.apply(&change).map_err(failed)?;
        let mut record = container.record.clone();
        record.spec.resources = {
            let mut live = container.live.lock();
            live.resources.update(change);
            live.resources.clone()
        };
        launch::write(&container.folder, "container.json", &record).map_err(failed)
    }

    /// Removes what is left of a container that does not run.
    pub(super) fn remove_container(&self, container: &Container) -> Result<(), RuntimeError> {
        let _turn = container.turn.lock();
        let id = &container.record.spec.id;
        let failed = |error: io::Error| RuntimeError::system(format!("remove container {id}"), error);
        // It may have been started since its end was awaited.
        container.signal(nix::libc::SIGKILL)?;
        if let Some(handle) = container.shim().and_then(ProcessId::open) {
            wait_for_end(&handle);
        }
        let _cgroups = self.cgroups.lock();
        while container.cgroup.kill() {
            std::thread::yield_now();
        }
        container.cgroup.remove(Path::new("/nothing-above")).map_err(failed)?;
        match fs::remove_dir_all(&container.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        self.images.unpin(id)?;
        self.state.lock().containers.remove(id);
        Ok(())
    }
}

/// A start that was under way when the agent died comes to its end by itself.
fn wait_for_start(folder: &Path, shim: &OwnedFd) -> io::Result<()> {
    const STEP: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    const STEPS: usize = 1000;
    for _ in 0..STEPS {
        if folder.join("running.json").exists() || folder.join("exit.json").exists() {
            return Ok(());
        }
        let mut descriptors = [rustix::event::PollFd::new(shim, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut descriptors, Some(&STEP))? > 0 {
            return Ok(());
        }
    }
    Err(io::Error::other("its start has not come to an end"))
}

fn wait_for_end(shim: &OwnedFd) {
    let mut descriptors = [rustix::event::PollFd::new(shim, rustix::event::PollFlags::IN)];
    // An interrupted wait only makes the removal that follows try longer.
    let _ = rustix::event::poll(&mut descriptors, None);
}

fn start_error(failure: Failure) -> RuntimeError {
    match failure.stage {
        Stage::Create => RuntimeError::Create { message: failure.message },
        Stage::Start => RuntimeError::Start { message: failure.message },
    }
}

fn check_confinement(spec: &ContainerSpec, cgroup: &Cgroup) -> Result<(), RuntimeError> {
    let invalid = |message| RuntimeError::InvalidSpec { message };
    shim::check_capabilities(&spec.security, cgroup.can_restrict_devices()).map_err(invalid)?;
    if let Seccomp::Localhost(path) = &spec.security.seccomp {
        let named = |problem| invalid(format!("cannot load seccomp profile {:?}: {problem}", path.display()));
        shim::check_seccomp(path).map_err(named)?;
    }
    let bidirectional = spec.mounts.iter().any(|mount| mount.propagation == Propagation::Bidirectional);
    if bidirectional && !spec.security.privileged {
        return Err(invalid("Bidirectional mount propagation is available only to privileged containers".to_owned()));
    }
    Ok(())
}

fn launch_of(
    sandbox: &Sandbox,
    spec: &ContainerSpec,
    image: &ImageInfo,
    layers: crate::image::Layers,
) -> Result<Launch, RuntimeError> {
    let pod = &sandbox.record.spec;
    let own_ipc = pod.ipc == IpcMode::Pod;
    let cwd = spec.working_dir.clone().filter(|cwd| !cwd.is_empty()).unwrap_or_else(|| image.working_dir.clone());
    Ok(Launch {
        layers_folder: layers.folder,
        lower: layers.lower,
        network: sandbox.has_network().then(|| sandbox.namespace("net")),
        uts: sandbox.has_network().then(|| sandbox.namespace("uts")),
        ipc: own_ipc.then(|| sandbox.namespace("ipc")),
        pid: match pod.pid {
            PidMode::Container => LaunchPid::New,
            PidMode::Pod => LaunchPid::Join(sandbox.namespace("pid")),
            PidMode::Host => LaunchPid::Host,
        },
        cgroup: sandbox.container_cgroup(&spec.id),
        resources: spec.resources.clone(),
        argv: argv(spec, image)?,
        env: environment(sandbox, spec, image),
        cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
        image_user: image.user.clone(),
        user: spec.user.clone(),
        mounts: mounts(sandbox, spec),
        shm: Some(if own_ipc { sandbox.folder.join("shm") } else { PathBuf::from("/dev/shm") }),
        devices: spec.devices.clone(),
        security: spec.security.clone(),
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        log_path: spec.log_path.clone(),
    })
}

/// The command replaces the entrypoint, and then the image's arguments do not apply.
fn argv(spec: &ContainerSpec, image: &ImageInfo) -> Result<Vec<String>, RuntimeError> {
    let entrypoint = if spec.command.is_empty() { &image.entrypoint } else { &spec.command };
    let args = if spec.args.is_empty() && spec.command.is_empty() { &image.cmd } else { &spec.args };
    let argv: Vec<String> = entrypoint.iter().chain(args).cloned().collect();
    if argv.is_empty() {
        return Err(RuntimeError::Create { message: "no command specified".to_owned() });
    }
    Ok(argv)
}

/// The last of equal names wins and keeps the first one's place.
fn environment(sandbox: &Sandbox, spec: &ContainerSpec, image: &ImageInfo) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    if sandbox.has_network() {
        env.push(("HOSTNAME".to_owned(), sandbox.record.spec.hostname.clone()));
    }
    if spec.tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let of_image = image.env.iter().filter_map(|entry| entry.split_once('='));
    let of_image = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in of_image.chain(spec.env.iter().cloned()) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => env.push((name, value)),
        }
    }
    env
}

/// The pod's own files, where the specification does not bring others.
fn mounts(sandbox: &Sandbox, spec: &ContainerSpec) -> Vec<Mount> {
    let taken: BTreeSet<&PathBuf> = spec.mounts.iter().map(|mount| &mount.container_path).collect();
    let mut mounts = Vec::new();
    for (name, inside) in [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")] {
        let (host_path, container_path) = (sandbox.folder.join(name), PathBuf::from(inside));
        if host_path.exists() && !taken.contains(&container_path) {
            mounts.push(Mount { host_path, container_path, read_only: false, propagation: Propagation::Private });
        }
    }
    mounts.extend(spec.mounts.iter().cloned());
    mounts
}

/// `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
fn signal_number(text: &str) -> Option<i32> {
    use std::str::FromStr;
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        /// The first that the C library leaves to programs.
        const SIGRTMIN: i32 = 34;
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&offset).then_some(SIGRTMIN + offset);
    }
    nix::sys::signal::Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("QUIT", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("", None),
            ("99", None),
        ];
        for (text, number) in cases {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }

    #[test]
    fn the_command_replaces_the_image_s_arguments_too() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let image = ImageInfo { entrypoint: words("ep"), cmd: words("c d"), ..ImageInfo::default() };
        let argv = |command, args| {
            argv(&ContainerSpec { command: words(command), args: words(args), ..ContainerSpec::default() }, &image)
        };
        assert_eq!(argv("", ""), Ok(words("ep c d")));
        assert_eq!(argv("", "x"), Ok(words("ep x")));
        assert_eq!(argv("y", ""), Ok(words("y")));
        assert_eq!(argv("y", "x"), Ok(words("y x")));
    }
}
