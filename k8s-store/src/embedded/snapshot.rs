//! Snapshots: everything stored, in one file, so that the log before it is no longer needed.
//!
//! A snapshot is written from a copy-on-write clone of the entries while commits go on. Its file gets its name only
//! when it is complete and durable.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    codec::{self, Reader},
    disk::{Disk, DiskFile, corrupt, failed, numbered_path},
    frame::{self, DATA_START, FRAME_HEADER, FileHeader, Salt},
};
use crate::{
    LeaseId, Revision, StoreError,
    lease::Leases,
    state::{Entries, State},
};

pub(crate) const SNAPSHOT: &str = "snapshot-";
/// A snapshot that is being written. One that is found at start was interrupted by a crash.
pub(crate) const UNFINISHED: &str = "unfinished-snapshot";
const MAGIC: [u8; 8] = *b"k8s-snap";
/// A frame is closed when it holds this many bytes.
const FRAME_BYTES: usize = 256 << 10;
/// The file is flushed each time that this much was written, so that the log's flushes never wait for all of it.
const FLUSH_BYTES: u64 = 4 << 20;

const LEASES: u8 = 1;
const ENTRIES: u8 = 2;
const END: u8 = 3;

/// Everything that a snapshot holds. Taking one costs nothing.
pub(crate) struct Snapshot {
    pub(crate) store: u64,
    /// The number of the last log frame whose effects are in it.
    pub(crate) sequence: u64,
    pub(crate) revision: Revision,
    pub(crate) entries: Entries,
    pub(crate) leases: Vec<(LeaseId, Duration)>,
    /// The number of the last lease granted.
    pub(crate) last_lease: u64,
}

/// What a snapshot file gave back.
pub(crate) struct Loaded {
    pub(crate) store: u64,
    pub(crate) sequence: u64,
    pub(crate) state: State,
    pub(crate) leases: Leases,
}

impl Snapshot {
    /// Writes the snapshot into `folder` and returns its path, or `None` if `stop` was set meanwhile.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<PathBuf>, StoreError> {
        let unfinished = folder.join(UNFINISHED);
        let complete = self.write_frames(disk, &unfinished, stop).map_err(failed("write the snapshot", &unfinished))?;
        if !complete {
            return Ok(None);
        }
        let path = numbered_path(folder, SNAPSHOT, self.sequence);
        disk.rename(&unfinished, &path).map_err(failed("name the snapshot", &path))?;
        disk.sync_folder(folder).map_err(failed("sync the folder", folder))?;
        Ok(Some(path))
    }

    pub(crate) fn write_frames(&self, disk: &dyn Disk, path: &Path, stop: &AtomicBool) -> io::Result<bool> {
        let count = self.entries.len() as u64;
        let header = FileHeader { magic: MAGIC, store: self.store, numbers: [self.sequence, self.revision.0, count] };
        let mut out = Output::create(disk, path, &header)?;
        out.begin(LEASES);
        codec::put_u64(&mut out.buffer, self.last_lease);
        for (id, ttl) in &self.leases {
            codec::encode_lease(&mut out.buffer, *id, *ttl);
        }
        out.end()?;
        out.begin(ENTRIES);
        for entry in self.entries.values() {
            codec::encode_entry(&mut out.buffer, entry);
            if out.buffer.len() >= FRAME_BYTES {
                if stop.load(Relaxed) {
                    return Ok(false);
                }
                out.end()?;
                out.begin(ENTRIES);
            }
        }
        out.end()?;
        out.begin(END);
        out.end()?;
        out.file.flush()?;
        Ok(true)
    }
}

/// A snapshot file that is being written.
struct Output {
    file: Box<dyn DiskFile>,
    salt: Salt,
    offset: u64,
    flushed: u64,
    sequence: u64,
    buffer: Vec<u8>,
}

impl Output {
    fn create(disk: &dyn Disk, path: &Path, header: &FileHeader) -> io::Result<Self> {
        let file = disk.open(path)?;
        file.set_length(0)?;
        let mut block = vec![0; DATA_START as usize];
        let bytes = header.encode();
        block[..bytes.len()].copy_from_slice(&bytes);
        file.write(&block, 0)?;
        Ok(Self { file, salt: header.salt(), offset: DATA_START, flushed: 0, sequence: 0, buffer: Vec::new() })
    }

    fn begin(&mut self, kind: u8) {
        self.buffer.clear();
        frame::begin(&mut self.buffer);
        self.buffer.push(kind);
    }

    fn end(&mut self) -> io::Result<()> {
        self.sequence += 1;
        frame::seal(&mut self.buffer, 0, self.salt, self.offset, self.sequence);
        self.file.write(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        if self.offset - self.flushed >= FLUSH_BYTES {
            self.file.flush()?;
            self.flushed = self.offset;
        }
        Ok(())
    }
}

/// Reads a snapshot. `now` is the monotonic time at which its leases begin anew.
pub(crate) fn load(disk: &dyn Disk, path: &Path, now: Duration) -> Result<Loaded, StoreError> {
    let mut input = Input::open(disk, path)?;
    let [sequence, revision, count] = input.header.numbers;
    let mut loaded = Loaded { store: input.header.store, sequence, state: State::default(), leases: Leases::default() };
    loaded.state.head = Revision(revision);
    while let Some(at) = input.next_frame()? {
        let mut reader = Reader::new(&input.payload);
        let damaged = || corrupt(path, at, "the frame's contents make no sense");
        match reader.u8().ok_or_else(damaged)? {
            LEASES => load_leases(&mut loaded.leases, &mut reader, now).ok_or_else(damaged)?,
            ENTRIES => load_entries(&mut loaded, &mut reader).ok_or_else(damaged)?,
            END if loaded.state.entries.len() as u64 == count => return Ok(loaded),
            _ => return Err(damaged()),
        }
    }
    Err(corrupt(path, input.offset, "the snapshot ends too early"))
}

fn load_leases(leases: &mut Leases, reader: &mut Reader<'_>, now: Duration) -> Option<()> {
    leases.skip_to(reader.u64()?);
    while !reader.is_empty() {
        let (id, ttl) = reader.lease()?;
        leases.begin(id, ttl, now);
    }
    Some(())
}

fn load_entries(loaded: &mut Loaded, reader: &mut Reader<'_>) -> Option<()> {
    while !reader.is_empty() {
        let entry = reader.entry().filter(|entry| entry.modified <= loaded.state.head)?;
        loaded.leases.attach(entry.lease, &entry.key);
        loaded.state.insert(Arc::new(entry));
    }
    Some(())
}

/// A snapshot file that is being read, a frame at a time.
struct Input<'a> {
    path: &'a Path,
    file: Box<dyn Read>,
    length: u64,
    header: FileHeader,
    offset: u64,
    sequence: u64,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Input<'a> {
    fn open(disk: &dyn Disk, path: &'a Path) -> Result<Self, StoreError> {
        let (length, mut file) = disk.read(path).map_err(failed("open the snapshot", path))?;
        let mut block = Vec::new();
        file.by_ref().take(DATA_START).read_to_end(&mut block).map_err(failed("read the snapshot", path))?;
        let header = FileHeader::decode(&block, MAGIC, path)?;
        Ok(Self { path, file, length, header, offset: DATA_START, sequence: 0, frame: vec![], payload: vec![] })
    }

    /// Reads the next frame into `payload` and returns where it is; `None` at the end of the file.
    fn next_frame(&mut self) -> Result<Option<u64>, StoreError> {
        if self.offset >= self.length {
            return Ok(None);
        }
        let at = self.offset;
        self.read_frame().map_err(failed("read the snapshot", self.path))?;
        match frame::check(&self.frame, at, self.header.salt()) {
            Some(frame) if frame.sequence == self.sequence + 1 => {
                self.payload.clear();
                self.payload.extend_from_slice(frame.payload);
                self.sequence += 1;
                self.offset += self.frame.len() as u64;
                Ok(Some(at))
            }
            _ => Err(corrupt(self.path, at, "the frame's checksum does not match")),
        }
    }

    fn read_frame(&mut self) -> io::Result<()> {
        let rest = self.length - self.offset;
        self.frame.clear();
        self.file.by_ref().take(FRAME_HEADER as u64).read_to_end(&mut self.frame)?;
        let whole = frame::claim(&self.frame).map_or(0, |(_, payload)| frame::framed(payload) as u64);
        let more = whole.min(rest).saturating_sub(FRAME_HEADER as u64);
        self.file.by_ref().take(more).read_to_end(&mut self.frame)?;
        Ok(())
    }
}
