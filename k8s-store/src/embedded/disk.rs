//! The few file operations that the log and the snapshots need, with errors that name the file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::FallocateFlags;

use crate::StoreError;

/// How data written to a file is made durable. A test hands in one that fails.
pub(crate) type Flush = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// The flush that the operating system has.
pub(crate) fn fdatasync() -> Flush {
    Arc::new(File::sync_data)
}

/// Wraps what the operating system said with what was being done to which file.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Disk { doing, path: path.to_owned(), source: Arc::new(source) }
}

pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder", folder))
}

/// Reserves space, so that appending neither changes the file's length nor runs out of disk.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can; a sparse file of the right length serves, without the guarantee of space.
        Err(rustix::io::Errno::OPNOTSUPP) if file.metadata()?.len() < bytes => file.set_len(bytes),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// The files in `folder` called `prefix` and sixteen hexadecimal digits, by rising number.
pub(crate) fn numbered(folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).map_err(failed("read the folder", folder))? {
        let item = item.map_err(failed("read the folder", folder))?;
        let name = item.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix)).filter(|digits| digits.len() == 16);
        if let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            found.push((number, item.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The path that [`numbered`] finds.
pub(crate) fn numbered_path(folder: &Path, prefix: &str, number: u64) -> PathBuf {
    folder.join(format!("{prefix}{number:016x}"))
}
