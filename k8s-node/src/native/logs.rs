//! Reads the log files that shims write, and follows them without polling.

use std::{
    collections::VecDeque,
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

/// The files of a log, oldest first, and how far they were read.
struct Reader {
    path: PathBuf,
    /// The one that is being read.
    file: File,
    /// Those after it, as far as they are known.
    later: VecDeque<File>,
    /// Whether another file follows, so that nobody writes to this one any more.
    superseded: bool,
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
    options: LogOptions,
}

impl Reader {
    /// `None` if there is no file yet.
    fn open(path: PathBuf, options: LogOptions) -> io::Result<Option<Self>> {
        let mut files = chain(&path)?;
        if let Some(lines) = options.tail_lines {
            keep_tail(&mut files, lines)?;
        }
        let Some(file) = files.pop_front() else { return Ok(None) };
        let later = files;
        Ok(Some(Self { path, file, later, superseded: false, carry: Vec::new(), options }))
    }

    /// What is shown of the next whole lines; `None` at the end of all files that are known.
    fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = vec![0; CHUNK];
        let length = self.file.read(&mut chunk)?;
        if length == 0 {
            let Some(next) = self.later.pop_front() else { return Ok(None) };
            self.file = next;
            self.superseded = false;
            self.carry.clear();
            return Ok(Some(Bytes::new()));
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

    /// Whether there is more to read after the end: call it when [`read`](Self::read) has found none.
    ///
    /// Another file at the path says that the writer has left this one. What it wrote last may have come after we
    /// looked, so this one is read to its end once more before the files after it are.
    fn goes_on(&mut self) -> io::Result<bool> {
        if self.superseded {
            let own = self.file.metadata()?.ino();
            let mut files = chain(&self.path)?;
            // Ours may be gone: files go oldest first, so all that are there come after it.
            if let Some(place) = position(&files, own)? {
                files.drain(..=place);
            }
            self.later = files;
            return Ok(!self.later.is_empty());
        }
        self.superseded = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            there => there?.ino() != self.file.metadata()?.ino(),
        };
        Ok(self.superseded)
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

/// The files of a log that are there, oldest first: those that were rotated away, and the present one.
fn chain(path: &Path) -> io::Result<VecDeque<File>> {
    // The present one first: should it be rotated away meanwhile, it is found twice and taken once, but never missed.
    let present = open(path)?;
    let own = present.as_ref().map(File::metadata).transpose()?.map(|found| found.ino());
    let mut files = VecDeque::new();
    for rotated in crate::logs::rotated(path)? {
        if let Some(file) = open(&rotated)?
            && Some(file.metadata()?.ino()) != own
        {
            files.push_back(file);
        }
    }
    files.extend(present);
    Ok(files)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn position(files: &VecDeque<File>, inode: u64) -> io::Result<Option<usize>> {
    for (place, file) in files.iter().enumerate() {
        if file.metadata()?.ino() == inode {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Leaves out what comes before the last `lines` lines.
fn keep_tail(files: &mut VecDeque<File>, mut lines: u64) -> io::Result<()> {
    for place in (0..files.len()).rev() {
        let (start, found) = tail_start(&mut files[place], lines)?;
        files[place].seek(SeekFrom::Start(start))?;
        lines -= found;
        if lines == 0 {
            files.drain(..place);
            return Ok(());
        }
    }
    Ok(())
}

/// Where the last `lines` lines begin, and how many of them there are.
fn tail_start(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let length = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok((length, 0));
    }
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
                return Ok((place + index as u64 + 1, lines));
            }
            found += 1;
        }
    }
    Ok((0, found))
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
                None => match reader.goes_on() {
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
        let mut tail = |lines| {
            let (start, found) = tail_start(&mut file, lines).unwrap();
            (text[start as usize..].to_owned(), found)
        };
        assert_eq!(tail(0), (String::new(), 0));
        assert_eq!(tail(1), ("c\n".into(), 1));
        assert_eq!(tail(2), ("b\nc\n".into(), 2));
        assert_eq!(tail(3), (text.clone(), 3));
        assert_eq!(tail(9), (text.clone(), 3));
    }

    /// All that a reader shows until it finds no more.
    fn shown(reader: &mut Reader) -> String {
        let mut text = Vec::new();
        loop {
            match reader.read().unwrap() {
                Some(bytes) => text.extend_from_slice(&bytes),
                None if reader.goes_on().unwrap() => {}
                None => return String::from_utf8(text).unwrap().replace('\n', " "),
            }
        }
    }

    #[test]
    fn readers_go_through_rotated_files_and_over_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let write = |path: &Path, words: &str| {
            let lines: String = words.split(' ').map(|w| format!("2026-01-01T00:00:00Z stdout F {w}\n")).collect();
            let mut file = File::options().create(true).append(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
        };
        let rotated = |number: u32| folder.path().join(format!("0.log.20260101-00000{number}"));
        let read = |tail_lines| {
            let options = LogOptions { tail_lines, ..LogOptions::default() };
            Reader::open(path.clone(), options).unwrap().unwrap()
        };
        let nowhere = Reader::open(folder.path().join("none/0.log"), LogOptions::default()).unwrap();
        assert!(nowhere.is_none(), "a container that never wrote has no log");
        write(&rotated(1), "a b");
        write(&rotated(2), "c");
        // No log of ours.
        write(&folder.path().join("0.log.gz"), "x");
        write(&folder.path().join("10.log.20260101-000001"), "y");
        assert_eq!(shown(&mut read(None)), "a b c ", "between the renaming and the opening there is no present one");
        write(&path, "d e");
        let tails = [(None, "a b c d e "), (Some(0), ""), (Some(1), "e "), (Some(3), "c d e "), (Some(4), "b c d e ")];
        for (tail, words) in tails {
            assert_eq!(shown(&mut read(tail)), words, "{tail:?}");
        }
        let (mut follower, mut late) = (read(Some(1)), read(Some(0)));
        assert_eq!((shown(&mut follower), shown(&mut late)), ("e ".into(), String::new()));
        std::fs::rename(&path, rotated(3)).unwrap();
        assert_eq!(shown(&mut follower), "");
        // The writer has the old one still open, and then opens the new one.
        write(&rotated(3), "f");
        write(&path, "g");
        assert_eq!(shown(&mut follower), "f g ");
        std::fs::rename(&path, rotated(4)).unwrap();
        write(&path, "h");
        assert_eq!(shown(&mut follower), "h ");
        assert_eq!(shown(&mut late), "f g h ", "who was away for two rotations misses nothing");
        // Away for so long that its file is gone: goes on with what is there.
        std::fs::rename(&path, rotated(5)).unwrap();
        write(&path, "i");
        (1..=4).for_each(|number| std::fs::remove_file(rotated(number)).unwrap());
        assert_eq!(shown(&mut late), "i ");
    }
}
