//! The log: segments of frames, one frame per batch of commits, each durable before the next is written.
//!
//! Invariant: frames are numbered without gaps over all segments, and at most the last frame of the last segment may
//! ever be incomplete. Recovery rests on it to tell a crash from damage.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    disk::{Disk, DiskFile, Flush, failed, is_full, numbered_path},
    frame::{self, DATA_START, FileHeader, Salt},
};
use crate::StoreError;

pub(crate) const LOG: &str = "log-";
pub(crate) const FREE: &str = "free-";
pub(crate) const LOG_MAGIC: [u8; 8] = *b"k8s-log\0";
/// How many segments that nobody needs are kept for reuse; the others are deleted.
const MAX_FREE: usize = 4;
/// Above this, the encoding buffer is given back after use.
const BUFFER_KEPT: usize = 1 << 20;

/// Figures that [`DiskStatistics`](crate::DiskStatistics) shows.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) log_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) segments_begun: AtomicU64,
    pub(crate) segments_recycled: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshots_failed: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) torn_bytes: AtomicU64,
}

/// What a log needs to know about its surroundings.
#[derive(Clone)]
pub(crate) struct LogContext {
    pub(crate) folder: PathBuf,
    /// The store's id.
    pub(crate) store: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) flush: Flush,
    pub(crate) counters: Arc<Counters>,
}

/// The end of the log, where frames are added.
pub(crate) struct Log {
    context: LogContext,
    current: Segment,
    /// Earlier segments, oldest first.
    full: VecDeque<FullSegment>,
    free: Vec<PathBuf>,
    /// The number of the last frame.
    sequence: u64,
    /// Bytes of frames after the last snapshot.
    since_snapshot: u64,
    buffer: Vec<u8>,
}

/// A segment that takes frames.
pub(crate) struct Segment {
    number: u64,
    file: Box<dyn DiskFile>,
    salt: Salt,
    size: u64,
    /// Where the next frame goes.
    end: u64,
}

/// A segment that takes no more.
pub(crate) struct FullSegment {
    pub(crate) number: u64,
    /// The number of its last frame.
    pub(crate) last: u64,
}

/// Where a recovery left the log.
pub(crate) struct LogEnd {
    pub(crate) current: Segment,
    pub(crate) full: VecDeque<FullSegment>,
    pub(crate) free: Vec<PathBuf>,
    pub(crate) sequence: u64,
    pub(crate) since_snapshot: u64,
}

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing of it reached the file, for want of space. The same may be tried again.
    Full(String),
    /// Nothing of it reached the file.
    NotWritten(String),
    /// It may or may not be there after a restart. What the disk holds cannot be known by trying again.
    Unknown(String),
}

impl Log {
    pub(crate) fn resume(context: LogContext, end: LogEnd) -> Self {
        let LogEnd { current, full, free, sequence, since_snapshot } = end;
        let mut log = Self { context, current, full, free, sequence, since_snapshot, buffer: Vec::new() };
        log.trim_free();
        log
    }

    /// The number of the last frame.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of frames after the last snapshot.
    pub(crate) fn since_snapshot(&self) -> u64 {
        self.since_snapshot
    }

    /// Notes that a snapshot of everything so far is being written.
    pub(crate) fn snapshot_begun(&mut self) {
        self.since_snapshot = 0;
    }

    /// An empty payload, for [`Self::append`].
    pub(crate) fn begin_frame(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        frame::begin(&mut buffer);
        buffer
    }

    /// Gives back a payload that turned out empty.
    pub(crate) fn cancel_frame(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Writes the frame and makes it durable.
    ///
    /// After an error other than [`AppendError::Full`] the log must not be used again.
    pub(crate) fn append(&mut self, mut buffer: Vec<u8>) -> Result<(), AppendError> {
        let length = frame::framed(buffer.len() - frame::FRAME_HEADER) as u64;
        self.make_room(length).map_err(AppendError::of_growth)?;
        let sequence = self.sequence + 1;
        frame::seal(&mut buffer, 0, self.current.salt, self.current.end, sequence);
        self.current.write(&buffer, &self.context.flush)?;
        self.sequence = sequence;
        self.since_snapshot += length;
        self.context.counters.log_bytes.fetch_add(length, Relaxed);
        self.context.counters.flushes.fetch_add(1, Relaxed);
        if buffer.capacity() <= BUFFER_KEPT {
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Frees the segments whose frames are all at or below `sequence`. What cannot be freed stays.
    pub(crate) fn release(&mut self, sequence: u64) {
        while self.full.front().is_some_and(|segment| segment.last <= sequence) {
            let Some(segment) = self.full.pop_front() else { return };
            let path = numbered_path(&self.context.folder, LOG, segment.number);
            let free = numbered_path(&self.context.folder, FREE, segment.number);
            match self.free_segment(&path, &free) {
                Ok(()) => self.free.push(free),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "a log segment cannot be freed");
                    self.full.push_front(segment);
                    return;
                }
            }
        }
        self.trim_free();
    }

    /// Invariant: a segment's new name is durable before anything is written into it, and before the next segment gets
    /// one; after a loss of power what is left of the log is without gaps.
    fn free_segment(&self, path: &Path, free: &Path) -> std::io::Result<()> {
        self.context.disk.rename(path, free)?;
        self.context.disk.sync_folder(&self.context.folder)
    }

    fn trim_free(&mut self) {
        while self.free.len() > MAX_FREE {
            if let Some(path) = self.free.pop()
                && let Err(error) = self.context.disk.remove(&path)
            {
                tracing::warn!(%error, path = %path.display(), "a log segment cannot be deleted");
            }
        }
    }

    /// Invariant: only the last segment may be without frames, so one that is too small for its first is enlarged.
    fn make_room(&mut self, frame: u64) -> Result<(), StoreError> {
        if self.current.end + frame <= self.current.size {
            return Ok(());
        }
        if self.current.end > DATA_START {
            return self.roll(frame);
        }
        let path = numbered_path(&self.context.folder, LOG, self.current.number);
        self.current.file.reserve(DATA_START + frame).map_err(failed("enlarge the log segment", &path))?;
        self.current.size = DATA_START + frame;
        Ok(())
    }

    fn roll(&mut self, frame: u64) -> Result<(), StoreError> {
        let number = self.current.number + 1;
        let next = match self.free.pop() {
            Some(path) => {
                let begun = Segment::begin(&self.context, number, &path, frame);
                if begun.is_err() {
                    self.free.push(path);
                }
                self.context.counters.segments_recycled.fetch_add(u64::from(begun.is_ok()), Relaxed);
                begun?
            }
            None => Segment::begin(&self.context, number, &numbered_path(&self.context.folder, FREE, number), frame)?,
        };
        let full = std::mem::replace(&mut self.current, next);
        self.full.push_back(FullSegment { number: full.number, last: self.sequence });
        Ok(())
    }
}

impl Segment {
    /// Makes the file at `path`, whatever it holds, into an empty segment with room for a frame of `frame` bytes.
    ///
    /// It gets its name last, so that a file with a segment's name always has a whole header.
    pub(crate) fn begin(context: &LogContext, number: u64, path: &Path, frame: u64) -> Result<Self, StoreError> {
        let file = context.disk.open(path).map_err(failed("open the log segment", path))?;
        let held = file.length().map_err(failed("inspect the log segment", path))?;
        let size = held.max(context.segment_bytes).max(DATA_START + frame);
        let header = segment_header(context.store, number);
        file.reserve(size)
            .and_then(|()| file.write(&header.encode(), 0))
            .and_then(|()| file.flush().map_err(final_failure))
            .map_err(failed("prepare the log segment", path))?;
        let name = numbered_path(&context.folder, LOG, number);
        context.disk.rename(path, &name).map_err(failed("name the log segment", &name))?;
        let named = context.disk.sync_folder(&context.folder);
        named.map_err(final_failure).map_err(failed("sync the folder", &context.folder))?;
        context.counters.segments_begun.fetch_add(1, Relaxed);
        Ok(Self { number, file, salt: header.salt(), size, end: DATA_START })
    }

    /// Opens a segment whose frames end at `end`. `last_frame` is written again: if the flush that should have made it
    /// durable failed, only a new write makes the operating system try again.
    pub(crate) fn reopen(
        context: &LogContext,
        number: u64,
        end: u64,
        last_frame: Option<(u64, &[u8])>,
    ) -> Result<Self, StoreError> {
        let path = numbered_path(&context.folder, LOG, number);
        let file = context.disk.open(&path).map_err(failed("open the log segment", &path))?;
        let held = file.length().map_err(failed("inspect the log segment", &path))?;
        let size = held.max(context.segment_bytes);
        let header = segment_header(context.store, number);
        file.reserve(size)
            .and_then(|()| last_frame.map_or(Ok(()), |(offset, bytes)| file.write(bytes, offset)))
            .and_then(|()| (context.flush)(&*file))
            .map_err(failed("make durable the end of the log in", &path))?;
        Ok(Self { number, file, salt: header.salt(), size, end })
    }

    fn write(&mut self, bytes: &[u8], flush: &Flush) -> Result<(), AppendError> {
        let unknown = |error: io::Error| AppendError::Unknown(error.to_string());
        match self.file.write(bytes, self.end) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.clear_header(flush).map_err(unknown)?;
                return Err(AppendError::Full(error.to_string()));
            }
            Err(error) => return Err(unknown(error)),
        }
        flush(&*self.file).map_err(unknown)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Makes sure that what was partly written is never taken for a frame, even if only its padding is missing.
    fn clear_header(&self, flush: &Flush) -> io::Result<()> {
        self.file.write(&[0; frame::FRAME_HEADER], self.end)?;
        flush(&*self.file)
    }
}

/// A flush that failed for want of space is not to be tried again either.
fn final_failure(error: io::Error) -> io::Error {
    io::Error::other(error)
}

impl AppendError {
    fn of_growth(error: StoreError) -> Self {
        let reason = describe(&error);
        match error {
            StoreError::Disk { source, .. } if is_full(&source) => Self::Full(reason),
            _ => Self::NotWritten(reason),
        }
    }
}

pub(crate) fn segment_header(store: u64, number: u64) -> FileHeader {
    FileHeader { magic: LOG_MAGIC, store, numbers: [number, 0, 0] }
}

/// The error with its cause, in one line.
pub(crate) fn describe(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
