//! Keeps the logs of containers within bounds: a file that has grown too large is put aside and a new one begun.
//!
//! No line is lost or written twice: the file is renamed while its writer goes on writing to it, and only then is the
//! writer asked to open the path again. Upstream's counterpart is the kubelet's container log manager.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_core::env::Timestamp;
use rustix::fs::{CWD, RenameFlags};

use super::Shared;
use crate::{
    logs::{rotated, rotated_name},
    runtime::{ContainerState, ContainerStatus, RuntimeError},
};

/// How often, and with what pauses, it is looked whether the writer has begun the new file.
const CHECKS: u32 = 50;
const CHECK: Duration = Duration::from_millis(20);

/// How large the logs of one container may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A file of at least so many bytes is rotated away.
    pub max_size_bytes: u64,
    /// How many files are kept, the present one included; at least 2.
    pub max_files: usize,
    /// How often they are looked at.
    pub every: Duration,
}

/// Upstream's: 10 MiB, 5 files, every 10 seconds.
impl Default for LogLimits {
    fn default() -> Self {
        Self { max_size_bytes: 10 << 20, max_files: 5, every: Duration::from_secs(10) }
    }
}

/// Looks at all logs again and again. Never ends.
pub(super) async fn keep(shared: Arc<Shared>, limits: LogLimits) {
    loop {
        shared.env.sleep(limits.every).await;
        let Ok(observed) = shared.runtime.observe().await else { continue };
        for container in observed.containers {
            if let Err(error) = look(&shared, limits, &container).await {
                tracing::warn!(id = container.id, %error, "a log was not rotated");
            }
        }
    }
}

async fn look(shared: &Shared, limits: LogLimits, container: &ContainerStatus) -> Result<(), RuntimeError> {
    let (Some(path), Some(logs)) = (container.log_path.clone(), shared.runtime.logs()) else { return Ok(()) };
    // Nobody would begin the new file of a container that does not run.
    if !matches!(container.state, ContainerState::Running { .. }) {
        return Ok(());
    }
    let (now, file) = (shared.env.now(), path.clone());
    let Some(aside) = blocking(move || put_aside(&file, limits, now)).await? else { return Ok(()) };
    let reopened = logs.reopen(&container.id).await;
    for _ in 0..CHECKS {
        let file = path.clone();
        if reopened.is_err() || blocking(move || file.try_exists()).await? {
            break;
        }
        shared.env.sleep(CHECK).await;
    }
    // The container may have ended meanwhile: its last words stay where they are looked for.
    blocking(move || put_back(&aside, &path)).await?;
    reopened
}

/// Renames the file if it is too large, and removes the oldest so that there is room for it. Answers the file that its
/// writer is to leave.
fn put_aside(path: &Path, limits: LogLimits, now: Timestamp) -> io::Result<Option<PathBuf>> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() >= limits.max_size_bytes => {}
        // An agent that ended between renaming and asking the writer left the rest to us.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(rotated(path)?.pop()),
        Err(error) => return Err(error),
        Ok(_) => return Ok(None),
    }
    let aside = rotated_name(path, now);
    rustix::fs::renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE)?;
    let all = rotated(path)?;
    let spare = (all.len() + 1).saturating_sub(limits.max_files.max(2));
    for oldest in &all[..spare] {
        std::fs::remove_file(oldest)?;
    }
    Ok(Some(aside))
}

/// Gives the file its name back if nobody has begun a new one.
fn put_back(aside: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, aside, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, RuntimeError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| RuntimeError::system("rotate a log", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_files_are_put_aside_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let limits = LogLimits { max_size_bytes: 4, max_files: 3, ..LogLimits::default() };
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        assert_eq!(put_aside(&path, limits, at(0)).unwrap(), None, "there is none yet");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(put_aside(&path, limits, at(0)).unwrap(), None);
        for second in 1..=4 {
            std::fs::write(&path, format!("abc{second}")).unwrap();
            let aside = put_aside(&path, limits, at(second)).unwrap();
            assert_eq!(aside, Some(folder.path().join(format!("0.log.20260101-00000{second}"))));
        }
        let kept: Vec<_> = rotated(&path).unwrap().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(kept, ["abc3", "abc4"]);
        let newest = folder.path().join("0.log.20260101-000004");
        assert_eq!(put_aside(&path, limits, at(5)).unwrap(), Some(newest), "the writer was never asked to leave it");
        // Twice in one second: the file goes on growing until the next look.
        std::fs::write(&path, "abc5").unwrap();
        assert!(put_aside(&path, limits, at(4)).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc5");
    }

    #[test]
    fn a_name_is_given_back_only_if_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("0.log"), folder.path().join("0.log.20260101-000000"));
        std::fs::write(&aside, "old").unwrap();
        put_back(&aside, &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        std::fs::write(&aside, "older").unwrap();
        put_back(&aside, &path).unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap(), aside.exists()), ("old".into(), true));
    }
}
