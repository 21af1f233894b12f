//! Cgroups of pods and containers, in either of the kernel's layouts. Blocking; no state but paths.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde::{Deserialize, Serialize};

use crate::runtime::{ContainerStats, Device, Resources};

/// Where this machine keeps its cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hierarchy {
    /// One tree with all controllers (version 2), mounted here.
    Unified(PathBuf),
    /// A tree per controller (version 1, also in hybrid layouts): controller and where it is mounted.
    PerController(BTreeMap<String, PathBuf>),
}

/// One cgroup: a path in each tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
}

/// What is used of version 1. `cpuset` is added only where it is asked for: a new one admits no process until filled.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];

impl Hierarchy {
    /// Reads the layout from the mount table.
    pub fn detect() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/self/mounts")?, |path| {
            fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn parse(mounts: &str, controllers_of: impl Fn(&Path) -> String) -> io::Result<Self> {
        let mut trees = BTreeMap::new();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(place), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let place = PathBuf::from(place);
            if kind == "cgroup2" && controllers_of(&place).split_whitespace().any(|name| name == "memory") {
                return Ok(Self::Unified(place));
            }
            if kind == "cgroup" {
                for option in options.split(',').filter(|name| CONTROLLERS.contains(name) || *name == "cpuset") {
                    trees.entry(option.to_owned()).or_insert_with(|| place.clone());
                }
            }
        }
        if !trees.contains_key("memory") {
            return Err(io::Error::other("no cgroup tree with the memory controller is mounted under /sys/fs/cgroup"));
        }
        Ok(Self::PerController(trees))
    }

    /// The cgroup at `path`, relative to the root of the trees. Makes nothing.
    pub fn cgroup(&self, path: &Path) -> Cgroup {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Cgroup { hierarchy: self.clone(), path }
    }
}

impl Cgroup {
    /// A cgroup below this one.
    pub fn child(&self, name: &str) -> Self {
        Self { hierarchy: self.hierarchy.clone(), path: self.path.join(name) }
    }

    /// Makes the cgroup with its parents. Succeeds when it exists.
    pub fn create(&self) -> io::Result<()> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => create_unified(root, &self.path),
            Hierarchy::PerController(_) => self.folders().iter().try_for_each(|folder| make_all(folder)),
        }
    }

    /// Applies limits. A limit that the machine has no controller for is an error only if it was asked for.
    pub fn apply(&self, limits: &Resources) -> io::Result<()> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => apply_unified(&root.join(&self.path), limits),
            Hierarchy::PerController(_) => self.apply_per_controller(limits),
        }
    }

    /// Restricts devices to the usual ones and those given. Only version 1 can: with version 2 the capability to
    /// make device nodes is withheld instead.
    pub fn restrict_devices(&self, devices: &[(char, u32, u32, String)]) -> io::Result<()> {
        let Some(folder) = self.controller("devices") else { return Ok(()) };
        fs::write(folder.join("devices.deny"), "a")?;
        for rule in DEVICE_RULES {
            fs::write(folder.join("devices.allow"), rule)?;
        }
        for (kind, major, minor, permissions) in devices {
            fs::write(folder.join("devices.allow"), format!("{kind} {major}:{minor} {permissions}"))?;
        }
        Ok(())
    }

    /// Whether [`restrict_devices`](Self::restrict_devices) has an effect here.
    pub fn can_restrict_devices(&self) -> bool {
        self.controller("devices").is_some()
    }

    /// Moves the calling process, which must have one thread, into the cgroup.
    pub fn enter(&self, limits: &Resources) -> io::Result<()> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => fs::write(root.join(&self.path).join("cgroup.procs"), "0"),
            // `tasks` moves one thread without the lock over all processes that `cgroup.procs` takes: that wait is
            // the largest part of a slow start.
            Hierarchy::PerController(_) => self.entered_folders(limits).iter().try_for_each(|folder| {
                fs::write(folder.join("tasks"), "0")
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", folder.display())))
            }),
        }
    }

    fn entered_folders(&self, limits: &Resources) -> Vec<PathBuf> {
        let mut folders = self.folders();
        if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
            folders.extend(self.controller("cpuset"));
        }
        folders
    }

    /// Every process in the cgroup and below it.
    pub fn processes(&self) -> Vec<i32> {
        let Some(folder) = self.folders().into_iter().next_back() else { return Vec::new() };
        let mut found = Vec::new();
        collect_processes(&folder, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills every process in the cgroup and below it; answers whether there was any.
    pub fn kill(&self) -> bool {
        if let Hierarchy::Unified(root) = &self.hierarchy {
            // Older kernels lack the file; then the processes are killed one by one.
            let _ = fs::write(root.join(&self.path).join("cgroup.kill"), "1");
        }
        let processes = self.processes();
        for &process in &processes {
            // It may have ended since it was listed.
            let _ = nix::sys::signal::kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        !processes.is_empty()
    }

    /// Removes the cgroup, those below it, and those above it that are empty then, up to and including `top`.
    pub fn remove(&self, top: &Path) -> io::Result<()> {
        let top = top.strip_prefix("/").unwrap_or(top);
        for tree in self.trees() {
            remove_tree(&tree.join(&self.path))?;
            for parent in
                self.path.ancestors().skip(1).take_while(|path| path.starts_with(top) && *path != Path::new(""))
            {
                // Busy means that another pod lives there.
                if fs::remove_dir(tree.join(parent)).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many processes the kernel killed because the memory limit was reached.
    pub fn memory_kills(&self) -> u64 {
        let Some(folder) = self.controller("memory") else { return 0 };
        match &self.hierarchy {
            Hierarchy::Unified(_) => table(&folder.join("memory.events")).get("oom_kill").copied().unwrap_or(0),
            Hierarchy::PerController(_) => {
                table(&folder.join("memory.oom_control")).get("oom_kill").copied().unwrap_or(0)
            }
        }
    }

    /// What it uses now.
    pub fn usage(&self) -> ContainerStats {
        let number =
            |controller: &str, file: &str| self.controller(controller).map_or(0, |f| read_number(&f.join(file)));
        let memory = self.controller("memory").map(|folder| table(&folder.join("memory.stat"))).unwrap_or_default();
        let stat = |name: &str| memory.get(name).copied().unwrap_or(0);
        let unified = matches!(self.hierarchy, Hierarchy::Unified(_));
        let cpu_usage_ns = if unified {
            self.controller("cpu")
                .map_or(0, |f| table(&f.join("cpu.stat")).get("usage_usec").copied().unwrap_or(0) * 1000)
        } else {
            number("cpuacct", "cpuacct.usage")
        };
        let usage = number("memory", if unified { "memory.current" } else { "memory.usage_in_bytes" });
        let inactive = stat(if unified { "inactive_file" } else { "total_inactive_file" });
        ContainerStats {
            cpu_usage_ns,
            memory_usage_bytes: usage,
            memory_working_set_bytes: usage.saturating_sub(inactive),
            memory_rss_bytes: stat(if unified { "anon" } else { "total_rss" }),
            page_faults: stat(if unified { "pgfault" } else { "total_pgfault" }),
            major_page_faults: stat(if unified { "pgmajfault" } else { "total_pgmajfault" }),
            pids: number("pids", "pids.current"),
            writable_layer_bytes: None,
        }
    }

    /// Controllers and their folders, for showing them inside a container; version 1 only.
    pub fn controllers(&self) -> Vec<String> {
        match &self.hierarchy {
            Hierarchy::Unified(_) => Vec::new(),
            Hierarchy::PerController(trees) => {
                CONTROLLERS.iter().filter(|name| trees.contains_key(**name)).map(|name| (*name).to_owned()).collect()
            }
        }
    }

    fn apply_per_controller(&self, limits: &Resources) -> io::Result<()> {
        let set = |controller: &str, file: &str, value: String| self.set(controller, file, &value);
        if let Some(shares) = limits.cpu_shares {
            set("cpu", "cpu.shares", shares.max(2).to_string())?;
        }
        if let Some(period) = limits.cpu_period_us {
            set("cpu", "cpu.cfs_period_us", period.to_string())?;
        }
        if let Some(quota) = limits.cpu_quota_us {
            set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
        }
        if let Some(bytes) = limits.memory_limit_bytes {
            // The limit with swap may never be the lower one: it goes first when rising and last when falling.
            // Without swap accounting its file is missing, and there is nothing to limit.
            let with_swap = || set("memory", "memory.memsw.limit_in_bytes", bytes.to_string());
            let _ = with_swap();
            set("memory", "memory.limit_in_bytes", bytes.to_string())?;
            let _ = with_swap();
        }
        if let Some(pids) = limits.pids_limit {
            set("pids", "pids.max", unlimited(pids, "max"))?;
        }
        self.apply_cpuset(limits)
    }

    fn apply_cpuset(&self, limits: &Resources) -> io::Result<()> {
        if limits.cpuset_cpus.is_none() && limits.cpuset_mems.is_none() {
            return Ok(());
        }
        let (Hierarchy::PerController(trees), Some(folder)) = (&self.hierarchy, self.controller("cpuset")) else {
            return Err(io::Error::other("the cpuset controller is not mounted on this machine"));
        };
        make_all(&folder)?;
        let root = &trees["cpuset"];
        for (file, wanted) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
            let all = fs::read_to_string(root.join(file))?;
            let mut place = root.clone();
            for part in &self.path {
                place.push(part);
                if fs::read_to_string(place.join(file))?.trim().is_empty() {
                    fs::write(place.join(file), all.trim())?;
                }
            }
            if let Some(wanted) = wanted {
                self.set("cpuset", file, wanted)?;
            }
        }
        Ok(())
    }

    fn set(&self, controller: &str, file: &str, value: &str) -> io::Result<()> {
        let folder = self
            .controller(controller)
            .ok_or_else(|| io::Error::other(format!("the {controller} controller is not mounted on this machine")))?;
        write_value(&folder, file, value)
    }

    fn controller(&self, name: &str) -> Option<PathBuf> {
        match &self.hierarchy {
            Hierarchy::Unified(root) => (name != "devices").then(|| root.join(&self.path)),
            Hierarchy::PerController(trees) => trees.get(name).map(|tree| tree.join(&self.path)),
        }
    }

    fn trees(&self) -> Vec<&PathBuf> {
        let mut trees: Vec<&PathBuf> = match &self.hierarchy {
            Hierarchy::Unified(root) => vec![root],
            Hierarchy::PerController(trees) => trees.values().collect(),
        };
        // Controllers may share a tree.
        trees.sort();
        trees.dedup();
        trees
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = match &self.hierarchy {
            Hierarchy::Unified(root) => vec![root.join(&self.path)],
            Hierarchy::PerController(trees) => {
                CONTROLLERS.iter().filter_map(|name| trees.get(*name)).map(|tree| tree.join(&self.path)).collect()
            }
        };
        folders.sort();
        folders.dedup();
        folders
    }
}

/// Device rules that every container has: make any node, use the harmless ones and terminals.
const DEVICE_RULES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Kind, numbers and permissions of devices on the machine, for [`Cgroup::restrict_devices`].
pub fn device_numbers(devices: &[Device]) -> io::Result<Vec<(char, u32, u32, String)>> {
    use rustix::fs::{FileType, major, minor};
    let number = |device: &Device| {
        let found = rustix::fs::stat(&device.host_path)
            .map_err(|e| io::Error::other(format!("device {}: {e}", device.host_path.display())))?;
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::BlockDevice => 'b',
            FileType::CharacterDevice => 'c',
            _ => return Err(io::Error::other(format!("{} is not a device", device.host_path.display()))),
        };
        Ok((kind, major(found.st_rdev), minor(found.st_rdev), device.permissions.clone()))
    };
    devices.iter().map(number).collect()
}

/// Another pod's removal may delete a parent that was just found empty: then the parents are made again.
fn make_all(folder: &Path) -> io::Result<()> {
    const TRIES: usize = 16;
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = fs::create_dir_all(folder);
        match &result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    result.map_err(|error| io::Error::new(error.kind(), format!("make {}: {error}", folder.display())))
}

fn create_unified(root: &Path, path: &Path) -> io::Result<()> {
    make_all(&root.join(path))?;
    let mut place = root.to_owned();
    for part in path {
        for controller in ["+cpu", "+memory", "+pids", "+cpuset"] {
            // A controller that the machine does not have is reported where a limit needs it.
            let _ = fs::write(place.join("cgroup.subtree_control"), controller);
        }
        place.push(part);
    }
    Ok(())
}

fn apply_unified(folder: &Path, limits: &Resources) -> io::Result<()> {
    if let Some(shares) = limits.cpu_shares {
        // From 2..262144 to 1..10000, as the runtimes agreed.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        write_value(folder, "cpu.weight", &weight.to_string())?;
    }
    if limits.cpu_quota_us.is_some() || limits.cpu_period_us.is_some() {
        let quota = limits.cpu_quota_us.map_or_else(|| "max".to_owned(), |quota| unlimited(quota, "max"));
        write_value(folder, "cpu.max", &format!("{quota} {}", limits.cpu_period_us.unwrap_or(100_000)))?;
    }
    if let Some(bytes) = limits.memory_limit_bytes {
        write_value(folder, "memory.max", &unlimited(bytes, "max"))?;
        // A container that lost one of its processes cannot be told from a healthy one: all end together. Older
        // kernels lack the file.
        let _ = write_value(folder, "memory.oom.group", "1");
        // Without swap the file is missing, and there is nothing to limit.
        let _ = write_value(folder, "memory.swap.max", "0");
    }
    if let Some(pids) = limits.pids_limit {
        write_value(folder, "pids.max", &unlimited(pids, "max"))?;
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        write_value(folder, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &limits.cpuset_mems {
        write_value(folder, "cpuset.mems", mems)?;
    }
    Ok(())
}

fn unlimited(value: i64, word: &str) -> String {
    if value < 0 { word.to_owned() } else { value.to_string() }
}

fn write_value(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {value} to {}: {error}", path.display())))
}

fn collect_processes(folder: &Path, into: &mut Vec<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&process| process > 0));
    for child in child_folders(folder) {
        collect_processes(&child, into);
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in child_folders(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

fn child_folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A file of lines `name number`.
fn table(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' ').and_then(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?))))
        .collect()
}

fn read_number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let hybrid = "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /c/memory cgroup rw,memory 0 0\n\
            cgroup2 /c/unified cgroup2 rw 0 0\n";
        let trees = [("cpu", "/c/cpu,cpuacct"), ("cpuacct", "/c/cpu,cpuacct"), ("memory", "/c/memory")];
        let trees = trees.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        assert_eq!(Hierarchy::parse(hybrid, |_| String::new()).unwrap(), Hierarchy::PerController(trees.into()));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let found = Hierarchy::parse(unified, |_| "cpu memory pids".to_owned()).unwrap();
        assert_eq!(found, Hierarchy::Unified("/sys/fs/cgroup".into()));
        assert!(Hierarchy::parse("proc /proc proc rw 0 0\n", |_| String::new()).is_err());
    }

    #[test]
    fn shared_trees_are_entered_once() {
        let trees = [("cpu", "/c/cpu"), ("cpuacct", "/c/cpu"), ("memory", "/c/memory")];
        let trees = trees.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        let cgroup = Hierarchy::PerController(trees.into()).cgroup(Path::new("/k8s/a"));
        assert_eq!(cgroup.folders(), [PathBuf::from("/c/cpu/k8s/a"), PathBuf::from("/c/memory/k8s/a")]);
    }

    /// Files of a plain folder stand in for the kernel's.
    #[test]
    fn a_unified_tree_gets_its_controllers_and_limits() {
        let root = tempfile::tempdir().unwrap();
        let pod = Hierarchy::Unified(root.path().to_owned()).cgroup(Path::new("/k8s/pod"));
        let container = pod.child("c1");
        container.create().unwrap();
        let limits = Resources {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(50_000),
            memory_limit_bytes: Some(1 << 20),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        container.apply(&limits).unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        for parent in ["", "k8s/", "k8s/pod/"] {
            assert_eq!(read(&format!("{parent}cgroup.subtree_control")), "+cpuset", "the last one written");
        }
        assert!(!root.path().join("k8s/pod/c1/cgroup.subtree_control").exists(), "processes live only in leaves");
        assert_eq!(read("k8s/pod/c1/cpu.weight"), "39");
        assert_eq!(read("k8s/pod/c1/cpu.max"), "50000 100000");
        assert_eq!((read("k8s/pod/c1/memory.max"), read("k8s/pod/c1/pids.max")), ("1048576".into(), "max".into()));
        fs::write(root.path().join("k8s/pod/c1/memory.events"), "oom 2\noom_kill 1\n").unwrap();
        fs::write(root.path().join("k8s/pod/c1/cpu.stat"), "usage_usec 7\n").unwrap();
        assert_eq!((container.memory_kills(), container.usage().cpu_usage_ns), (1, 7000));
        assert!(!container.can_restrict_devices());
    }
}
