//! Namespaces that outlive every process: bind mounts of the kernel's handles on files of ours.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::sys;

/// What to make.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A network namespace with loopback up.
    pub network: bool,
    /// A System V IPC and message queue namespace.
    pub ipc: bool,
    /// A host name of its own.
    pub hostname: Option<String>,
    /// Kernel settings within them.
    pub sysctls: BTreeMap<String, String>,
}

/// Makes namespaces and pins them at `folder/net`, `folder/ipc` and `folder/uts`, as far as they are not pinned yet.
pub fn pin(folder: &Path, wanted: &Wanted) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut made = Vec::new();
    for (name, flag, asked) in [
        ("net", CloneFlags::CLONE_NEWNET, wanted.network),
        ("ipc", CloneFlags::CLONE_NEWIPC, wanted.ipc),
        ("uts", CloneFlags::CLONE_NEWUTS, wanted.hostname.is_some()),
    ] {
        if asked && !is_pinned(&folder.join(name)) {
            made.push((name, flag));
        }
    }
    if made.is_empty() && wanted.sysctls.is_empty() {
        return Ok(());
    }
    on_own_thread(|| {
        unshare(made.iter().map(|(_, flag)| *flag).collect())?;
        // The pinned ones of an earlier try are joined, so that settings reach them.
        for name in ["net", "ipc"] {
            if !made.iter().any(|(known, _)| *known == name) && is_pinned(&folder.join(name)) {
                setns(File::open(folder.join(name))?, CloneFlags::empty())?;
            }
        }
        set_up(wanted, &made)?;
        for (name, _) in &made {
            let target = folder.join(name);
            File::create(&target)?;
            let (source, nothing) = (format!("/proc/thread-self/ns/{name}"), None::<&str>);
            mount(Some(source.as_str()), &target, nothing, MsFlags::MS_BIND, nothing)?;
        }
        Ok(())
    })
}

fn set_up(wanted: &Wanted, made: &[(&str, CloneFlags)]) -> io::Result<()> {
    let is_new = |name: &str| made.iter().any(|(known, _)| *known == name);
    if is_new("net") {
        sys::loopback_up()?;
    }
    if let (true, Some(hostname)) = (is_new("uts"), &wanted.hostname) {
        nix::unistd::sethostname(hostname)?;
    }
    for (name, value) in &wanted.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("sysctl {name}={value}: {e}")))?;
    }
    Ok(())
}

/// Whether a namespace is mounted here.
pub fn is_pinned(path: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between machines")]
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as i64 == NSFS_MAGIC)
}

/// Lets go of what is mounted at `path` and removes the file. Succeeds when there is nothing.
pub fn unpin(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `work` in the network namespace pinned at `path`.
pub fn within_network<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_own_thread(|| {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// A thread that changed its namespaces cannot be used for anything else: it ends with the work.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    })
}
