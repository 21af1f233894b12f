//! One container: its specification and its state.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_core::env::Timestamp;
use serde::{Deserialize, Serialize};

/// What to run. Upstream: `ContainerConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Chosen by the agent, unique within the runtime.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// How many containers of this name came before it in the pod.
    pub attempt: u32,
    /// A present image: a reference, a reference with digest, or an image id.
    pub image: String,
    /// Replaces the image's entrypoint unless empty (and then the image's arguments are dropped too).
    pub command: Vec<String>,
    /// Replaces the image's arguments unless empty.
    pub args: Vec<String>,
    /// Added to the image's environment; later entries and these win.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Who runs it.
    pub user: User,
    /// In mounting order, after the runtime's own `/proc`, `/sys` and `/dev`.
    pub mounts: Vec<Mount>,
    /// Devices of the machine to offer, besides the default set.
    pub devices: Vec<Device>,
    /// Limits.
    pub resources: Resources,
    /// Confinement.
    pub security: Security,
    /// Give it a terminal as all three standard streams.
    pub tty: bool,
    /// Keep a standard input open for attaching clients.
    pub stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// Where standard output and error go, in the CRI log format. `None` discards them.
    pub log_path: Option<PathBuf>,
    /// Replaces the image's stop signal, as a number.
    pub stop_signal: Option<i32>,
    /// Kept and given back by `observe`; not interpreted.
    pub labels: BTreeMap<String, String>,
    /// Kept and given back by `observe`; a hollow runtime reads instructions from them.
    pub annotations: BTreeMap<String, String>,
}

/// Who the first process runs as. Empty means the image's `USER`, and root without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// `runAsUser`.
    pub uid: Option<u32>,
    /// `runAsGroup`; without it the primary group of the user in the image's `/etc/passwd`, else 0.
    pub gid: Option<u32>,
    /// `supplementalGroups`, `fsGroup` and the like.
    pub supplemental_groups: Vec<u32>,
    /// Whether the groups of the user in the image's `/etc/group` are added.
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
}

/// Which supplementary groups a process gets. Upstream: KEP-3619.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// Those of the specification and those of the image's `/etc/group`.
    #[default]
    Merge,
    /// Only those of the specification.
    Strict,
}

/// A file or folder of the machine seen inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the machine. Must exist.
    pub host_path: PathBuf,
    /// Absolute path inside; made if absent.
    pub container_path: PathBuf,
    /// Refuse writes, `recursiveReadOnly` included where the kernel can.
    pub read_only: bool,
    /// Which later mounts pass the border.
    pub propagation: Propagation,
}

/// `mountPropagation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// `None`: neither direction.
    #[default]
    Private,
    /// `HostToContainer`: mounts made later on the machine appear inside.
    HostToContainer,
    /// `Bidirectional`: and the other way too. Only for privileged containers.
    Bidirectional,
}

/// A device node of the machine offered inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the machine.
    pub host_path: PathBuf,
    /// Path inside.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Cgroup limits. `None` is no limit, or no change in an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight, 2 to 262144, 1024 for one CPU.
    pub cpu_shares: Option<u64>,
    /// CPU time per period, in microseconds; -1 lifts the limit.
    pub cpu_quota_us: Option<i64>,
    /// Length of the period, in microseconds; 100000 unless said.
    pub cpu_period_us: Option<u64>,
    /// Memory limit, in bytes; -1 lifts the limit.
    pub memory_limit_bytes: Option<i64>,
    /// Most processes and threads at a time; -1 lifts the limit.
    pub pids_limit: Option<i64>,
    /// CPUs that may be used, as a list such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, as a list.
    pub cpuset_mems: Option<String>,
    /// How eager the kernel is to kill it when memory runs out, -1000 to 1000. Only at start; values that the
    /// machine does not let us set are raised to the nearest that it does.
    pub oom_score_adj: Option<i32>,
}

impl Resources {
    /// Takes over what `change` names.
    pub fn update(&mut self, change: Resources) {
        self.cpu_shares = change.cpu_shares.or(self.cpu_shares);
        self.cpu_quota_us = change.cpu_quota_us.or(self.cpu_quota_us);
        self.cpu_period_us = change.cpu_period_us.or(self.cpu_period_us);
        self.memory_limit_bytes = change.memory_limit_bytes.or(self.memory_limit_bytes);
        self.pids_limit = change.pids_limit.or(self.pids_limit);
        self.cpuset_cpus = change.cpuset_cpus.or(self.cpuset_cpus.take());
        self.cpuset_mems = change.cpuset_mems.or(self.cpuset_mems.take());
        self.oom_score_adj = change.oom_score_adj.or(self.oom_score_adj);
    }
}

/// How a container is confined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, nothing masked, no system call filter.
    pub privileged: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// `readOnlyRootFilesystem`.
    pub read_only_rootfs: bool,
    /// Names without `CAP_`; `ALL` means all. Added to the default set after dropping.
    pub add_capabilities: Vec<String>,
    /// Names without `CAP_`; `ALL` means all.
    pub drop_capabilities: Vec<String>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Whether parts of `/proc` and `/sys` are hidden and protected.
    pub proc_mount: ProcMount,
}

/// `seccompProfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// No filter. Kubernetes' default for pods that do not say.
    #[default]
    Unconfined,
    /// The runtime's own filter.
    RuntimeDefault,
    /// A filter in a file on the node, in the OCI's JSON form.
    Localhost(PathBuf),
}

/// `procMount`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcMount {
    /// Hidden and protected as runtimes usually do.
    #[default]
    Default,
    /// As the kernel shows it.
    Unmasked,
}

/// A container as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    /// As given.
    pub id: String,
    /// The sandbox that it was created in.
    pub sandbox: String,
    /// As given.
    pub name: String,
    /// As given.
    pub attempt: u32,
    /// The reference as given.
    pub image: String,
    /// Id of the image that the reference meant at creation.
    pub image_id: String,
    /// What `status.containerStatuses[].imageID` shows: name and digest if known, else the image id.
    pub image_ref: String,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
    /// As given.
    pub log_path: Option<PathBuf>,
    /// The limits in force, as last asked for.
    pub resources: Resources,
    /// User, primary group and supplementary groups of the first process, once it ran.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub state: ContainerState,
}

/// Where a container is in its one life.
#[derive(Debug, Clone, PartialEq)]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Its program was executed.
    Running {
        /// Its first process, in the machine's numbering; none where there are no processes.
        pid: Option<u32>,
        /// When its program was executed.
        started_at: Timestamp,
    },
    /// It ended, or could not start.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + n after signal n; 128 when it could not start; 255 when it was lost (the machine
    /// restarted).
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`.
    pub reason: String,
    /// More for people; empty if there is nothing to say.
    pub message: String,
    /// When its program was executed; equal to `finished_at` if it never was.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}
