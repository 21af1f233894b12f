//! The node's folder: where things of pods are, and how they come and go. Everything here blocks on the disk.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use k8s_core::{
    api::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod},
    quantity::Quantity,
};

use super::sub_path;

/// How much of a termination message is kept, in bytes. Upstream's.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Why something of a pod could not be put in place.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct VolumeError {
    /// What was being done, to what.
    pub doing: String,
    /// The operating system's words.
    #[source]
    pub source: io::Error,
}

trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, VolumeError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, VolumeError> {
        self.map_err(|source| VolumeError { doing: what(), source })
    }
}

/// The folder that a node keeps pods' things in.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Uses `root`, which must be absolute; makes what is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        if !root.is_absolute() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path must be absolute"));
        }
        for part in ["pods", "logs", "seccomp"] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::set_permissions(root.join("pods"), fs::Permissions::from_mode(0o750))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Everything of one pod but its logs.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// One volume.
    pub fn volume(&self, uid: &str, name: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(name)
    }

    /// The managed `/etc/hosts`.
    pub fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// The termination message file of an instance.
    pub fn message(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// The log file of an instance.
    pub fn log(&self, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
        let meta = &pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let folder = format!("{}_{}_{}", part(&meta.namespace), part(&meta.name), part(&meta.uid));
        self.root.join("logs").join(folder).join(container).join(format!("{attempt}.log"))
    }

    /// Where `localhostProfile`s of seccomp are looked up.
    pub fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    /// Makes an empty directory, in memory if asked.
    pub fn empty_dir(
        &self,
        uid: &str,
        name: &str,
        source: &EmptyDirVolumeSource,
        group: Option<u32>,
    ) -> Result<(), VolumeError> {
        let path = self.volume(uid, name);
        fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        let medium = source.medium.as_deref().unwrap_or_default();
        match medium {
            "" => {}
            "Memory" => {
                let limit = source.size_limit.as_ref().and_then(|limit| Quantity::parse(&limit.0).ok());
                let limit = limit.filter(|limit| !limit.is_zero()).map(|limit| format!("size={}", limit.value()));
                memory(&path, limit.as_deref()).doing(|| format!("mount tmpfs at {}", path.display()))?;
            }
            other => {
                let source = io::Error::other(format!("medium {other:?} is not supported by this node"));
                return Err(VolumeError { doing: format!("make {}", path.display()), source });
            }
        }
        if let Some(group) = group {
            chown(&path, None, Some(group)).doing(|| format!("give {} to group {group}", path.display()))?;
        }
        let mode = source.mode.map_or(0o777, i32::unsigned_abs) | if group.is_some() { 0o2070 } else { 0 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .doing(|| format!("open {} to pods", path.display()))
    }

    /// Makes the folder of a configuration volume; in memory where the machine lets us, if it holds secrets.
    pub fn configuration(&self, uid: &str, name: &str, secrets: Secrecy) -> Result<PathBuf, VolumeError> {
        let path = self.volume(uid, name);
        fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        if secrets == Secrecy::Secret {
            match memory(&path, None) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                    return Err(error).doing(|| format!("mount tmpfs at {}", path.display()));
                }
                _ => {}
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .doing(|| format!("open {} to pods", path.display()))?;
        Ok(path)
    }

    /// Writes a file of a pod, if it does not say so already. The file itself stays: containers see it as a mount.
    pub fn write(&self, path: &Path, content: &str) -> Result<(), VolumeError> {
        if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
        fs::write(path, content).doing(|| format!("write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
            .doing(|| format!("open {} to pods", path.display()))
    }

    /// Makes an empty termination message file that any user may write.
    pub fn make_message(&self, path: &Path) -> Result<(), VolumeError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
        fs::write(path, "").doing(|| format!("make {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))
            .doing(|| format!("open {} to pods", path.display()))
    }

    /// What an instance left as its last words.
    pub fn read_message(&self, uid: &str, container: &str, attempt: u32) -> String {
        use std::io::Read;
        let mut text = Vec::new();
        if let Ok(file) = fs::File::open(self.message(uid, container, attempt)) {
            // Unreadable means nothing to say.
            let _ = file.take(MAX_MESSAGE_BYTES as u64).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Binds a sub-path of a volume for the mount number `index` of a container.
    pub fn sub_path(
        &self,
        uid: &str,
        volume: &Path,
        container: &str,
        index: usize,
        sub_path: &str,
    ) -> Result<PathBuf, VolumeError> {
        let target = self.pod(uid).join("subpaths").join(container).join(index.to_string());
        sub_path::bind(volume, sub_path, &target).doing(|| format!("subPath {sub_path:?} of {}", volume.display()))
    }

    /// Removes everything of a pod. Succeeds when there is nothing.
    pub fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        let path = self.pod(uid);
        if path.exists() {
            unmount_below(&path).doing(|| format!("unmount what is below {}", path.display()))?;
            fs::remove_dir_all(&path).doing(|| format!("remove {}", path.display()))?;
        }
        let logs = self.root.join("logs");
        let suffix = format!("_{uid}");
        for entry in fs::read_dir(&logs).doing(|| format!("read {}", logs.display()))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(&suffix) {
                fs::remove_dir_all(entry.path()).doing(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// The pods that something is left of.
    pub fn pods(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("pods")).into_iter().flatten().flatten();
        let mut uids: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        uids.sort();
        uids
    }
}

/// Whether a volume holds what nobody else should read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Secrets or tokens.
    Secret,
    /// Nothing of the kind.
    Open,
}

fn memory(path: &Path, options: Option<&str>) -> io::Result<()> {
    if sub_path::is_mounted(path) {
        return Ok(());
    }
    let options = std::ffi::CString::new(options.unwrap_or_default()).map_err(io::Error::other)?;
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    Ok(rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?)
}

/// Unmounts everything below a folder, the deepest first. Host paths are never mounted there, so nothing of the
/// machine's own is reached.
fn unmount_below(folder: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.sort();
    for point in below.into_iter().rev() {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// `mountinfo` writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.into_iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// Checks a host path by its type, making it where the type says so.
pub(super) fn host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let doing = || format!("hostPath {} of type {kind:?}", source.path);
    let make_folder =
        || fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    let Ok(meta) = fs::metadata(path) else {
        return match kind {
            "" | "DirectoryOrCreate" => make_folder().doing(doing),
            "FileOrCreate" => fs::OpenOptions::new().create(true).append(true).open(path).map(drop).doing(doing),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "there is nothing at this path")).doing(doing),
        };
    };
    let found = meta.file_type();
    let fits = match kind {
        "" => true,
        "Directory" | "DirectoryOrCreate" => found.is_dir(),
        "File" | "FileOrCreate" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => return Err(io::Error::other("this type is not known")).doing(doing),
    };
    if fits { Ok(()) } else { Err(io::Error::other("what is at this path is of another type")).doing(doing) }
}
