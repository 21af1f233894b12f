//! Writes snapshots on a thread of its own, one at a time, and removes those that are no longer needed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::{
    Surroundings,
    disk::{Disk, numbered_path},
    log::describe,
    snapshot::{SNAPSHOT, Snapshot},
};
use crate::StoreError;

/// How many snapshots are kept. Recovery starts from the oldest, and falls back to a newer one.
const KEPT: usize = 2;

pub(crate) struct Snapshotter {
    surroundings: Surroundings,
    folder: PathBuf,
    /// The log positions of the kept snapshots, rising.
    kept: Vec<u64>,
    running: Option<Running>,
}

struct Running {
    /// `None` if there was no need for one.
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    outcome: mpsc::Receiver<Outcome>,
}

/// The log position of the snapshot that was written; `None` if it was stopped.
type Outcome = Result<Option<u64>, StoreError>;

impl Snapshotter {
    pub(crate) fn new(surroundings: &Surroundings, folder: PathBuf, kept: Vec<u64>) -> Self {
        Self { surroundings: surroundings.clone(), folder, kept, running: None }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Begins to write. Nothing else may be running.
    pub(crate) fn start(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (report, outcome) = mpsc::channel();
        let folder = self.folder.clone();
        let kept = self.kept.clone();
        let stopped = stop.clone();
        let disk = self.surroundings.disk.clone();
        let work = move || {
            let _ = report.send(write(&snapshot, &*disk, &folder, &kept, &stopped));
        };
        let thread = match self.surroundings.snapshot_aside {
            true => Some(thread::Builder::new().name("store-snapshot".into()).spawn(work)?),
            false => {
                work();
                None
            }
        };
        self.running = Some(Running { thread, stop, outcome });
        Ok(())
    }

    /// What became of the snapshot that was being written, once: the log position that recovery now needs, if the log
    /// before it can go; or the file and what was wrong. `None` if nothing has finished.
    pub(crate) fn finished(&mut self) -> Option<Result<Option<u64>, (PathBuf, String)>> {
        let outcome = match self.running.as_ref()?.outcome.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return None,
            Err(mpsc::TryRecvError::Disconnected) => Err("the thread that wrote the snapshot panicked".to_owned()),
            Ok(outcome) => outcome.map_err(|error| describe(&error)),
        };
        self.running = None;
        match outcome {
            Err(reason) => Some(Err((self.folder.clone(), reason))),
            Ok(None) => None,
            Ok(Some(sequence)) => {
                self.kept.push(sequence);
                let surplus = self.kept.len().saturating_sub(KEPT);
                self.kept.drain(..surplus);
                Some(Ok((self.kept.len() == KEPT).then(|| self.kept[0])))
            }
        }
    }

    /// Stops what is being written and waits until its thread has ended.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Relaxed);
            let _ = running.thread.map(JoinHandle::join);
        }
    }
}

/// Writes the snapshot; with it, all but the newest of `kept` are no longer needed.
fn write(snapshot: &Snapshot, disk: &dyn Disk, folder: &Path, kept: &[u64], stop: &AtomicBool) -> Outcome {
    if snapshot.write(disk, folder, stop)?.is_none() {
        return Ok(None);
    }
    for sequence in kept.iter().rev().skip(KEPT - 1) {
        let path = numbered_path(folder, SNAPSHOT, *sequence);
        if let Err(error) = disk.remove(&path) {
            tracing::warn!(%error, path = %path.display(), "an old snapshot cannot be deleted");
        }
    }
    Ok(Some(snapshot.sequence))
}
