//! The file system that a container sees. Everything is mounted inside the container's own mount namespace, so that
//! nothing is left on the machine when it ends, however it ends.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::{
    fs::{CWD, FileType, Mode},
    mount::{MoveMountFlags, OpenTreeFlags},
};

use super::{Doing, Step};
use crate::{
    native::launch::{Failure, Launch, Stage},
    runtime::{Device, ProcMount, Propagation},
    sys,
};

/// Something of the machine, taken hold of while the machine's files can still be reached.
pub struct Source {
    tree: OwnedFd,
    target: PathBuf,
    folder: bool,
    read_only: bool,
    propagation: Propagation,
}

/// A device node to make.
pub struct Node {
    path: PathBuf,
    kind: FileType,
    device: u64,
    mode: u32,
    owner: (u32, u32),
}

const NO_DATA: Option<&str> = None;

/// Takes hold of all mounts and devices. Call it in the container's mount namespace before [`enter`].
pub fn open_sources(launch: &Launch) -> Step<(Vec<Source>, Vec<Node>)> {
    let mut mounts: Vec<_> = launch.mounts.iter().collect();
    // Outer before inner, whatever the order given; the sort is stable.
    mounts.sort_by_key(|mount| mount.container_path.components().count());
    let mut sources = Vec::new();
    if let Some(shm) = &launch.shm {
        sources.push(open_source(shm, Path::new("/dev/shm"), false, Propagation::Private)?);
    }
    for mount in mounts {
        sources.push(open_source(&mount.host_path, &mount.container_path, mount.read_only, mount.propagation)?);
    }
    let mut nodes = Vec::new();
    if launch.security.privileged {
        host_nodes(Path::new("/dev"), &mut nodes);
    }
    for device in &launch.devices {
        nodes.push(named_node(device)?);
    }
    Ok((sources, nodes))
}

fn open_source(host: &Path, target: &Path, read_only: bool, propagation: Propagation) -> Step<Source> {
    let what = || format!("mount {} at {}", host.display(), target.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, host, flags).doing(what())?;
    let found = rustix::fs::fstat(&tree).doing(what())?;
    let folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    Ok(Source { tree, target: target.to_owned(), folder, read_only, propagation })
}

/// All device nodes of the machine, for privileged containers. Terminals and shared memory are the container's own.
fn host_nodes(folder: &Path, nodes: &mut Vec<Node>) {
    const OWN: [&str; 10] = [
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/dev/console",
        "/dev/fd",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
    ];
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let kind = found.file_type();
        if OWN.iter().any(|own| path == Path::new(own)) {
            continue;
        }
        if kind.is_dir() {
            host_nodes(&path, nodes);
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { FileType::CharacterDevice } else { FileType::BlockDevice };
            let (mode, owner) = (found.mode() & 0o7777, (found.uid(), found.gid()));
            nodes.push(Node { path, kind, device: found.rdev(), mode, owner });
        }
    }
}

fn named_node(device: &Device) -> Step<Node> {
    let what = || format!("offer device {}", device.host_path.display());
    let found = rustix::fs::stat(&device.host_path).doing(what())?;
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind != FileType::CharacterDevice && kind != FileType::BlockDevice {
        return Err(Failure::create(what(), "it is not a device"));
    }
    let (mode, owner) = (found.st_mode & 0o7777, (found.st_uid, found.st_gid));
    Ok(Node { path: device.container_path.clone(), kind, device: found.st_rdev, mode, owner })
}

/// Mounts the image and makes it the root of this process, which must have a mount namespace of its own.
pub fn enter(launch: &Launch, folder: &Path) -> Step<()> {
    // From here on mounts of the machine may appear here, and never the other way.
    mount(NO_DATA, "/", NO_DATA, MsFlags::MS_SLAVE | MsFlags::MS_REC, NO_DATA).doing("separate mounts")?;
    let root = folder.join("rootfs");
    mount_overlay(launch, folder, &root)?;
    nix::unistd::chdir(&root).doing("enter the root")?;
    nix::unistd::pivot_root(".", ".").doing("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).doing("leave the machine's root")?;
    nix::unistd::chdir("/").doing("enter the root")
}

fn mount_overlay(launch: &Launch, folder: &Path, root: &Path) -> Step<()> {
    let lower = match launch.lower.as_slice() {
        [] => folder.join("empty").display().to_string(),
        layers => layers.join(":"),
    };
    nix::unistd::chdir(&launch.layers_folder).doing("enter the image's layers")?;
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    let overlay = |options: &str| mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options));
    // A container's layer never outlives the machine's run: writing it to disk at the end would be for nothing.
    overlay(&format!("{options},volatile")).or_else(|_| overlay(&options)).doing("mount the image's layers")
}

/// Fills the new root: kernel file systems, devices, then what the pod asks for.
pub fn furnish(launch: &Launch, sources: Vec<Source>, nodes: &[Node]) -> Step<()> {
    let privileged = launch.security.privileged;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    kernel_mount("/proc", "proc", hardened, "")?;
    let read_only = if privileged { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    kernel_mount("/sys", "sysfs", hardened | read_only, "")?;
    kernel_mount("/dev", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=65536k")?;
    fill_dev()?;
    kernel_mount(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    kernel_mount("/dev/mqueue", "mqueue", hardened, "")?;
    for node in nodes {
        make_node(node)?;
    }
    show_cgroups(launch, hardened | read_only)?;
    for source in sources {
        place(source)?;
    }
    if !privileged && launch.security.proc_mount == ProcMount::Default {
        hide_and_protect()?;
    }
    Ok(())
}

/// Refuses later writes to the root. Last, because placing mounts may write to it.
pub fn protect_root() -> Step<()> {
    remount_read_only(Path::new("/")).doing("make the root read-only")
}

fn kernel_mount(target: &str, kind: &str, flags: MsFlags, options: &str) -> Step<()> {
    let what = || format!("mount {kind} at {target}");
    match fs::symlink_metadata(target) {
        // A link could lead the mount somewhere else in the image.
        Ok(found) if !found.is_dir() => {
            return Err(Failure::create(what(), "the image has something else than a folder there"));
        }
        Ok(_) => {}
        Err(_) => fs::create_dir_all(target).doing(what())?,
    }
    let options = if options.is_empty() { None } else { Some(options) };
    mount(Some(kind), target, Some(kind), flags, options).doing(what())
}

fn fill_dev() -> Step<()> {
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        character_node(name, 1, minor)?;
    }
    character_node("tty", 5, 0)?;
    let links =
        [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1")];
    for (name, target) in links.into_iter().chain([("stderr", "/proc/self/fd/2")]) {
        symlink(target, Path::new("/dev").join(name)).doing(format!("make /dev/{name}"))?;
    }
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        fs::create_dir(folder).doing(format!("make {folder}"))?;
    }
    Ok(())
}

fn character_node(name: &str, major: u32, minor: u32) -> Step<()> {
    let (kind, device) = (FileType::CharacterDevice, rustix::fs::makedev(major, minor));
    make_node(&Node { path: Path::new("/dev").join(name), kind, device, mode: 0o666, owner: (0, 0) })
}

fn make_node(node: &Node) -> Step<()> {
    let what = || format!("make device {}", node.path.display());
    make_folder(node.path.parent().unwrap_or(Path::new("/"))).doing(what())?;
    match rustix::fs::mknodat(CWD, &node.path, node.kind, Mode::from_raw_mode(node.mode), node.device) {
        Ok(()) => {
            // The mask for new files does not apply to devices.
            fs::set_permissions(&node.path, fs::Permissions::from_mode(node.mode)).doing(what())?;
            std::os::unix::fs::chown(&node.path, Some(node.owner.0), Some(node.owner.1)).doing(what())
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).doing(what()),
    }
}

fn show_cgroups(launch: &Launch, flags: MsFlags) -> Step<()> {
    let controllers = launch.cgroup.controllers();
    if controllers.is_empty() {
        return match mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), flags, NO_DATA) {
            // A kernel without cgroups in sysfs has nowhere to show them.
            Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
            Err(error) => Err(error).doing("mount cgroup2"),
        };
    }
    mount(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), flags - MsFlags::MS_RDONLY, Some("mode=755"))
        .doing("mount cgroups")?;
    for controller in controllers {
        let target = Path::new("/sys/fs/cgroup").join(&controller);
        fs::create_dir(&target).doing("mount cgroups")?;
        // Trees that belong together on this machine can only be mounted together: then the name alone is refused.
        let mounted = mount(Some("cgroup"), &target, Some("cgroup"), flags, Some(controller.as_str()));
        let both = || mount(Some("cgroup"), &target, Some("cgroup"), flags, Some("cpu,cpuacct"));
        mounted.or_else(|_| both()).doing(format!("mount cgroup {controller}"))?;
    }
    if flags.contains(MsFlags::MS_RDONLY) {
        remount_read_only(Path::new("/sys/fs/cgroup")).doing("protect cgroups")?;
    }
    Ok(())
}

fn place(source: Source) -> Step<()> {
    let target = source.target;
    let what = || format!("mount at {}", target.display());
    if source.folder {
        make_folder(&target).doing(what())?;
    } else {
        make_file(&target).doing(what())?;
    }
    if source.read_only {
        sys::mount_read_only_recursive(source.tree.as_fd()).doing(what())?;
    }
    let propagation = match source.propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::HostToContainer => MsFlags::MS_SLAVE,
        Propagation::Bidirectional => MsFlags::MS_SHARED,
    };
    sys::mount_propagation_recursive(source.tree.as_fd(), propagation.bits()).doing(what())?;
    rustix::mount::move_mount(
        &source.tree,
        "",
        CWD,
        &target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )
    .doing(what())
}

fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() { Ok(()) } else { fs::create_dir_all(path) }
}

fn make_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    make_folder(path.parent().unwrap_or(Path::new("/")))?;
    fs::File::create(path).map(drop)
}

/// What tells about the machine or could harm it.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const PROTECTED: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn hide_and_protect() -> Step<()> {
    for path in HIDDEN {
        let what = format!("hide {path}");
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, NO_DATA).doing(what)?;
            }
            Ok(_) => mount(Some("/dev/null"), path, NO_DATA, MsFlags::MS_BIND, NO_DATA).doing(what)?,
            Err(_) => {}
        }
    }
    for path in PROTECTED.iter().filter(|path| Path::new(path).exists()) {
        let what = format!("protect {path}");
        mount(Some(*path), *path, NO_DATA, MsFlags::MS_BIND | MsFlags::MS_REC, NO_DATA).doing(&what)?;
        remount_read_only(Path::new(path)).doing(&what)?;
    }
    Ok(())
}

/// Keeps the flags that the mount has.
fn remount_read_only(path: &Path) -> nix::Result<()> {
    let have = rustix::fs::statvfs(path).map_err(|error| nix::Error::from_raw(error.raw_os_error()))?.f_flag;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (bit, flag) in [
        (rustix::fs::StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        if have.contains(bit) {
            flags |= flag;
        }
    }
    mount(NO_DATA, path, NO_DATA, flags, NO_DATA)
}

/// Makes the working folder if need be, and enters it.
pub fn enter_working_folder(cwd: &str) -> Step<()> {
    let path = Path::new(if cwd.is_empty() { "/" } else { cwd });
    let failed = |error: &dyn std::fmt::Display| Failure {
        stage: Stage::Start,
        message: format!("chdir to cwd ({cwd:?}) set in config.json failed: {error}"),
    };
    make_folder(path).map_err(|error| failed(&error))?;
    nix::unistd::chdir(path).map_err(|error| failed(&error.desc().to_lowercase()))?;
    // The kernel cannot name a folder outside the root: the image led us to one through a descriptor.
    nix::unistd::getcwd().map(drop).map_err(|_| failed(&"it lies outside the container"))
}
