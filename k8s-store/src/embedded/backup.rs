//! A running store into one file, and that file into a store of its own.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use k8s_core::env::Env;

use super::{
    Embedded, EmbeddedOptions, codec,
    disk::{Disk, Native, failed, flush, numbered_path},
    log::{FREE, Log, LogContext, LogEnd, Segment},
    snapshot::{self, Loaded, Snapshot},
};
use crate::{Revision, StoreError, plan::Effect};

/// How far beyond its backup a restored store begins: more than the lost store can have come after the backup was made
/// (at 100,000 revisions a second it would have had to run for 127 days), so that no revision of the lost history is
/// ever given again, and little enough that a store can be restored 8,000 times before a revision is no longer exact
/// in a double (2^53), which is what some clients keep it in.
pub const REVISIONS_SKIPPED: u64 = 1 << 40;

impl Embedded {
    /// Writes everything stored at one revision, which is returned, into a new file, durably. Commits go on meanwhile.
    ///
    /// Works as well while the store takes no writes. The history is not part of a backup; leases are. Blocks until
    /// the file is written: call it where a thread may block.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`] if the file is there or cannot be written, [`StoreError::Closed`].
    pub fn backup(&self, file: &Path) -> Result<Revision, StoreError> {
        let doing = "write the backup";
        if file.exists() {
            return Err(failed(doing, file)(io::ErrorKind::AlreadyExists.into()));
        }
        let snapshot = self.engine.writer.queue.freeze()?;
        let unfinished = beside(file, ".unfinished");
        let written = snapshot.write_frames(&Native, &unfinished, &AtomicBool::new(false));
        written.and_then(|_| fs::rename(&unfinished, file)).map_err(failed(doing, file))?;
        sync_parent(file)?;
        Ok(snapshot.revision)
    }

    /// Makes a backup into a store in `folder`, which must be empty or not be there, and returns the revision at which
    /// that store begins. Open it as usual afterwards.
    ///
    /// The store has the backup's entries and leases, an identity of its own, a head [`REVISIONS_SKIPPED`] beyond the
    /// backup's, and no history before it. So whoever kept something of the lost store and asks for what came after
    /// gets [`StoreError::Compacted`] and lists anew, and no guard on a revision of the lost history holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the backup is damaged, [`StoreError::Disk`] if it cannot be read or the folder
    /// cannot be written. The folder is complete or untouched.
    pub fn restore(backup: &Path, folder: &Path, env: &Env) -> Result<Revision, StoreError> {
        let doing = "restore the backup into";
        let loaded = snapshot::load(&Native, backup, Duration::ZERO)?;
        if fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) {
            return Err(failed(doing, folder)(io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let staging = beside(folder, ".restoring");
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(doing, &staging)(error)),
            _ => Native.create_folder(&staging).map_err(failed(doing, &staging))?,
        }
        let revision = write_store(&loaded, &staging, env.random())?;
        fs::rename(&staging, folder).map_err(failed(doing, folder))?;
        sync_parent(folder)?;
        Ok(revision)
    }
}

/// A snapshot and the log after it, as a store leaves them. The log's one frame says where the history begins.
fn write_store(loaded: &Loaded, folder: &Path, store: u64) -> Result<Revision, StoreError> {
    let revision = Revision(loaded.state.head.0 + REVISIONS_SKIPPED);
    let snapshot = Snapshot {
        store,
        sequence: 1,
        revision,
        entries: loaded.state.entries.clone(),
        leases: loaded.leases.iter().collect(),
        // The lost store may have granted leases after the backup, too.
        last_lease: loaded.leases.last() + REVISIONS_SKIPPED,
    };
    snapshot.write(&Native, folder, &AtomicBool::new(false))?;
    let context = LogContext {
        folder: folder.to_owned(),
        store,
        segment_bytes: EmbeddedOptions::default().segment_bytes,
        disk: Arc::new(Native),
        flush: flush(),
        counters: Arc::default(),
    };
    // Not the first segment, because the log does not go back to the beginning.
    let current = Segment::begin(&context, 2, &numbered_path(folder, FREE, 2), 0)?;
    let end = LogEnd { current, full: [].into(), free: Vec::new(), sequence: 1, since_snapshot: 0 };
    let mut log = Log::resume(context, end);
    let mut frame = log.begin_frame();
    codec::encode_effect(&mut frame, &Effect { compact: Some(revision), ..Effect::default() });
    log.append(frame).map_err(|error| failed("write the log in", folder)(io::Error::other(format!("{error:?}"))))?;
    Ok(revision)
}

/// The path with an addition to its last name.
fn beside(path: &Path, addition: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(addition);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            Native.sync_folder(parent).map_err(failed("sync the folder", parent))
        }
        _ => Native.sync_folder(Path::new(".")).map_err(failed("sync the folder", path)),
    }
}
