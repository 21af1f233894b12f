//! Reads the log files that shims write, and follows them without polling.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use rustix::fs::inotify;
use tokio::{io::unix::AsyncFd, sync::watch};

use super::Native;
use crate::{
    logs::{Budget, LogLine, render, wanted},
    runtime::{LogOptions, LogReader, Logs, RuntimeError},
};

/// Read at a time.
const CHUNK: usize = 64 << 10;

#[async_trait]
impl Logs for Native {
    async fn read(&self, container: &str, options: LogOptions) -> Result<LogReader, RuntimeError> {
        let found = self.inner.existing_container(container)?;
        let Some(path) = found.record.spec.log_path.clone() else {
            return Ok(Box::pin(stream::empty()));
        };
        let doing = format!("read log {}", path.display());
        let running = found.changes();
        let follow = options.follow;
        let (reader, budget) = self
            .blocking(move |_| {
                let budget = Budget::new(options.limit_bytes);
                let reader = Reader::open(path, options).map_err(|error| RuntimeError::system(doing, error))?;
                Ok((reader, budget))
            })
            .await?;
        let reader = match (reader, follow) {
            (Some(reader), true) => reader,
            (Some(reader), false) => return Ok(Box::pin(finite(reader, budget))),
            (None, _) => return Ok(Box::pin(stream::empty())),
        };
        let notices = reader.watch().map_err(|error| RuntimeError::system("follow a log", error))?;
        let state = Follower { reader: Some(reader), budget, running, notices, done: false };
        Ok(Box::pin(stream::unfold(state, Follower::next)))
    }

    async fn reopen(&self, container: &str) -> Result<(), RuntimeError> {
        let found = self.inner.existing_container(container)?;
        if let Some(shim) = found.shim().and_then(super::launch::ProcessId::open) {
            let asked = rustix::process::pidfd_send_signal(&shim, rustix::process::Signal::USR1);
            asked.map_err(|error| RuntimeError::system("reopen a log", error))?;
        }
        Ok(())
    }
}

/// A log file, and how far it was read.
struct Reader {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
    options: LogOptions,
}

impl Reader {
    /// `None` if there is no file yet.
    fn open(path: PathBuf, options: LogOptions) -> io::Result<Option<Self>> {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if let Some(lines) = options.tail_lines {
            let start = tail_start(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Some(Self { path, file, carry: Vec::new(), options }))
    }

    /// What is shown of the next whole lines; `None` at the end.
    fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = vec![0; CHUNK];
        let length = self.file.read(&mut chunk)?;
        if length == 0 {
            return Ok(None);
        }
        self.carry.extend_from_slice(&chunk[..length]);
        let end = self.carry.iter().rposition(|&byte| byte == b'\n').map_or(0, |place| place + 1);
        let mut text = Vec::new();
        for line in self.carry[..end].split(|&byte| byte == b'\n') {
            if let Some(line) = LogLine::parse(line).filter(|line| wanted(line, &self.options)) {
                text.extend_from_slice(&render(&line, &self.options));
            }
        }
        self.carry.drain(..end);
        Ok(Some(text.into()))
    }

    /// Goes on with the file that took the name, if another did. The old one was read to its end before.
    fn switch(&mut self) -> io::Result<bool> {
        let there = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if there.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        self.file = File::open(&self.path)?;
        self.carry.clear();
        Ok(true)
    }

    /// Notices of writes to the file and of others taking its name.
    fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let notices = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&notices, folder, events)?;
        crate::sys::async_descriptor(notices)
    }
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let (mut place, mut found) = (length, 0);
    let mut chunk = vec![0; CHUNK];
    while place > 0 {
        let size = place.min(CHUNK as u64);
        place -= size;
        file.seek(SeekFrom::Start(place))?;
        let part = &mut chunk[..size as usize];
        file.read_exact(part)?;
        for (index, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // Each line end but the last begins the line after it.
            if found == lines {
                return Ok(place + index as u64 + 1);
            }
            found += 1;
        }
    }
    Ok(if lines == 0 { length } else { 0 })
}

/// All that is in the file now, read on threads for blocking work.
fn finite(reader: Reader, budget: Budget) -> impl futures::Stream<Item = Result<Bytes, RuntimeError>> + Send {
    stream::unfold(Some((reader, budget)), |state| async {
        let (reader, mut budget) = state?;
        match read(reader).await {
            Ok((_, None)) => None,
            Ok((reader, Some(text))) if text.is_empty() => Some((Ok(text), Some((reader, budget)))),
            Ok((reader, Some(text))) => budget.take(text).map(|text| (Ok(text), Some((reader, budget)))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .filter(|item| std::future::ready(!matches!(item, Ok(text) if text.is_empty())))
}

async fn read(mut reader: Reader) -> Result<(Reader, Option<Bytes>), RuntimeError> {
    let work = tokio::task::spawn_blocking(move || reader.read().map(|text| (reader, text)));
    let result = work.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.map_err(|error| RuntimeError::system("read a log", error))
}

struct Follower {
    reader: Option<Reader>,
    budget: Budget,
    running: watch::Receiver<bool>,
    notices: AsyncFd<OwnedFd>,
    done: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Bytes, RuntimeError>, Self)> {
        loop {
            // Looked at before reading: what the container wrote before it ended is then read for sure.
            let running = *self.running.borrow_and_update();
            let reader = self.reader.take().filter(|_| !self.done)?;
            let (mut reader, text) = match read(reader).await {
                Ok(found) => found,
                Err(error) => return Some((Err(error), self)),
            };
            match text {
                Some(text) if text.is_empty() => {}
                Some(text) => {
                    self.reader = Some(reader);
                    return self.budget.take(text).map(|text| (Ok(text), self));
                }
                None => match reader.switch() {
                    Ok(true) => {}
                    Ok(false) if !running => return None,
                    Ok(false) => self.wait().await,
                    Err(error) => self.done = error.kind() != io::ErrorKind::NotFound,
                },
            }
            self.reader = Some(reader);
        }
    }

    /// Until the log or the container changes.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            ready = self.notices.readable_mut() => if let Ok(mut ready) = ready {
                let mut buffer = [0; 4096];
                // What was noticed does not matter: the file is read in any case.
                while ready.try_io(|notices| Ok(rustix::io::read(notices.get_ref(), &mut buffer)?)).is_ok_and(|r| r.is_ok()) {}
            },
            _ = self.running.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_after_the_right_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text = "x".repeat(CHUNK) + "\nb\nc\n";
        std::fs::write(&path, &text).unwrap();
        let mut file = File::open(&path).unwrap();
        let mut tail = |lines| text[tail_start(&mut file, lines).unwrap() as usize..].to_owned();
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "c\n");
        assert_eq!(tail(2), "b\nc\n");
        assert_eq!(tail(3), text);
        assert_eq!(tail(9), text);
    }
}
