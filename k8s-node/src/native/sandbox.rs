//! Sandboxes: pinned namespaces, a cgroup, shared memory and the files that all containers of a pod see.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_core::env::Timestamp;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::{
    Inner,
    cgroup::Cgroup,
    check_id,
    launch::{self, ProcessId, Report},
    namespace::{self, Wanted},
};
use crate::runtime::{
    IpcMode, NetworkMode, PidMode, RuntimeError, SandboxSpec, SandboxStarted, SandboxState, SandboxStatus,
};

/// A sandbox that exists.
pub struct Sandbox {
    pub record: SandboxRecord,
    pub folder: PathBuf,
    pub cgroup: Cgroup,
    turn: Mutex<()>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    ready: bool,
    /// The process that holds the shared process namespace.
    pause: Option<ProcessId>,
}

/// `sandbox.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub spec: SandboxSpec,
    pub created_at: Timestamp,
}

impl Sandbox {
    fn new(inner: &Inner, record: SandboxRecord) -> Self {
        let folder = inner.sandbox_folder(&record.spec.id);
        let parent = match record.spec.cgroup_parent.as_str() {
            "" => format!("pod-{}", record.spec.id),
            parent => parent.trim_matches('/').to_owned(),
        };
        let cgroup = inner.hierarchy.cgroup(&inner.config.cgroup_prefix.join(parent));
        Self { record, folder, cgroup, turn: Mutex::default(), live: Mutex::default() }
    }

    pub fn is_ready(&self) -> bool {
        self.live.lock().ready
    }

    /// A pinned namespace of the sandbox.
    pub fn namespace(&self, name: &str) -> PathBuf {
        self.folder.join("ns").join(name)
    }

    pub fn has_network(&self) -> bool {
        self.record.spec.network == NetworkMode::Pod
    }

    /// Held by verbs that change the sandbox or add to it.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Lets no more containers in: it is about to be removed.
    pub fn close(&self) {
        let _turn = self.turn();
        self.live.lock().ready = false;
    }

    /// The cgroup of a container.
    pub fn container_cgroup(&self, id: &str) -> Cgroup {
        // A prefix, for a bare id might be the name of one of the kernel's files.
        self.cgroup.child(&format!("container-{id}"))
    }

    fn pause_cgroup(&self) -> Cgroup {
        self.cgroup.child(&format!("pause-{}", self.record.spec.id))
    }

    fn pins(&self) -> Vec<&'static str> {
        let spec = &self.record.spec;
        let mut pins = Vec::new();
        if self.has_network() {
            pins.extend(["net", "uts"]);
        }
        if spec.ipc == IpcMode::Pod {
            pins.push("ipc");
        }
        if spec.pid == PidMode::Pod {
            pins.push("pid");
        }
        pins
    }
}

impl Inner {
    pub(super) fn start_sandbox(self: &Arc<Self>, spec: SandboxSpec) -> Result<SandboxStarted, RuntimeError> {
        check_id("sandbox", &spec.id)?;
        check_cgroup_parent(&spec.cgroup_parent)?;
        check_sysctls(&spec)?;
        let sandbox = {
            let mut state = self.state.lock();
            let record = SandboxRecord { spec, created_at: self.config.env.now() };
            let sandbox = Arc::new(Sandbox::new(self, record));
            Arc::clone(state.sandboxes.entry(sandbox.record.spec.id.clone()).or_insert(sandbox))
        };
        let _turn = sandbox.turn();
        if !sandbox.is_ready() {
            self.build_sandbox(&sandbox)?;
        }
        Ok(SandboxStarted { netns: sandbox.has_network().then(|| sandbox.namespace("net")) })
    }

    fn build_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), RuntimeError> {
        let spec = &sandbox.record.spec;
        let failed =
            |error: io::Error| RuntimeError::Sandbox { message: format!("start sandbox {}: {error}", spec.id) };
        fs::create_dir_all(sandbox.folder.join("ns")).map_err(failed)?;
        fs::create_dir_all(sandbox.folder.join("empty")).map_err(failed)?;
        // Recorded first: what follows is then found and removed, or finished, by whoever comes next.
        launch::write(&sandbox.folder, "sandbox.json", &sandbox.record).map_err(failed)?;
        {
            let _cgroups = self.cgroups.lock();
            sandbox.cgroup.create().map_err(failed)?;
            sandbox.cgroup.apply(&spec.resources).map_err(failed)?;
        }
        let hostname = sandbox.has_network().then(|| spec.hostname.clone());
        let (network, ipc) = (sandbox.has_network(), spec.ipc == IpcMode::Pod);
        let wanted = Wanted { network, ipc, hostname, sysctls: spec.sysctls.clone() };
        namespace::pin(&sandbox.folder.join("ns"), &wanted).map_err(failed)?;
        if ipc {
            mount_shared_memory(&sandbox.folder.join("shm")).map_err(failed)?;
        }
        write_files(&sandbox.folder, spec, network).map_err(failed)?;
        if spec.pid == PidMode::Pod {
            self.pin_processes(sandbox)?;
        }
        sandbox.live.lock().ready = true;
        Ok(())
    }

    /// Starts the process that holds the pod's process namespace.
    fn pin_processes(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), RuntimeError> {
        let failed = |message: String| RuntimeError::Sandbox { message };
        let wrong = |error: io::Error| failed(format!("pin the pod's process namespace: {error}"));
        namespace::unpin(&sandbox.namespace("pid")).map_err(wrong)?;
        launch::write(&sandbox.folder, "pause.json", &sandbox.pause_cgroup()).map_err(wrong)?;
        let (mut helper, report) = self.shim.report("pause", &sandbox.folder).map_err(wrong)?;
        helper.wait().map_err(wrong)?;
        let process = match report {
            Report::Pinned(process) => process,
            Report::Failed(failure) => return Err(failed(failure.message)),
            Report::Started(_) => return Err(failed("the shim answered a question that was not asked".to_owned())),
        };
        launch::write(&sandbox.folder, "pinned.json", &process).map_err(wrong)?;
        self.watch_pause(sandbox, process).map_err(wrong)
    }

    fn watch_pause(self: &Arc<Self>, sandbox: &Arc<Sandbox>, process: ProcessId) -> io::Result<()> {
        let handle = process.open().ok_or_else(|| io::Error::other("its first process is gone"))?;
        sandbox.live.lock().pause = Some(process);
        let (inner, sandbox) = (Arc::downgrade(self), Arc::clone(sandbox));
        let ended = move || {
            sandbox.live.lock().ready = false;
            if let Some(inner) = inner.upgrade() {
                inner.hints.send(&sandbox.record.spec.id);
            }
        };
        self.watch.add(handle, Box::new(ended))
    }

    pub(super) fn adopt_sandbox(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let folder = self.sandbox_folder(id);
        let failed = |error| RuntimeError::system(format!("adopt sandbox {id}"), error);
        let Some(record) = launch::read::<SandboxRecord>(&folder, "sandbox.json").map_err(failed)? else {
            // Never finished its first step: nothing of it exists but the folder.
            return fs::remove_dir_all(&folder).map_err(failed);
        };
        let sandbox = Arc::new(Sandbox::new(self, record));
        let mut ready = sandbox.pins().iter().all(|name| namespace::is_pinned(&sandbox.namespace(name)));
        if sandbox.record.spec.pid == PidMode::Pod {
            let pinned: Option<ProcessId> = launch::read(&folder, "pinned.json").map_err(failed)?;
            ready &= pinned.is_some_and(|process| self.watch_pause(&sandbox, process).is_ok());
        }
        sandbox.live.lock().ready = ready;
        self.state.lock().sandboxes.insert(id.to_owned(), sandbox);
        Ok(())
    }

    pub(super) fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _turn = sandbox.turn();
        let failed = |error: io::Error| RuntimeError::system(format!("remove sandbox {id}"), error);
        let pause = {
            let mut live = sandbox.live.lock();
            live.ready = false;
            live.pause.take()
        };
        if let Some(handle) = pause.and_then(ProcessId::open) {
            // It may end by itself meanwhile.
            let _ = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
        }
        for name in ["net", "ipc", "uts", "pid"] {
            namespace::unpin(&sandbox.namespace(name)).map_err(failed)?;
        }
        let shm = sandbox.folder.join("shm");
        if shm.exists() && is_mounted(&shm) {
            umount2(&shm, MntFlags::MNT_DETACH).map_err(|error| failed(error.into()))?;
        }
        // A pod whose sandbox was replaced has two of them in one cgroup for a moment.
        let shared = self
            .state
            .lock()
            .sandboxes
            .values()
            .any(|other| other.record.spec.id != *id && other.cgroup == sandbox.cgroup);
        let cgroup = if shared { sandbox.pause_cgroup() } else { sandbox.cgroup.clone() };
        self.remove_cgroup(&cgroup).map_err(failed)?;
        match fs::remove_dir_all(&sandbox.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        self.state.lock().sandboxes.remove(id);
        Ok(())
    }

    /// Kills what is in a cgroup and removes it.
    pub(super) fn remove_cgroup(&self, cgroup: &Cgroup) -> io::Result<()> {
        /// A killed process leaves its cgroup when it is torn down, which the kernel does in its own time.
        const TRIES: usize = 2000;
        let _cgroups = self.cgroups.lock();
        let mut result = Ok(());
        for _ in 0..TRIES {
            while cgroup.kill() {
                std::thread::yield_now();
            }
            result = cgroup.remove(&self.config.cgroup_prefix);
            match &result {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::yield_now(),
                _ => break,
            }
        }
        result
    }

    pub(super) fn sandbox_status(&self, sandbox: &Sandbox) -> SandboxStatus {
        let spec = &sandbox.record.spec;
        let ready = sandbox.is_ready();
        SandboxStatus {
            id: spec.id.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
            state: if ready { SandboxState::Ready } else { SandboxState::NotReady },
            network: spec.network,
            netns: (ready && sandbox.has_network()).then(|| sandbox.namespace("net")),
            created_at: sandbox.record.created_at,
        }
    }
}

/// Settings of the machine as a whole are not a pod's to make.
fn check_sysctls(spec: &SandboxSpec) -> Result<(), RuntimeError> {
    const OF_IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    for name in spec.sysctls.keys() {
        let dotted = name.replace('/', ".");
        let of_ipc = dotted.strip_prefix("kernel.").is_some_and(|rest| OF_IPC.contains(&rest))
            || dotted.starts_with("fs.mqueue.");
        let own =
            (of_ipc && spec.ipc == IpcMode::Pod) || (dotted.starts_with("net.") && spec.network == NetworkMode::Pod);
        if !own || dotted.contains("..") {
            let message = format!("sysctl {name:?} is not in a separate kernel namespace");
            return Err(RuntimeError::Sandbox { message });
        }
    }
    Ok(())
}

fn check_cgroup_parent(parent: &str) -> Result<(), RuntimeError> {
    if parent.split('/').any(|part| part == ".." || part == ".") {
        let message = format!("cgroup parent {parent:?}: must not contain `.` or `..`");
        return Err(RuntimeError::InvalidSpec { message });
    }
    Ok(())
}

fn mount_shared_memory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("shm"), path, Some("tmpfs"), flags, Some("mode=1777,size=64m"))?)
}

/// Whether something is mounted on this folder.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev);
    let parent = path.parent().unwrap_or(Path::new("/"));
    matches!((device(path), device(parent)), (Ok(a), Ok(b)) if a != b)
}

fn write_files(folder: &Path, spec: &SandboxSpec, own_hostname: bool) -> io::Result<()> {
    if let Some(content) = &spec.resolv_conf {
        fs::write(folder.join("resolv.conf"), content)?;
    }
    if own_hostname {
        fs::write(folder.join("hostname"), format!("{}\n", spec.hostname))?;
    }
    Ok(())
}
