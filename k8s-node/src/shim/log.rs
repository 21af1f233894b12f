//! Writes what a container prints in the CRI log format.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use k8s_core::env::Timestamp;

use crate::runtime::LogStream;

/// Longest piece of a line that is written as one line of the log.
const LINE_LIMIT: usize = 16 << 10;

/// The log file of one container, or nothing.
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    pending: [Vec<u8>; 2],
    text: Vec<u8>,
}

impl Log {
    /// Opens (and appends to) the file; without a path everything is dropped.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let mut log =
            Self { path: path.map(Path::to_owned), file: None, pending: Default::default(), text: Vec::new() };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again: the old file was renamed away.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(File::options().create(true).append(true).open(path)?);
        }
        Ok(())
    }

    /// Takes what was read from a stream. Whole lines are written at once, the rest waits for its end.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8], time: Timestamp) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.add(stream, &rest[..end], time);
            self.line(stream, "F", time);
            rest = &rest[end + 1..];
        }
        self.add(stream, rest, time);
        self.flush();
    }

    /// The stream ended: what waits is written as a line without an end.
    pub fn end(&mut self, stream: LogStream, time: Timestamp) {
        if !self.pending[index(stream)].is_empty() {
            self.line(stream, "P", time);
        }
        self.flush();
    }

    fn add(&mut self, stream: LogStream, mut bytes: &[u8], time: Timestamp) {
        loop {
            let pending = &mut self.pending[index(stream)];
            let room = LINE_LIMIT - pending.len();
            if bytes.len() <= room {
                pending.extend_from_slice(bytes);
                return;
            }
            pending.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            self.line(stream, "P", time);
        }
    }

    fn line(&mut self, stream: LogStream, tag: &str, time: Timestamp) {
        let name = match stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        };
        self.text.extend_from_slice(format!("{time:.9} {name} {tag} ").as_bytes());
        self.text.append(&mut self.pending[index(stream)]);
        self.text.push(b'\n');
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(&self.text)
        {
            // A full disk must not stop the container; its owner sees the gap and the shim's own log.
            eprintln!("write container log: {error}");
        }
        self.text.clear();
    }
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LogLine;

    #[test]
    fn long_and_unfinished_lines_are_partial() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open(Some(&path)).unwrap();
        let time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        log.write(LogStream::Stdout, b"he", time);
        log.write(LogStream::Stderr, b"bad\n", time);
        log.write(LogStream::Stdout, b"llo\n\n", time);
        log.write(LogStream::Stdout, &[b'x'; LINE_LIMIT + 1], time);
        log.end(LogStream::Stdout, time);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("2026-01-01T00:00:00.000000000Z stderr F bad\n"), "{text}");
        let lines: Vec<_> = text.lines().map(|line| LogLine::parse(line.as_bytes()).unwrap()).collect();
        let shape: Vec<_> = lines.iter().map(|line| (line.content.len(), line.partial)).collect();
        assert_eq!(shape, [(3, false), (5, false), (0, false), (LINE_LIMIT, true), (1, true)]);
    }
}
