//! Unpacks one layer's tar into a folder that can be a lower layer of an overlay mount.
//!
//! Nothing outside the folder can be reached: every path is resolved by the kernel with the folder as its root, so
//! neither `..` nor a symbolic link made by the layer itself leads out of it.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

/// Unpacks all of `layer` into `folder`, which must exist and be empty; answers the bytes of file content written.
///
/// A file `.wh.NAME` becomes overlayfs's mark for "not here any more" and `.wh..wh..opq` its mark for "nothing below
/// shines through".
pub fn unpack(layer: impl Read, folder: &Path) -> io::Result<u64> {
    let root = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut unpacker = Unpacker { root, parent: None, folder_times: Vec::new(), written: 0 };
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = inner_path(&entry.path_bytes())?;
        unpacker.entry(&path, &mut entry).map_err(|error| named(&path, error))?;
    }
    unpacker.finish()?;
    Ok(unpacker.written)
}

struct Unpacker {
    root: OwnedFd,
    /// The folder that the last entry lay in: entries come in runs.
    parent: Option<(PathBuf, OwnedFd)>,
    folder_times: Vec<(PathBuf, Timestamps)>,
    written: u64,
}

/// Owner, mode and times of an entry.
struct Attributes {
    uid: u32,
    gid: u32,
    mode: Mode,
    times: Timestamps,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

const OPAQUE: &str = "trusted.overlay.opaque";
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

impl Unpacker {
    fn entry(&mut self, path: &Path, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let attributes = attributes(entry)?;
        let Some(name) = path.file_name() else {
            // The layer's own root folder.
            return self.set_attributes(&open_folder(&self.root, Path::new("."))?, path, attributes);
        };
        let parent = self.parent_folder(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return white_out(&parent, OsStr::from_bytes(hidden));
        }
        match kind {
            tar::EntryType::Directory => self.folder(&parent, path, name, attributes),
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a hard link without a target"))?;
                self.hard_link(&parent, name, &inner_path(&target)?)
            }
            _ => {
                self.clear(&parent, name)?;
                self.leaf(&parent, name, entry, attributes)
            }
        }
    }

    /// The folder at `path`, made (with its parents) if the layer does not list it.
    fn parent_folder(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((cached, folder)) = &self.parent
            && cached == path
        {
            return folder.try_clone();
        }
        let folder = match open_folder(&self.root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = self.parent_folder(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let folder = open_folder(&self.root, path)?;
                // Whatever mask for new files this process has.
                rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
                folder
            }
            other => other?,
        };
        self.parent = Some((path.to_owned(), folder.try_clone()?));
        Ok(folder)
    }

    fn folder(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr, attributes: Attributes) -> io::Result<()> {
        let replaced_white_out = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => None,
            Ok(found) => {
                self.clear(parent, name)?;
                Some(FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0)
            }
            Err(Errno::NOENT) => Some(false),
            Err(error) => return Err(error.into()),
        };
        if replaced_white_out.is_some() {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        }
        let folder = open_child_folder(parent, name)?;
        if replaced_white_out == Some(true) {
            rustix::fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())?;
        }
        self.set_attributes(&folder, path, attributes)
    }

    /// Times of folders are set at the very end, because their entries change them.
    fn set_attributes(&mut self, folder: &OwnedFd, path: &Path, attributes: Attributes) -> io::Result<()> {
        attributes.apply(folder)?;
        self.folder_times.push((path.to_owned(), attributes.times));
        Ok(())
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
        self.clear(parent, name)?;
        let target_parent = open_folder(&self.root, target.parent().unwrap_or(Path::new("")))?;
        let target_name = target.file_name().ok_or_else(|| invalid("a hard link to the root"))?;
        rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty())?;
        Ok(())
    }

    fn leaf(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut tar::Entry<'_, impl Read>,
        attributes: Attributes,
    ) -> io::Result<()> {
        use tar::EntryType;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = std::fs::File::from(file);
                self.written += io::copy(entry, &mut file)?;
                attributes.apply(&file)?;
                rustix::fs::futimens(&file, &attributes.times)?;
                return Ok(());
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a symbolic link without a target"))?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
            }
            EntryType::Fifo => node(parent, name, FileType::Fifo, 0)?,
            kind @ (EntryType::Char | EntryType::Block) => {
                let major = entry.header().device_major()?.unwrap_or(0);
                let minor = entry.header().device_minor()?.unwrap_or(0);
                let kind = if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
                node(parent, name, kind, rustix::fs::makedev(major, minor))?;
            }
            other => return Err(invalid(&format!("entries of kind {other:?} are not supported"))),
        }
        attributes.apply_by_name(parent, name, entry.header().entry_type() == EntryType::Symlink)
    }

    /// Removes what an earlier entry of the same layer left at this place.
    fn clear(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                self.parent = None;
                let place = Path::new("/proc/self/fd").join(fd_number(parent)).join(name);
                std::fs::remove_dir_all(place)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, times) in self.folder_times.drain(..).rev() {
            match open_folder(&self.root, &path) {
                Ok(folder) => rustix::fs::futimens(&folder, &times)?,
                // A later entry replaced the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Attributes {
    /// Owner first: changing it clears set-id bits and file capabilities.
    fn apply(&self, file: impl AsFd) -> io::Result<()> {
        rustix::fs::fchown(&file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        rustix::fs::fchmod(&file, self.mode)?;
        for (name, value) in &self.xattrs {
            match rustix::fs::fsetxattr(&file, name.as_os_str(), value, XattrFlags::empty()) {
                // The file system has no room for such attributes: the file is still of use.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn apply_by_name(&self, parent: &OwnedFd, name: &OsStr, symlink: bool) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !symlink {
            rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.")
                && !name.starts_with(b"trusted.overlay.")
            {
                xattrs.push((OsString::from_vec(name.to_vec()), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    // Archives in the wild leave these fields empty; that means zero.
    let number = |field: io::Result<u64>| field.unwrap_or(0);
    let time = Timespec { tv_sec: i64::try_from(number(header.mtime())).unwrap_or(0), tv_nsec: 0 };
    Ok(Attributes {
        uid: number(header.uid()) as u32,
        gid: number(header.gid()) as u32,
        mode: Mode::from_raw_mode(header.mode()? & 0o7777),
        times: Timestamps { last_access: time, last_modification: time },
        xattrs,
    })
}

fn white_out(parent: &OwnedFd, hidden: &OsStr) -> io::Result<()> {
    if hidden == ".wh..opq" {
        let folder = open_child_folder(parent, OsStr::new("."))?;
        return Ok(rustix::fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())?);
    }
    if hidden.is_empty() || hidden.as_bytes().starts_with(b".wh.") {
        return Ok(());
    }
    match node(parent, hidden, FileType::CharacterDevice, 0) {
        // The layer brings its own: then only what lies below a folder must be hidden.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open_child_folder(parent, hidden) {
            Ok(folder) => Ok(rustix::fs::fsetxattr(&folder, OPAQUE, b"y", XattrFlags::empty())?),
            Err(_) => Ok(()),
        },
        other => other,
    }
}

fn node(parent: &OwnedFd, name: &OsStr, kind: FileType, device: u64) -> io::Result<()> {
    Ok(rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)?)
}

fn open_folder(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), RESOLVE)?)
}

fn open_child_folder(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// A relative path without dots; `..` is refused.
fn inner_path(bytes: &[u8]) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => return Err(invalid("a path with `..`")),
            _ => {}
        }
    }
    Ok(path)
}

fn fd_number(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd().to_string()
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
