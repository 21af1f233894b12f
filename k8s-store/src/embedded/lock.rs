//! One owner per folder.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::disk::failed;
use crate::StoreError;

/// Holds the folder. The operating system lets go of it when the value is dropped or the process ends in any way, so
/// a lock file that a killed process left behind blocks nobody.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed("open the lock file", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path }),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }
}
