//! Containers in Linux namespaces and cgroups, with no daemon.
//!
//! A container's parent is a small process of its own, the [shim](crate::shim), which outlives the agent: it keeps the
//! streams and records the end in a file. Everything that must survive is a file below the root folder, so a new
//! [`Native`] over the same folder finds every pod as it is. Nothing outside that folder and the cgroup prefix is
//! ever touched.
//!
//! ```text
//! images/            see crate::image
//! sandboxes/ID/      sandbox.json, ns/ (pinned namespaces), shm/, resolv.conf, hostname
//! containers/ID/     see launch
//! ```
//!
//! Run the agent so that its end does not end its children (systemd: `KillMode=process`).

mod attach;
pub(crate) mod cgroup;
mod container;
mod exec;
mod forward;
pub(crate) mod launch;
mod logs;
mod namespace;
mod pty;
mod sandbox;
mod spawn;
mod stats;
mod watch;

pub use spawn::ShimCommand;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_core::env::Env;
use parking_lot::Mutex;

use self::{cgroup::Hierarchy, container::Container, sandbox::Sandbox, spawn::Shim, watch::Watch};
use crate::{
    image::{ImageSource, ImageStore},
    runtime::{
        Attach, ContainerSpec, Exec, HintStream, Hints, ImageInfo, ImagePull, Logs, Observation, PodRuntime,
        PortForward, Resources, RuntimeError, SandboxSpec, SandboxStarted, Stats,
    },
};

/// How to build a [`Native`] runtime.
#[derive(Clone)]
pub struct NativeConfig {
    /// Everything is kept below this folder. Must be absolute, without `,`, `:` and `\` (overlayfs's separators).
    pub root: PathBuf,
    /// Cgroups are made below this path of every tree, e.g. `/k8s`. Two runtimes on one machine need two.
    pub cgroup_prefix: PathBuf,
    /// How to start the shim.
    pub shim: ShimCommand,
    /// Where images come from that are not here. `None`: from imports only.
    pub images: Option<Arc<dyn ImageSource>>,
    /// Time.
    pub env: Env,
}

/// The runtime. Dropping it leaves all containers running.
pub struct Native {
    inner: Arc<Inner>,
    /// Keeps a second runtime off the folder.
    _lock: File,
}

struct Inner {
    config: NativeConfig,
    shim: Shim,
    hierarchy: Hierarchy,
    images: ImageStore,
    hints: Hints,
    watch: Watch,
    state: Mutex<State>,
    /// Held while the tree of cgroups is grown or pruned, so that no parent goes while a child comes.
    cgroups: Mutex<()>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    containers: BTreeMap<String, Arc<Container>>,
}

impl Native {
    /// Opens the folder and adopts what is in it. Blocks on the disk.
    pub fn open(config: NativeConfig) -> Result<Self, RuntimeError> {
        check_root(&config.root)?;
        for folder in ["sandboxes", "containers"] {
            let path = config.root.join(folder);
            let failed = |error| RuntimeError::system(format!("make {}", path.display()), error);
            std::fs::create_dir_all(&path).map_err(failed)?;
            // Containers hold set-user-id programs that are not meant for users of the machine.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let lock = lock(&config.root)?;
        let images = ImageStore::open(config.root.join("images"))?;
        images.clear_downloads()?;
        let hierarchy = Hierarchy::detect().map_err(|e| RuntimeError::system("find the cgroups", e))?;
        let watch = Watch::start().map_err(|e| RuntimeError::system("watch processes", e))?;
        let (hints, state, cgroups) = (Hints::default(), Mutex::default(), Mutex::default());
        let shim = Shim::new(config.shim.clone())
            .map_err(|error| RuntimeError::system(format!("open the shim {}", config.shim.program.display()), error))?;
        let inner = Arc::new(Inner { config, shim, hierarchy, images, hints, watch, state, cgroups });
        inner.adopt()?;
        Ok(Self { inner, _lock: lock })
    }

    /// The images, also for programs that import into the same folder.
    pub fn image_store(&self) -> &ImageStore {
        &self.inner.images
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| Err(RuntimeError::system("work for the container runtime", error)))
    }
}

fn lock(root: &Path) -> Result<File, RuntimeError> {
    let path = root.join("lock");
    let failed = |error: io::Error| RuntimeError::system(format!("lock {}", path.display()), error);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(failed(io::Error::other("another node agent uses this folder"))),
        Err(error) => Err(failed(error.into())),
    }
}

fn check_root(root: &Path) -> Result<(), RuntimeError> {
    let text = root.to_str().unwrap_or(",");
    if !root.is_absolute() || text.contains([',', ':', '\\']) {
        let message = format!("root folder {}: must be an absolute path without `,`, `:` and `\\`", root.display());
        return Err(RuntimeError::InvalidSpec { message });
    }
    Ok(())
}

/// Ids become file names.
fn check_id(what: &str, id: &str) -> Result<(), RuntimeError> {
    let fine = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    if (1..=128).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(fine) {
        return Ok(());
    }
    let message = format!("{what} id {id:?}: must be 1 to 128 of `A-Za-z0-9._-`, not starting with `.`");
    Err(RuntimeError::InvalidSpec { message })
}

impl Inner {
    fn sandbox(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.state.lock().sandboxes.get(id).cloned()
    }

    fn container(&self, id: &str) -> Option<Arc<Container>> {
        self.state.lock().containers.get(id).cloned()
    }

    fn existing_container(&self, id: &str) -> Result<Arc<Container>, RuntimeError> {
        self.container(id).ok_or_else(|| RuntimeError::NotFound { what: "container", id: id.to_owned() })
    }

    fn sandbox_folder(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(id)
    }

    fn container_folder(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    /// Finds what an earlier runtime over this folder left.
    fn adopt(self: &Arc<Self>) -> Result<(), RuntimeError> {
        for id in folders(&self.config.root.join("sandboxes"))? {
            self.adopt_sandbox(&id)?;
        }
        for id in folders(&self.config.root.join("containers"))? {
            self.adopt_container(&id)?;
        }
        let state = self.state.lock();
        for pinned in self.images.pinned()? {
            if !state.containers.contains_key(&pinned) {
                self.images.unpin(&pinned)?;
            }
        }
        Ok(())
    }
}

fn folders(path: &Path) -> Result<Vec<String>, RuntimeError> {
    let failed = |error| RuntimeError::system(format!("list {}", path.display()), error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[async_trait]
impl PodRuntime for Native {
    fn version(&self) -> String {
        concat!("native://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    async fn start_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStarted, RuntimeError> {
        self.blocking(move |inner| inner.start_sandbox(spec)).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(sandbox) = self.inner.sandbox(id) else { return Ok(()) };
        self.blocking(move |_| {
            sandbox.close();
            Ok(())
        })
        .await?;
        for container in self.inner.containers_of(id) {
            self.remove_container(&container).await?;
        }
        let id = id.to_owned();
        self.blocking(move |inner| inner.remove_sandbox(&id)).await
    }

    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<(), RuntimeError> {
        let sandbox = sandbox.to_owned();
        self.blocking(move |inner| inner.create_container(&sandbox, spec)).await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let container = self.inner.existing_container(id)?;
        self.blocking(move |inner| inner.start_container(&container)).await
    }

    async fn stop_container(&self, id: &str, grace: Duration, signal: Option<i32>) -> Result<(), RuntimeError> {
        let Some(container) = self.inner.container(id) else { return Ok(()) };
        let signal = signal.unwrap_or(container.record.stop_signal);
        if !grace.is_zero() && container.signal(signal)? {
            k8s_core::env::timeout(&*self.inner.config.env, grace, container.ended()).await;
        }
        container.signal(nix::libc::SIGKILL)?;
        container.ended().await;
        Ok(())
    }

    async fn kill_container(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        match self.inner.container(id) {
            Some(container) => container.signal(signal).map(drop),
            None => Ok(()),
        }
    }

    async fn update_resources(&self, id: &str, resources: Resources) -> Result<(), RuntimeError> {
        let container = self.inner.existing_container(id)?;
        self.blocking(move |inner| inner.update_resources(&container, resources)).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(container) = self.inner.container(id) else { return Ok(()) };
        container.signal(nix::libc::SIGKILL)?;
        container.ended().await;
        self.blocking(move |inner| inner.remove_container(&container)).await
    }

    async fn observe(&self) -> Result<Observation, RuntimeError> {
        let state = self.inner.state.lock();
        let sandboxes = state.sandboxes.values().map(|sandbox| self.inner.sandbox_status(sandbox)).collect();
        let containers = state.containers.values().map(|container| container.status()).collect();
        Ok(Observation { sandboxes, containers })
    }

    fn hints(&self) -> HintStream {
        self.inner.hints.listen()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let reference = reference.to_owned();
        self.blocking(move |inner| Ok(inner.images.find(&reference)?)).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        self.blocking(|inner| Ok(inner.images.list()?)).await
    }

    async fn pull_image(&self, pull: ImagePull) -> Result<ImageInfo, RuntimeError> {
        if let Some(source) = &self.inner.config.images {
            return Ok(source.fetch(&self.inner.images, &pull).await?);
        }
        let message = format!(
            "failed to pull image {:?}: this node does not fetch from registries; import it with `k8s image import`",
            pull.reference
        );
        self.image_status(&pull.reference).await?.ok_or(RuntimeError::Image { message })
    }

    async fn import_images(&self, path: &Path) -> Result<Vec<ImageInfo>, RuntimeError> {
        let (path, now) = (path.to_owned(), self.inner.config.env.now());
        self.blocking(move |inner| Ok(inner.images.import(&path, None, now, &mut |_| {})?)).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError> {
        let reference = reference.to_owned();
        self.blocking(move |inner| Ok(inner.images.remove(&reference)?)).await
    }

    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn attach(&self) -> Option<&dyn Attach> {
        Some(self)
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        Some(self)
    }

    fn stats(&self) -> Option<&dyn Stats> {
        Some(self)
    }
}
