//! The few file operations that the log and the snapshots need, as a seam: the operating system's files, or simulated
//! ones that lose power and fail.

use std::{
    any::Any,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::FallocateFlags;

use super::lock::Lock;
use crate::StoreError;

/// Where files are.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Opens a file for writing, and creates it if there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The length of a file, and its content from the start.
    fn read(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)>;
    /// The names of the files in a folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Gives a file another name, in one step that replaces what had that name. Durable after `sync_folder`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_folder`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Creates a folder, durably, unless it is there.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Takes a folder for as long as the value lives.
    fn lock(&self, folder: &Path) -> Result<Box<dyn Any + Send>, StoreError>;
}

/// A file that is open for writing.
pub(crate) trait DiskFile: Send + Sync {
    /// How long the file is.
    fn length(&self) -> io::Result<u64>;
    /// Reserves space, so that writing below `bytes` neither changes the file's length nor runs out of disk.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file or lengthens it with zeros.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes`. After an error, any part of them may have been written.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes durable what was written, and the length. After an error nobody knows what is durable.
    fn flush(&self) -> io::Result<()>;
}

/// How data written to the log is made durable. A test hands in one that fails.
pub(crate) type Flush = Arc<dyn Fn(&dyn DiskFile) -> io::Result<()> + Send + Sync>;

/// The flush that the disk has.
pub(crate) fn flush() -> Flush {
    Arc::new(|file: &dyn DiskFile| file.flush())
}

/// The files of the operating system.
pub(crate) struct Native;

impl Disk for Native {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let file = File::open(path)?;
        Ok((file.metadata()?.len(), Box::new(io::BufReader::new(file))))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|item| item.map(|item| item.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_folder(parent),
            _ => Ok(()),
        }
    }

    fn lock(&self, folder: &Path) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(Lock::take(folder)?))
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can; a sparse file of the right length serves, without the guarantee of space.
            Err(rustix::io::Errno::OPNOTSUPP) if self.length()? < bytes => self.set_len(bytes),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => other.map_err(Into::into),
        }
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Whether an error says that there is no space, so that the same may succeed later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Wraps what the operating system said with what was being done to which file.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Disk { doing, path: path.to_owned(), source: Arc::new(source) }
}

pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
}

/// Everything in a file.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let (length, mut content) = disk.read(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    content.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files in `folder` called `prefix` and sixteen hexadecimal digits, by rising number.
pub(crate) fn numbered(disk: &dyn Disk, folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let names = disk.names(folder).map_err(failed("read the folder", folder))?;
    let number = |name: String| {
        let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
        Some((u64::from_str_radix(digits, 16).ok()?, folder.join(&name)))
    };
    let mut found: Vec<_> = names.into_iter().filter_map(number).collect();
    found.sort();
    Ok(found)
}

/// The path that [`numbered`] finds.
pub(crate) fn numbered_path(folder: &Path, prefix: &str, number: u64) -> PathBuf {
    folder.join(format!("{prefix}{number:016x}"))
}
