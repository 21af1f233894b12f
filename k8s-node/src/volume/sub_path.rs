//! Sub-paths of volumes, without ever being led out of the volume by a link that a container made.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};

/// Binds `sub_path` of `volume` at `target` and answers what to mount. Blocks on the disk.
///
/// What is missing of the path is made. A container may change the volume at the same time: the path is resolved by the
/// kernel within the volume, and what was resolved is bound, not looked up again.
pub(super) fn bind(volume: &Path, sub_path: &str, target: &Path) -> io::Result<PathBuf> {
    let path = Path::new(sub_path);
    if path.is_absolute() || path.components().any(|step| !matches!(step, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::other(format!("subPath {sub_path:?} must be a relative path without `..`")));
    }
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = match inside(&root, path) {
        Err(rustix::io::Errno::NOENT) => make(&root, path)?,
        other => other?,
    };
    let is_folder =
        rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == rustix::fs::FileType::Directory;
    if is_mounted(target) {
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match is_folder {
        true => fs::create_dir_all(target)?,
        false => drop(fs::OpenOptions::new().create(true).append(true).open(target)?),
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::mount::mount_bind(source.as_str(), target)?;
    Ok(target.to_owned())
}

fn inside(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Makes the missing folders one after another, each within the one before.
fn make(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut so_far = PathBuf::new();
    for step in path.components() {
        let parent = if so_far.as_os_str().is_empty() { Path::new(".") } else { so_far.as_path() };
        let folder = inside(root, parent)?;
        match mkdirat(&folder, step.as_os_str(), Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        so_far.push(step);
    }
    Ok(inside(root, path)?)
}

/// Whether something is mounted exactly at `path`.
pub(super) fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
