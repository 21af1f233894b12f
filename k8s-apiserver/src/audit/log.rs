//! Events as lines of a file that is put aside when it has grown large.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_core::env::{Env, Timestamp};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt,
};

use super::AuditSink;

/// How the file is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// How large it grows, in bytes, before it is put aside; 0 never.
    pub max_bytes: u64,
    /// How many files that were put aside are kept; 0 all.
    pub max_backups: usize,
    /// How long they are kept; `None` for ever.
    pub max_age: Option<Duration>,
}

/// The sink.
pub struct LogFile {
    env: Env,
    settings: LogSettings,
    file: File,
    bytes: u64,
    /// When the file was put aside last, by its name.
    rotated: Timestamp,
}

impl LogFile {
    /// Opens the file, and goes on at its end.
    pub async fn open(env: Env, settings: LogSettings) -> std::io::Result<Self> {
        let file = open(&settings.path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self { env, settings, file, bytes, rotated: Timestamp::MIN })
    }

    async fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.file.write_all(lines).await?;
        self.file.flush().await?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Puts the file aside under the time of day, and begins a new one.
    async fn rotate(&mut self) -> std::io::Result<()> {
        let path = &self.settings.path;
        // Two in one millisecond must not be one, and their names must stay in order.
        let after = |time: Timestamp| time.checked_add(Duration::from_millis(1)).unwrap_or(Timestamp::MAX);
        let mut time = self.env.now().max(after(self.rotated));
        while fs::try_exists(backup(path, time)).await? {
            time = after(time);
        }
        fs::rename(path, backup(path, time)).await?;
        self.rotated = time;
        self.file = open(path).await?;
        self.bytes = 0;
        self.prune().await
    }

    /// Removes what was put aside too long ago, and what there is too much of.
    async fn prune(&self) -> std::io::Result<()> {
        let LogSettings { path, max_backups, max_age, .. } = &self.settings;
        let Some(directory) = path.parent() else { return Ok(()) };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let (mut entries, mut backups) = (fs::read_dir(directory).await?, Vec::new());
        while let Some(entry) = entries.next_entry().await? {
            if let Some(time) = time_of(path, &entry.file_name().to_string_lossy()) {
                backups.push((time, entry.path()));
            }
        }
        backups.sort();
        let oldest = max_age.and_then(|age| self.env.now().checked_sub(age).ok());
        let extra = if *max_backups == 0 { 0 } else { backups.len().saturating_sub(*max_backups) };
        for (place, (time, path)) in backups.into_iter().enumerate() {
            if place < extra || oldest.is_some_and(|oldest| time < oldest) {
                fs::remove_file(path).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl AuditSink for LogFile {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn write(&mut self, events: Vec<Bytes>) -> Result<(), String> {
        let failed = |path: &Path, why: std::io::Error| format!("{}: {why}", path.display());
        let mut lines = Vec::with_capacity(events.iter().map(|event| event.len() + 1).sum());
        for event in events {
            let limit = self.settings.max_bytes;
            let grown = self.bytes + (lines.len() + event.len()) as u64;
            if limit > 0 && grown > limit && self.bytes + lines.len() as u64 > 0 && !is_stdout(&self.settings.path) {
                self.append(&lines).await.map_err(|why| failed(&self.settings.path, why))?;
                lines.clear();
                self.rotate().await.map_err(|why| failed(&self.settings.path, why))?;
            }
            lines.extend_from_slice(&event);
            lines.push(b'\n');
        }
        self.append(&lines).await.map_err(|why| failed(&self.settings.path, why))
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

async fn open(path: &Path) -> std::io::Result<File> {
    let path = if is_stdout(path) { Path::new("/dev/stdout") } else { path };
    // What is noted of requests is for nobody else's eyes.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).await
}

const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// `audit-2006-01-02T15-04-05.000.log` of `audit.log`.
fn backup(path: &Path, time: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    path.with_file_name(format!("{stem}-{}{extension}", time.strftime(TIME)))
}

/// When a file was put aside, if it is one of those of `path`.
fn time_of(path: &Path, name: &str) -> Option<Timestamp> {
    let (stem, extension) = parts(path);
    let time = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?;
    jiff::civil::DateTime::strptime(TIME, time)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|time| time.timestamp())
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map_or_else(String::new, |extension| format!(".{extension}"));
    (text(path.file_stem()).unwrap_or_default(), extension)
}
