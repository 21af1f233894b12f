//! What the agent tells the shim and what the shim tells back, as files in the container's folder.
//!
//! ```text
//! container.json   the agent's own record
//! launch.json      what to run, for the shim
//! shim.json        which process is the shim; made once, so that a container is started at most once
//! running.json     the first process and when it began
//! exit.json        how it ended
//! attach.sock      the shim's socket for attaching clients
//! shim.log         what the shim had to complain about
//! upper/ work/     the writable layer
//! rootfs/          where the root is mounted, seen only inside the container
//! ```

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use k8s_core::env::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::cgroup::Cgroup;
use crate::runtime::{Device, Mount, Resources, Security, User};

/// Everything the shim needs to run one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// Folder that `lower` is relative to.
    pub layers_folder: PathBuf,
    /// Layers of the image, top first.
    pub lower: Vec<String>,
    /// Namespaces to join; those without a path are not joined, see [`LaunchPid`] for processes.
    pub network: Option<PathBuf>,
    /// See `network`.
    pub ipc: Option<PathBuf>,
    /// See `network`.
    pub uts: Option<PathBuf>,
    /// The process namespace.
    pub pid: LaunchPid,
    /// The container's cgroup.
    pub cgroup: Cgroup,
    /// Its limits.
    pub resources: Resources,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment, names unique.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// `USER` of the image.
    pub image_user: String,
    /// What the specification says about the user.
    pub user: User,
    /// In mounting order.
    pub mounts: Vec<Mount>,
    /// The pod's `/dev/shm`.
    pub shm: Option<PathBuf>,
    /// Devices besides the default ones.
    pub devices: Vec<Device>,
    /// Confinement.
    pub security: Security,
    /// A terminal for all three streams.
    pub tty: bool,
    /// Keep an input open for attaching clients.
    pub stdin: bool,
    /// Close the input with its first client.
    pub stdin_once: bool,
    /// The log file.
    pub log_path: Option<PathBuf>,
}

/// The process namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchPid {
    /// Its own.
    New,
    /// The one pinned here.
    Join(PathBuf),
    /// The machine's.
    Host,
}

/// One process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number on the machine.
    pub pid: i32,
    /// When it began, in clock ticks since the machine started.
    pub start: u64,
    /// Which run of the machine it belongs to.
    pub boot: u64,
}

impl ProcessId {
    /// The process with this number now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may itself contain anything.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        let start = fields.split(' ').nth(19).and_then(|field| field.parse().ok());
        let start = start.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))?;
        Ok(Self { pid, start, boot: boot()? })
    }

    /// A handle on exactly this process, if it still exists (ended but not yet reaped counts as existing).
    pub fn open(self) -> Option<std::os::fd::OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        // Checked after opening: from here on the number cannot pass to another process unnoticed.
        (Self::of(self.pid).ok()? == self).then_some(handle)
    }
}

/// A number drawn when the machine started.
fn boot() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).map_err(|_| io::Error::other("the machine's boot id has an unknown form"))
}

/// `running.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The container's first process.
    pub process: ProcessId,
    /// When its program was executed.
    pub started_at: Timestamp,
    /// Its user, group and supplementary groups.
    pub user: (u32, u32, Vec<u32>),
}

/// At which stage starting failed, which decides the reason that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Setting up.
    Create,
    /// Executing the program.
    Start,
}

/// Why a container or command did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How far it got.
    pub stage: Stage,
    /// In the words that users know.
    pub message: String,
}

impl Failure {
    /// Setting up failed.
    pub fn create(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self { stage: Stage::Create, message: format!("{doing}: {error}") }
    }
}

/// What the shim answers on its standard output, one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The program was executed.
    Started(Started),
    /// It was not.
    Failed(Failure),
    /// The process that holds a pod's process namespace runs.
    Pinned(ProcessId),
}

/// A command to run in a running container: the first message on the control socket of an `exec` helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The container's folder.
    pub folder: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
}

/// What an `exec` helper answers on its control socket, one line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecReport {
    /// The command runs. With a terminal, its descriptor comes along.
    Started,
    /// It does not.
    Failed(Failure),
    /// It ended.
    Exited(i32),
}

/// Reads one of the files; `None` if there is none.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one of the files so that readers see nothing or all of it.
pub fn write(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let hidden = folder.join(format!(".{name}"));
    let mut file = fs::File::create(&hidden)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&hidden, folder.join(name))
}

/// Writes one of the files unless it exists; answers whether it was written.
pub fn claim(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<bool> {
    let hidden = folder.join(format!(".{name}.{}", std::process::id()));
    fs::write(&hidden, serde_json::to_vec(value)?)?;
    let linked = fs::hard_link(&hidden, folder.join(name));
    fs::remove_file(&hidden)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
