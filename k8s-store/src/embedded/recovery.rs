//! From files to a store: the oldest kept snapshot, and the log after it.
//!
//! Starting from the oldest snapshot rather than the newest brings back the history in between, so that watches resume
//! over a restart. The newer one stands in if the older is damaged.
//!
//! The one thing that a crash may leave behind is an incomplete last frame; it was never acknowledged and is cut off.
//! Anything else that does not check out is damage, and refuses to open.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use k8s_core::env::Env;

use super::{
    EmbeddedOptions, Surroundings,
    codec::Reader,
    disk::{Disk, corrupt, failed, numbered, numbered_path, read_all},
    frame::{self, DATA_START, FileHeader, Frame},
    log::{Counters, FREE, FullSegment, LOG, LOG_MAGIC, Log, LogContext, LogEnd, Segment},
    snapshot::{self, Loaded, SNAPSHOT, UNFINISHED},
};
use crate::{
    Change, StoreError,
    core::Core,
    history::History,
    lease::Leases,
    plan::{Effect, LeaseEffect},
    state::State,
};

/// A store as it was when it was last open.
pub(crate) struct Recovered {
    pub(crate) core: Core,
    pub(crate) log: Log,
    pub(crate) store: u64,
    /// The log positions of the kept snapshots, rising.
    pub(crate) snapshots: Vec<u64>,
}

/// Opens what is in `folder`, or begins a store there if it is empty.
pub(crate) fn recover(
    folder: &Path,
    env: Env,
    options: &EmbeddedOptions,
    surroundings: &Surroundings,
    counters: &Arc<Counters>,
) -> Result<Recovered, StoreError> {
    let disk = &*surroundings.disk;
    let segments = numbered(disk, folder, LOG)?;
    let snapshots = numbered(disk, folder, SNAPSHOT)?;
    let free = numbered(disk, folder, FREE)?.into_iter().map(|(_, path)| path).collect();
    remove_unfinished(disk, folder)?;
    let mut context = LogContext {
        folder: folder.to_owned(),
        store: env.random(),
        segment_bytes: options.segment_bytes,
        disk: surroundings.disk.clone(),
        flush: surroundings.flush.clone(),
        counters: counters.clone(),
    };
    let now = env.monotonic();
    let mut replay = match (segments.first(), snapshots.last()) {
        (None, None) => return begin(context, env, options, free),
        (None, Some((_, newest))) => {
            return Err(corrupt(newest, 0, "the log that belongs to this snapshot is missing"));
        }
        (Some(first), _) => Replay::from(base(disk, first, &snapshots, now)?, options, now),
    };
    replay.newest_snapshot = snapshots.last().map_or(0, |(sequence, _)| *sequence);
    let end = replay.segments(&mut context, &segments, free)?;
    replay.leases.settle();
    counters.replayed.store(replay.replayed, Relaxed);
    counters.torn_bytes.store(replay.torn, Relaxed);
    Ok(Recovered {
        store: context.store,
        log: Log::resume(context, end),
        core: Core::with(env, replay.state, replay.history, replay.leases),
        snapshots: snapshots.into_iter().map(|(sequence, _)| sequence).collect(),
    })
}

fn begin(
    context: LogContext,
    env: Env,
    options: &EmbeddedOptions,
    free: Vec<PathBuf>,
) -> Result<Recovered, StoreError> {
    let path = numbered_path(&context.folder, FREE, 1);
    let current = Segment::begin(&context, 1, &path, 0)?;
    let end = LogEnd { current, full: VecDeque::new(), free, sequence: 0, since_snapshot: 0 };
    Ok(Recovered {
        store: context.store,
        log: Log::resume(context, end),
        core: Core::empty(env, options.retention),
        snapshots: Vec::new(),
    })
}

fn remove_unfinished(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(UNFINISHED);
    match disk.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove the unfinished snapshot", &path)(error))
        }
        _ => Ok(()),
    }
}

/// The state to replay from: empty if the log is complete, else the oldest snapshot that the log reaches back to.
fn base(
    disk: &dyn Disk,
    first: &(u64, PathBuf),
    snapshots: &[(u64, PathBuf)],
    now: Duration,
) -> Result<Option<Loaded>, StoreError> {
    let (number, path) = first;
    let begins = first_sequence(disk, path)?;
    if begins == Some(1) || (begins.is_none() && *number == 1 && snapshots.is_empty()) {
        return Ok(None);
    }
    let begins = begins.ok_or_else(|| corrupt(path, DATA_START, "the log's first segment is empty"))?;
    let mut damage = None;
    for (_, snapshot) in snapshots.iter().filter(|(sequence, _)| sequence + 1 >= begins) {
        match snapshot::load(disk, snapshot, now) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) => {
                tracing::warn!(%error, "a snapshot is damaged; trying the next");
                damage.get_or_insert(error);
            }
        }
    }
    let missing = || corrupt(path, DATA_START, format!("the log begins at frame {begins} and no snapshot precedes it"));
    Err(damage.unwrap_or_else(missing))
}

fn first_sequence(disk: &dyn Disk, path: &Path) -> Result<Option<u64>, StoreError> {
    let bytes = read_all(disk, path).map_err(failed("read the log segment", path))?;
    match FileHeader::decode(&bytes, LOG_MAGIC, path) {
        Ok(header) => Ok(frame::at(&bytes, DATA_START, header.salt()).map(|frame| frame.sequence)),
        Err(_) if is_cut_short(&bytes) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file ends before a header could have been written.
fn is_cut_short(bytes: &[u8]) -> bool {
    bytes.len() < DATA_START as usize && FileHeader::decode(bytes, LOG_MAGIC, Path::new("")).is_err()
}

/// The state on its way from the base to the end of the log.
struct Replay {
    state: State,
    history: History,
    leases: Leases,
    now: Duration,
    store: Option<u64>,
    /// Frames up to here are in the base.
    base: u64,
    /// The number that the next frame must have; `None` before the first.
    expected: Option<u64>,
    newest_snapshot: u64,
    since_snapshot: u64,
    replayed: u64,
    torn: u64,
    /// The last frame seen: its segment, its place, its bytes.
    last_frame: Option<(u64, u64, Vec<u8>)>,
    full: VecDeque<FullSegment>,
}

impl Replay {
    fn from(base: Option<Loaded>, options: &EmbeddedOptions, now: Duration) -> Self {
        let store = base.as_ref().map(|base| base.store);
        let (sequence, state, leases) = match base {
            Some(base) => (base.sequence, base.state, base.leases),
            None => (0, State::default(), Leases::default()),
        };
        Self {
            history: History::new(state.head, options.retention),
            state,
            leases,
            now,
            store,
            base: sequence,
            expected: None,
            newest_snapshot: 0,
            since_snapshot: 0,
            replayed: 0,
            torn: 0,
            last_frame: None,
            full: VecDeque::new(),
        }
    }

    /// Replays all segments and opens the last for what is to come.
    fn segments(
        &mut self,
        context: &mut LogContext,
        segments: &[(u64, PathBuf)],
        free: Vec<PathBuf>,
    ) -> Result<LogEnd, StoreError> {
        // Where the segment before ended: what a gap in the numbers of the frames is reported at.
        let mut before: Option<(&Path, u64)> = None;
        let mut current = None;
        for (index, (number, path)) in segments.iter().enumerate() {
            if *number != segments[0].0 + index as u64 {
                return Err(corrupt(path, 0, format!("log segment {} is missing", segments[0].0 + index as u64)));
            }
            let is_last = index + 1 == segments.len();
            let end = self.segment(&*context.disk, *number, path, before, is_last)?;
            before = Some((path, end.unwrap_or(0)));
            current = Some((*number, end));
        }
        let (number, end) = current.ok_or(StoreError::Closed)?;
        self.check_reaches_snapshots(&segments[segments.len() - 1].1, end.unwrap_or(0))?;
        context.store = self.store.unwrap_or(context.store);
        Ok(LogEnd {
            current: self.open_last(context, number, end)?,
            full: std::mem::take(&mut self.full),
            free,
            sequence: self.expected.map_or(self.base, |next| next - 1),
            since_snapshot: self.since_snapshot,
        })
    }

    /// Replays one segment; returns where its frames end, or `None` if it has no header.
    fn segment(
        &mut self,
        disk: &dyn Disk,
        number: u64,
        path: &Path,
        before: Option<(&Path, u64)>,
        is_last: bool,
    ) -> Result<Option<u64>, StoreError> {
        let bytes = read_all(disk, path).map_err(failed("read the log segment", path))?;
        if is_last && is_cut_short(&bytes) {
            return Ok(None);
        }
        let header = FileHeader::decode(&bytes, LOG_MAGIC, path)?;
        self.check_header(&header, number, path)?;
        let salt = header.salt();
        let (mut offset, mut last) = (DATA_START, None);
        while let Some(frame) = frame::at(&bytes, offset, salt) {
            self.check_sequence(&frame, path, offset, before.filter(|_| offset == DATA_START))?;
            self.frame(&frame, path, offset)?;
            let length = frame::framed(frame.payload.len()) as u64;
            if self.expected.is_some_and(|next| next > self.newest_snapshot + 1) {
                self.since_snapshot += length;
            }
            last = Some(offset as usize..bytes.len().min((offset + length) as usize));
            offset += length;
        }
        if let Some(last) = last {
            self.last_frame = Some((number, last.start as u64, bytes[last].to_vec()));
        }
        if frame::find(&bytes, offset, salt).is_some() {
            return Err(corrupt(path, offset, "a frame does not check out, and frames after it do"));
        }
        if !is_last && offset == DATA_START {
            return Err(corrupt(path, offset, "the segment holds nothing, and is not the last"));
        }
        match is_last {
            true => self.note_torn(&bytes, offset),
            false => self.full.push_back(FullSegment { number, last: self.expected.map_or(0, |next| next - 1) }),
        }
        Ok(Some(offset))
    }

    fn check_header(&mut self, header: &FileHeader, number: u64, path: &Path) -> Result<(), StoreError> {
        if header.numbers[0] != number {
            return Err(corrupt(path, 24, format!("this is segment {}", header.numbers[0])));
        }
        match self.store.replace(header.store) {
            Some(store) if store != header.store => Err(corrupt(path, 16, "the file belongs to another store")),
            _ => Ok(()),
        }
    }

    fn check_sequence(
        &self,
        frame: &Frame<'_>,
        path: &Path,
        offset: u64,
        before: Option<(&Path, u64)>,
    ) -> Result<(), StoreError> {
        match self.expected {
            Some(expected) if frame.sequence != expected => {
                let (path, offset) = before.unwrap_or((path, offset));
                let reason = format!("frame {expected} should be here; the next that there is has {}", frame.sequence);
                Err(corrupt(path, offset, reason))
            }
            _ => Ok(()),
        }
    }

    fn note_torn(&mut self, bytes: &[u8], end: u64) {
        let claim = bytes.get(end as usize..).and_then(frame::claim);
        if let Some((sequence, payload)) = claim
            && sequence == self.expected.unwrap_or(self.base + 1)
        {
            self.torn = (frame::framed(payload) as u64).min(bytes.len() as u64 - end);
            tracing::info!(bytes = self.torn, "cut off a record that was being written when the store last ended");
        }
    }

    /// Invariant: a snapshot is taken of what is durable in the log, so the log reaches at least as far.
    fn check_reaches_snapshots(&self, path: &Path, end: u64) -> Result<(), StoreError> {
        let last = self.expected.map_or(self.base, |next| next - 1);
        if last < self.newest_snapshot.max(self.base) {
            let reason = format!("the log ends at frame {last}, before the newest snapshot");
            return Err(corrupt(path, end, reason));
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, path: &Path, offset: u64) -> Result<(), StoreError> {
        self.expected = Some(frame.sequence + 1);
        if frame.sequence <= self.base {
            return Ok(());
        }
        let mut reader = Reader::new(frame.payload);
        while !reader.is_empty() {
            let damaged = || corrupt(path, offset, "the frame's contents make no sense");
            let effect = reader.effect(&self.state).ok_or_else(damaged)?;
            self.effect(effect).map_err(|broken| corrupt(path, offset, broken))?;
            self.replayed += 1;
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect) -> Result<(), String> {
        if let Some(change) = effect.change {
            check_change(&change)?;
            self.state.apply(&change)?;
            self.leases.follow(&change);
            self.history.push(change);
        }
        match effect.lease {
            Some(LeaseEffect::Begin(id, ttl)) => self.leases.begin(id, ttl, self.now),
            Some(LeaseEffect::End(id)) => self.leases.end(id),
            None => {}
        }
        if let Some(revision) = effect.compact {
            self.history.compact(revision);
        }
        Ok(())
    }

    fn open_last(&self, context: &LogContext, number: u64, end: Option<u64>) -> Result<Segment, StoreError> {
        if let Some((segment, offset, bytes)) = &self.last_frame
            && *segment != number
        {
            drop(Segment::reopen(context, *segment, offset + bytes.len() as u64, Some((*offset, bytes)))?);
        }
        let last_frame = self.last_frame.as_ref().filter(|(segment, ..)| *segment == number);
        match end {
            Some(end) => {
                let last_frame = last_frame.map(|(_, offset, bytes)| (*offset, &**bytes));
                Segment::reopen(context, number, end, last_frame)
            }
            None => Segment::begin(context, number, &numbered_path(&context.folder, LOG, number), 0),
        }
    }
}

/// What a change says about its entries must follow from what was there before.
fn check_change(change: &Change) -> Result<(), String> {
    for event in &change.events {
        let sound = match (&event.entry, &event.previous) {
            (Some(entry), Some(previous)) => entry.modified == change.revision && entry.created == previous.created,
            (Some(entry), None) => entry.modified == change.revision && entry.created == change.revision,
            (None, previous) => previous.is_some(),
        };
        if !sound {
            return Err(format!("what revision {} did to {} contradicts what was there", change.revision, event.key));
        }
    }
    Ok(())
}
