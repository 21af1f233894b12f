//! What the tests of runtimes share: an environment on the real clock, and a native runtime in a folder of its own.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests run on the system's clock")]

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_node::{
    image::{ImageSource, archive::ImageBuilder},
    native::{Native, NativeConfig, ShimCommand},
    runtime::{ContainerSpec, ContainerState, ContainerStatus, Exit, PodRuntime, RuntimeError, SandboxSpec},
};
use k8s_wire::env::System;
use tempfile::TempDir;

/// A native runtime with busybox in its image store. Checks at the end that nothing is left on the machine.
pub struct Node {
    pub folder: TempDir,
    pub runtime: Option<Native>,
    images: Option<Arc<dyn ImageSource>>,
}

pub const IMAGE: &str = "test/busybox:1";

impl Node {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With a source of images besides imports.
    pub async fn start_with(images: Option<Arc<dyn ImageSource>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Self { folder, runtime: None, images };
        node.open();
        let program = std::fs::read("/bin/busybox").unwrap();
        node.import(&ImageBuilder::busybox(IMAGE, &program)).await;
        node
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    pub fn cgroup_prefix(&self) -> PathBuf {
        let name = self.folder.path().file_name().unwrap().to_str().unwrap();
        PathBuf::from(format!("/k8s-test{name}"))
    }

    /// A new runtime over the same folder, in place of the one there may be.
    pub fn open(&mut self) {
        self.runtime = None;
        self.runtime = Some(self.try_open().unwrap());
    }

    pub fn try_open(&self) -> Result<Native, RuntimeError> {
        let shim = ShimCommand { program: env!("CARGO_BIN_EXE_k8s-shim").into(), args: Vec::new() };
        let (images, env) = (self.images.clone(), System::current());
        Native::open(NativeConfig { root: self.root(), cgroup_prefix: self.cgroup_prefix(), shim, images, env })
    }

    pub fn runtime(&self) -> &dyn PodRuntime {
        self.runtime.as_ref().unwrap()
    }

    pub async fn import(&self, image: &ImageBuilder) {
        let path = self.folder.path().join("image.tar");
        std::fs::write(&path, image.docker_archive()).unwrap();
        self.runtime().import_images(&path).await.unwrap();
    }

    pub fn log_path(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.log"))
    }

    pub async fn sandbox(&self) {
        self.runtime().start_sandbox(pod()).await.unwrap();
    }

    /// A container that runs `script` in a shell.
    pub fn script(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            name: "main".to_owned(),
            image: IMAGE.to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            log_path: Some(self.log_path(id)),
            ..ContainerSpec::default()
        }
    }

    pub async fn run(&self, spec: ContainerSpec) -> Exit {
        let id = spec.id.clone();
        self.begin(spec).await;
        self.exit(&id).await
    }

    pub async fn begin(&self, spec: ContainerSpec) {
        let id = spec.id.clone();
        self.runtime().create_container("pod", spec).await.unwrap();
        self.runtime().start_container(&id).await.unwrap();
    }

    pub async fn exit(&self, id: &str) -> Exit {
        exit(self.runtime(), id).await
    }

    pub fn log(&self, id: &str) -> String {
        let text = std::fs::read_to_string(self.log_path(id)).unwrap();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n").collect()
    }

    /// Removes the pod and looks for leftovers.
    pub async fn finish(mut self) {
        let ids: Vec<String> = observed_sandboxes(self.runtime()).await;
        for id in ids {
            self.runtime().remove_sandbox(&id).await.unwrap();
        }
        self.runtime = None;
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let root = self.root().display().to_string();
        assert!(!mounts.contains(&root), "mounts are left: {mounts}");
        for folder in ["sandboxes", "containers", "images/pins"] {
            let left: Vec<_> = std::fs::read_dir(self.root().join(folder)).unwrap().collect();
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
        let cgroups = find(Path::new("/sys/fs/cgroup"), self.cgroup_prefix().file_name().unwrap().to_str().unwrap());
        assert!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
    }
}

/// A failed test leaves its pods: they go the hard way, so that the next ones find a clean machine.
impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let prefix = self.cgroup_prefix();
        let name = prefix.file_name().unwrap().to_str().unwrap();
        for cgroup in find(Path::new("/sys/fs/cgroup"), name) {
            clear_cgroup(&cgroup);
        }
        let root = self.root().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&root)) {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn clear_cgroup(folder: &Path) {
    let folders = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    folders.filter(|path| path.is_dir()).for_each(|path| clear_cgroup(&path));
    while std::fs::remove_dir(folder).is_err_and(|error| error.raw_os_error() == Some(nix::libc::EBUSY)) {
        let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines().filter_map(|line| line.parse().ok()).filter(|process| *process > 0) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
}

async fn observed_sandboxes(runtime: &dyn PodRuntime) -> Vec<String> {
    runtime.observe().await.unwrap().sandboxes.into_iter().map(|sandbox| sandbox.id).collect()
}

fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name() == name {
            found.push(entry.path());
        }
        found.extend(find(&entry.path(), name));
    }
    found
}

pub fn pod() -> SandboxSpec {
    SandboxSpec {
        id: "pod".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        uid: "u-1".to_owned(),
        hostname: "web-0".to_owned(),
        resolv_conf: Some("nameserver 10.96.0.10\n".to_owned()),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..SandboxSpec::default()
    }
}

pub async fn status(runtime: &dyn PodRuntime, id: &str) -> ContainerStatus {
    runtime.observe().await.unwrap().container(id).unwrap().clone()
}

/// Waits for the end of a container, woken by hints.
pub async fn exit(runtime: &dyn PodRuntime, id: &str) -> Exit {
    let mut hints = runtime.hints();
    loop {
        if let ContainerState::Exited(exit) = status(runtime, id).await.state {
            return exit;
        }
        within(hints.next()).await;
    }
}

/// Fails rather than hangs.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}
