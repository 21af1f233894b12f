//! What the containers of one pod share: its specification and its state.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_core::env::Timestamp;
use serde::{Deserialize, Serialize};

use super::Resources;

/// What to make for a pod before its containers. Upstream: `PodSandboxConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Chosen by the agent, unique within the runtime.
    pub id: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// Kept and given back by `observe`; not interpreted.
    pub labels: BTreeMap<String, String>,
    /// Kept and given back by `observe`; a hollow runtime reads instructions from them.
    pub annotations: BTreeMap<String, String>,
    /// The host name inside; ignored with [`NetworkMode::Host`], where the machine's own is seen.
    pub hostname: String,
    /// Content of `/etc/resolv.conf` in every container; `None` leaves the image's file.
    pub resolv_conf: Option<String>,
    /// Own network namespace or the machine's.
    pub network: NetworkMode,
    /// Whose processes a container sees.
    pub pid: PidMode,
    /// Own System V IPC, message queues and `/dev/shm`, or the machine's.
    pub ipc: IpcMode,
    /// Cgroup of the pod, relative to the runtime's own prefix, e.g. `burstable/pod-UID`. Empty: `pod-ID`.
    pub cgroup_parent: String,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Namespaced kernel settings, e.g. `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
}

/// The network namespace of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Its own.
    #[default]
    Pod,
    /// The machine's (`hostNetwork: true`).
    Host,
}

/// The process namespace of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Each container its own.
    #[default]
    Container,
    /// One for the pod (`shareProcessNamespace: true`).
    Pod,
    /// The machine's (`hostPID: true`).
    Host,
}

/// The IPC namespace of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// Its own.
    #[default]
    Pod,
    /// The machine's (`hostIPC: true`).
    Host,
}

/// The result of starting a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStarted {
    /// The network namespace to connect; none on the host's network and in runtimes that have none.
    pub netns: Option<PathBuf>,
}

/// A sandbox as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxStatus {
    /// As given.
    pub id: String,
    /// As given.
    pub namespace: String,
    /// As given.
    pub name: String,
    /// As given.
    pub uid: String,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
    /// Whether containers can start in it.
    pub state: SandboxState,
    /// As given.
    pub network: NetworkMode,
    /// The network namespace, while there is one.
    pub netns: Option<PathBuf>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whether a sandbox can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Containers can start.
    Ready,
    /// Something that it needs is gone (for example after the machine restarted): remove it and make another.
    NotReady,
}
