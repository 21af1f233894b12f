//! What the machine is and has.

use std::{fs, path::Path};

/// The facts about a machine that its Node shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// The file system that pods write to, in bytes.
    pub storage_bytes: i64,
    /// How many pods it takes.
    pub max_pods: u32,
    /// What is kept from pods.
    pub reserved: Reserved,
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// As `uname -r` says.
    pub kernel_version: String,
    /// The system's own name.
    pub os_image: String,
    /// Of `/etc/machine-id`.
    pub machine_id: String,
    /// Of the firmware.
    pub system_uuid: String,
    /// Changes with every start of the machine.
    pub boot_id: String,
}

/// What is kept from pods so that the machine itself goes on, beside the eviction thresholds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a processor.
    pub milli_cpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// The file system that pods write to, in bytes.
    pub storage_bytes: i64,
}

/// What the machine runs short of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Less than 100 MiB of memory is available.
    pub memory: bool,
    /// Less than 5 % of the file system that pods write to is free.
    pub disk: bool,
    /// Less than 5 % of process ids are free.
    pub pids: bool,
}

/// How many pods a node takes. Upstream's default.
const MAX_PODS: u32 = 110;
const LOW_MEMORY_KIB: u64 = 100 * 1024;

impl Machine {
    /// This machine; `storage` is a folder on the file system that pods write to. Blocks on the disk.
    pub fn detect(storage: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let memory = meminfo("MemTotal").unwrap_or(0) * 1024;
        let disk = rustix::fs::statvfs(storage).map_or(0, |disk| disk.f_blocks * disk.f_frsize);
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_bytes: i64::try_from(memory).unwrap_or(i64::MAX),
            storage_bytes: i64::try_from(disk).unwrap_or(i64::MAX),
            max_pods: MAX_PODS,
            reserved: Reserved::default(),
            architecture: architecture(&text(system.machine())),
            kernel_version: text(system.release()),
            os_image: os_image(&read("/etc/os-release")),
            machine_id: read("/etc/machine-id"),
            system_uuid: read("/sys/class/dmi/id/product_uuid"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
        }
    }

    /// A machine for simulated nodes: 8 processors, 32 GiB of memory.
    pub fn simulated() -> Self {
        Self {
            cpus: 8,
            memory_bytes: 32 << 30,
            storage_bytes: 100 << 30,
            max_pods: MAX_PODS,
            reserved: Reserved::default(),
            architecture: "amd64".to_owned(),
            kernel_version: "simulated".to_owned(),
            os_image: "simulated".to_owned(),
            machine_id: "simulated".to_owned(),
            system_uuid: "simulated".to_owned(),
            boot_id: "simulated".to_owned(),
        }
    }
}

impl Pressure {
    /// What this machine runs short of now. Blocks on the disk.
    pub fn detect(storage: &Path) -> Self {
        let disk = rustix::fs::statvfs(storage);
        let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let processes = fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok());
        let pids = number("/proc/sys/kernel/pid_max").zip(processes);
        Self {
            memory: meminfo("MemAvailable").is_some_and(|kib| kib < LOW_MEMORY_KIB),
            disk: disk.is_ok_and(|disk| disk.f_bavail * 20 < disk.f_blocks),
            pids: pids.is_some_and(|(max, used)| max.saturating_sub(used) * 20 < max),
        }
    }
}

/// A line of `/proc/meminfo`, in KiB.
fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_something() {
        let machine = Machine::detect(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20 && machine.storage_bytes > 1 << 20, "{machine:?}");
        assert!(!machine.kernel_version.is_empty());
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
