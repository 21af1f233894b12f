//! The CRI log format: one line per line of output, with its time and stream.
//!
//! `2026-01-01T00:00:00.000000000Z stdout F text`; `P` in place of `F` says that the line goes on in the next one.
//! Reading files is the runtimes' business; what files are called after they were rotated away is here.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use k8s_core::env::Timestamp;

use crate::runtime::{LogOptions, LogStream};

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// To which stream.
    pub stream: LogStream,
    /// The line goes on in the next one.
    pub partial: bool,
    /// Without the end of line.
    pub content: Vec<u8>,
}

impl LogLine {
    /// Reads one line, without its end. `None` if it is not in the format.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |&byte| byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = match parts.next()? {
            b"stdout" => LogStream::Stdout,
            b"stderr" => LogStream::Stderr,
            _ => return None,
        };
        let partial = parts.next()?.starts_with(b"P");
        Some(Self { time, stream, partial, content: parts.next().unwrap_or_default().to_vec() })
    }
}

/// The name that a log file gets when it is rotated away at `now`, as upstream: `0.log.20260101-000000`.
pub fn rotated_name(path: &Path, now: Timestamp) -> PathBuf {
    let stamp = jiff::tz::TimeZone::UTC.to_datetime(now).strftime("%Y%m%d-%H%M%S");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    name.into()
}

/// The files of a log that were rotated away, oldest first. Blocks on the disk.
pub fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(vec![]);
    };
    let is_stamp = |text: &str| {
        let digit = |place: usize, letter: u8| if place == 8 { letter == b'-' } else { letter.is_ascii_digit() };
        text.len() == 15 && text.bytes().enumerate().all(|(place, letter)| digit(place, letter))
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry?;
        let rest =
            entry.file_name().to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix('.').map(is_stamp));
        if rest == Some(true) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a line is one that the options ask for, the number of lines and bytes aside.
pub fn wanted(line: &LogLine, options: &LogOptions) -> bool {
    options.stream.is_none_or(|stream| stream == line.stream) && options.since.is_none_or(|since| line.time >= since)
}

/// What is shown of a line.
pub fn render(line: &LogLine, options: &LogOptions) -> Bytes {
    let mut text = Vec::with_capacity(line.content.len() + 40);
    if options.timestamps {
        text.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
    }
    text.extend_from_slice(&line.content);
    if !line.partial {
        text.push(b'\n');
    }
    text.into()
}

/// What is shown of a finished log.
pub fn select(lines: Vec<LogLine>, options: &LogOptions) -> impl Iterator<Item = Bytes> + Send + use<> {
    let mut lines: Vec<LogLine> = lines.into_iter().filter(|line| wanted(line, options)).collect();
    let skip = skipped_for_tail(&lines, options.tail_lines);
    lines.drain(..skip);
    let mut budget = Budget::new(options.limit_bytes);
    let options = options.clone();
    lines.into_iter().map_while(move |line| budget.take(render(&line, &options)))
}

/// How many to leave out so that `tail` whole lines stay.
fn skipped_for_tail(lines: &[LogLine], tail: Option<u64>) -> usize {
    let Some(tail) = tail else { return 0 };
    let mut whole = 0;
    for (index, line) in lines.iter().enumerate().rev() {
        let ends_a_line = !line.partial || index + 1 == lines.len();
        if ends_a_line {
            whole += 1;
        }
        if whole > tail {
            return index + 1;
        }
    }
    0
}

/// Counts down `limit_bytes`.
#[derive(Debug, Clone)]
pub struct Budget(Option<u64>);

impl Budget {
    /// `None` is no limit.
    pub fn new(limit_bytes: Option<u64>) -> Self {
        Self(limit_bytes)
    }

    /// As much of `text` as may still be shown; `None` when nothing may.
    pub fn take(&mut self, text: Bytes) -> Option<Bytes> {
        let Some(left) = &mut self.0 else { return Some(text) };
        let length = text.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= length as u64;
        (length > 0).then(|| text.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.5Z stdout F one\n2026-01-01T00:00:01Z stderr F bad\n\
        2026-01-01T00:00:02Z stdout P tw\n2026-01-01T00:00:02Z stdout F o\n2026-01-01T00:00:03.000000001Z stdout F \n";

    fn shown(options: LogOptions) -> String {
        let lines = LOG.lines().map(|line| LogLine::parse(line.as_bytes()).unwrap()).collect();
        select(lines, &options).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn options_choose_lines() {
        let all = LogOptions::default();
        assert_eq!(shown(all.clone()), "one\nbad\ntwo\n\n");
        assert_eq!(shown(LogOptions { tail_lines: Some(2), ..all.clone() }), "two\n\n");
        assert_eq!(shown(LogOptions { tail_lines: Some(0), ..all.clone() }), "");
        assert_eq!(shown(LogOptions { stream: Some(LogStream::Stderr), ..all.clone() }), "bad\n");
        assert_eq!(shown(LogOptions { limit_bytes: Some(5), ..all.clone() }), "one\nb");
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(shown(LogOptions { since, ..all.clone() }), "two\n\n");
        let last = LogOptions { tail_lines: Some(1), timestamps: true, ..all };
        assert_eq!(shown(last), "2026-01-01T00:00:03.000000001Z \n");
    }

    #[test]
    fn what_is_not_in_the_format_is_no_line() {
        for line in ["", "x stdout F a", "2026-01-01T00:00:00Z elsewhere F a", "2026-01-01T00:00:00Z stdout"] {
            assert_eq!(LogLine::parse(line.as_bytes()), None, "{line}");
        }
    }
}
