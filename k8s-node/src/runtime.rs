//! What the node agent asks of whatever runs containers: one trait, its values, and its optional capabilities.
//!
//! Nothing here knows Linux, HTTP or the API server. Implementations: [`crate::native`] (namespaces and cgroups
//! with no daemon) and [`crate::hollow`] (pretends). `contract` holds the promises as a test suite.

mod capability;
mod container;
pub mod contract;
mod hint;
mod image;
mod sandbox;

pub use capability::{
    Attach, AttachSpec, ContainerStats, Duplex, Exec, ExecOutput, ExecSpec, LogOptions, LogReader, LogStream, Logs,
    PortForward, SandboxStats, Session, Stats, Terminal, TerminalSize, run_to_end,
};
pub use container::{
    ContainerSpec, ContainerState, ContainerStatus, Device, Exit, Mount, ProcMount, Propagation, Resources, Seccomp,
    Security, SupplementalGroupsPolicy, User,
};
pub use hint::{Hint, HintStream, Hints};
pub use image::{ImageInfo, ImagePull};
pub use sandbox::{IpcMode, NetworkMode, PidMode, SandboxSpec, SandboxStarted, SandboxState, SandboxStatus};

use std::{path::Path, time::Duration};

use async_trait::async_trait;

/// Runs pods: sandboxes (what the containers of one pod share) and containers.
///
/// The agent chooses every id (1 to 128 characters of `[A-Za-z0-9._-]`, not starting with a dot) and every verb is
/// idempotent on it: starting what is started and removing what is gone succeed. So after a crash the agent reads
/// [`observe`](Self::observe), plans again, and repeats whatever it is unsure of. Containers outlive the agent; a new
/// runtime over the same folder adopts them with their true exit codes.
///
/// Cancel-safety of every verb: a dropped call may have taken effect; calling it again picks up from there.
///
/// The counterpart upstream is the Container Runtime Interface (`RuntimeService` and `ImageService`).
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Name and version as shown in `node.status.nodeInfo.containerRuntimeVersion`, e.g. `native://0.1.0`.
    fn version(&self) -> String;

    /// Makes what the containers of a pod share: network, IPC and UTS namespaces, a cgroup, `/dev/shm`.
    ///
    /// Cheap, and starts no process unless the pod shares its process namespace. The network namespace has only a
    /// loopback interface (up); the caller connects it before it creates containers.
    async fn start_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStarted, RuntimeError>;

    /// Kills and removes the containers of the sandbox and everything it holds. Succeeds when there is none.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;

    /// Records a container in a sandbox, checks the specification and resolves its image. Nothing runs yet.
    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<(), RuntimeError>;

    /// Starts a created container and resolves when its program has been executed (not: when it is ready).
    ///
    /// A container runs at most once: starting one that runs or has exited does nothing. When it cannot start, the
    /// error names the cause in the words users know, and the container is then in state exited with code 128.
    async fn start_container(&self, id: &str) -> Result<(), RuntimeError>;

    /// Sends `signal` (default: the image's stop signal, else `SIGTERM`), and `SIGKILL` after `grace`; resolves when
    /// the container has ended. Succeeds when it does not run or does not exist.
    async fn stop_container(&self, id: &str, grace: Duration, signal: Option<i32>) -> Result<(), RuntimeError>;

    /// Sends one signal to the container's first process, at once. Succeeds when it does not run.
    async fn kill_container(&self, id: &str, signal: i32) -> Result<(), RuntimeError>;

    /// Changes the limits of a running container in place. Fields that are `None` stay as they are.
    async fn update_resources(&self, id: &str, resources: Resources) -> Result<(), RuntimeError>;

    /// Kills the container if it runs and removes all it left but its log. Succeeds when there is none.
    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError>;

    /// The whole truth: every sandbox and container that this runtime owns, ordered by id.
    async fn observe(&self) -> Result<Observation, RuntimeError>;

    /// A stream that says which sandbox to look at again. Edge-triggered and merged: after any change that the
    /// caller did not make itself, at least one hint for that sandbox follows the change; several changes may share
    /// one hint. Each call gives an independent stream that begins now.
    fn hints(&self) -> HintStream;

    /// The image that `reference` (a name, a name with digest, or an image id) means, if it is present.
    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError>;

    /// All images present, ordered by id.
    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError>;

    /// Makes an image present, or says why it cannot be. A runtime without registry access finds only images that
    /// were imported.
    async fn pull_image(&self, pull: ImagePull) -> Result<ImageInfo, RuntimeError>;

    /// Imports every image of a docker archive or OCI layout at `path` and answers them.
    async fn import_images(&self, path: &Path) -> Result<Vec<ImageInfo>, RuntimeError>;

    /// Removes a name, or, given an image id, the image with all its names. Containers that use it keep running.
    /// Succeeds when there is none.
    async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError>;

    /// Container logs, if this runtime keeps them.
    fn logs(&self) -> Option<&dyn Logs>;
    /// Commands inside containers, if this runtime can run them.
    fn exec(&self) -> Option<&dyn Exec>;
    /// Joining the standard streams of a running container, if possible.
    fn attach(&self) -> Option<&dyn Attach>;
    /// Connections into the network namespace of a sandbox, if there is one.
    fn port_forward(&self) -> Option<&dyn PortForward>;
    /// Usage figures, if measured.
    fn stats(&self) -> Option<&dyn Stats>;
}

/// Everything a runtime owns at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Ordered by id.
    pub sandboxes: Vec<SandboxStatus>,
    /// Ordered by id.
    pub containers: Vec<ContainerStatus>,
}

impl Observation {
    /// The sandbox with this id.
    pub fn sandbox(&self, id: &str) -> Option<&SandboxStatus> {
        self.sandboxes.iter().find(|sandbox| sandbox.id == id)
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.id == id)
    }
}

/// Why a runtime refused or failed. The message is meant for the pod's status and events, verbatim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The sandbox or container that was named does not exist.
    #[error("{what} {id:?} not found")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The verb needs a running container.
    #[error("container {id:?} is not running")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// The image is not present.
    #[error("image {reference:?} is not present on this node")]
    ImageNotPresent {
        /// The reference as it was asked for.
        reference: String,
    },
    /// An image could not be fetched, read or verified.
    #[error("{message}")]
    Image {
        /// What was being done, with which file or name, and what was wrong.
        message: String,
    },
    /// The sandbox could not be made.
    #[error("{message}")]
    Sandbox {
        /// What was being done and what went wrong.
        message: String,
    },
    /// The container's specification cannot be carried out as it is.
    #[error("{message}")]
    InvalidSpec {
        /// Which field, and what to change.
        message: String,
    },
    /// The container could not be set up (mounts, user, cgroup).
    #[error("{message}")]
    Create {
        /// What was being done and what went wrong.
        message: String,
    },
    /// The container's program could not be executed.
    #[error("{message}")]
    Start {
        /// In the words users know, e.g. `exec: "foo": executable file not found in $PATH`.
        message: String,
    },
    /// This runtime cannot do that.
    #[error("the {runtime} runtime does not support {what}")]
    Unsupported {
        /// Which runtime.
        runtime: &'static str,
        /// What was asked.
        what: String,
    },
    /// The machine failed us.
    #[error("{doing}: {message}")]
    System {
        /// What was being done, to what.
        doing: String,
        /// The operating system's words.
        message: String,
    },
}

impl RuntimeError {
    /// The reason that a container waiting because of this error shows in the pod's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ImageNotPresent { .. } => "ErrImageNeverPull",
            Self::Image { .. } => "ErrImagePull",
            Self::Sandbox { .. } => "CreatePodSandboxError",
            Self::InvalidSpec { .. } => "CreateContainerConfigError",
            Self::Start { .. } => "RunContainerError",
            _ => "CreateContainerError",
        }
    }

    /// A failed system call or file operation.
    pub fn system(doing: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::System { doing: doing.into(), message: error.to_string() }
    }
}
