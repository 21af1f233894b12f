//! A disk in memory that loses power, fails, and fills up: the worst that a disk may do by what it promises.
//!
//! - What was written and not flushed is lost or kept by sectors of 512 bytes, each at any of the versions that it had
//!   since the last flush.
//! - Names that were given or taken and not made durable are lost or kept each for itself, in any order.
//! - A failed flush makes any part durable and forgets the rest, while reads go on to show all of it.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile};
use crate::{StoreError, check::Random};

const SECTOR: usize = 512;

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// The device does not answer.
    Device,
    /// There is no space.
    Full,
    /// Half of a write, and then no space.
    Short,
    /// A flush says that it has succeeded, and did nothing. No disk may do that; a test of the tests.
    Lie,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Simulated {
    files: Arc<Mutex<Files>>,
}

type Hook = Box<dyn FnMut(&Files) + Send>;

/// What is on the disk, and what would be there after a loss of power.
#[derive(Default)]
pub(crate) struct Files {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    namings: Vec<Naming>,
    last: u64,
    /// Operations that change something, so far.
    operations: u64,
    /// The operation from which on, and the one until which, it goes wrong.
    fault: Option<(std::ops::Range<u64>, DiskFault)>,
    /// How many of the operations went wrong.
    failed: u64,
    off: bool,
    /// There is no space for files to grow.
    full: bool,
    hook: Option<Hook>,
}

#[derive(Clone, Default)]
struct Node {
    /// What reads show.
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last flush.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum Naming {
    Given(PathBuf, u64),
    Renamed(PathBuf, PathBuf, u64),
    Taken(PathBuf, u64),
}

impl Simulated {
    /// Calls `hook` before each operation that changes something.
    pub(crate) fn before_each(&self, hook: impl FnMut(&Files) + Send + 'static) {
        self.files.lock().hook = Some(Box::new(hook));
    }

    /// Lets the operations in a range go wrong, counted from now on.
    pub(crate) fn fail(&self, range: std::ops::Range<u64>, fault: DiskFault) {
        let mut files = self.files.lock();
        let now = files.operations;
        files.fault = Some((now + range.start..now.saturating_add(range.end), fault));
    }

    /// Lets nothing go wrong any more.
    pub(crate) fn repair(&self) {
        self.files.lock().fault = None;
    }

    /// Takes all space away, or gives it back.
    pub(crate) fn fill(&self, full: bool) {
        self.files.lock().full = full;
    }

    /// How many operations have changed something, and how many have failed.
    pub(crate) fn count(&self) -> (u64, u64) {
        let files = self.files.lock();
        (files.operations, files.failed)
    }

    /// Turns the power off: nothing works any more. Returns the disk as it may be when power is back.
    pub(crate) fn cut(&self, random: &mut Random) -> Self {
        let mut files = self.files.lock();
        files.off = true;
        files.after_cut(random)
    }

    /// A disk of its own with the same files.
    pub(crate) fn copy(&self) -> Self {
        let files = self.files.lock();
        let (names, durable, namings) = (files.names.clone(), files.durable.clone(), files.namings.clone());
        let copy = Files { nodes: files.nodes.clone(), names, durable, namings, last: files.last, ..Files::default() };
        Self { files: Arc::new(Mutex::new(copy)) }
    }

    /// The files that hold something, and how long they are.
    pub(crate) fn lengths(&self) -> Vec<(PathBuf, usize)> {
        let files = self.files.lock();
        files.names.iter().map(|(path, node)| (path.clone(), files.nodes[node].current.len())).collect()
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&self, path: &Path, offset: usize, bit: u32) {
        let mut files = self.files.lock();
        if let Some(node) = files.names.get(path).copied()
            && let Some(byte) = files.nodes.get_mut(&node).and_then(|node| node.current.get_mut(offset))
        {
            *byte ^= 1 << bit;
        }
    }
}

impl Files {
    /// The disk as it may be after a loss of power at this moment.
    pub(crate) fn after_cut(&self, random: &mut Random) -> Simulated {
        let mut cut = Files { last: self.last, ..Files::default() };
        cut.names = self.durable.clone();
        let namings = Chance::draw(random);
        for naming in &self.namings {
            if namings.keeps(random) {
                naming.apply(&mut cut.names);
            }
        }
        let sectors = Chance::draw(random);
        for node in cut.names.values() {
            if let Some(before) = self.nodes.get(node) {
                let content = before.after_cut(sectors, random);
                cut.nodes.insert(*node, Node { current: content.clone(), durable: content, pending: Vec::new() });
            }
        }
        cut.durable = cut.names.clone();
        Simulated { files: Arc::new(Mutex::new(cut)) }
    }

    fn step(&mut self) -> io::Result<Option<DiskFault>> {
        if let Some(mut hook) = self.hook.take() {
            hook(self);
            self.hook = Some(hook);
        }
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        let number = self.operations;
        self.operations += 1;
        match &self.fault {
            Some((range, fault)) if range.contains(&number) => {
                self.failed += 1;
                Ok(Some(*fault))
            }
            _ => Ok(None),
        }
    }

    /// Whether an operation that either happens or not goes wrong.
    fn check(&mut self) -> io::Result<()> {
        match self.step()? {
            Some(DiskFault::Device) => Err(io::Error::other("the device does not answer")),
            Some(DiskFault::Full | DiskFault::Short) => Err(full()),
            Some(DiskFault::Lie) | None => Ok(()),
        }
    }

    fn node(&mut self, node: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&node).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn named(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn flush(&mut self, number: u64) -> io::Result<()> {
        let fault = self.step()?;
        let node = self.node(number)?;
        match fault {
            None => {
                node.durable.clone_from(&node.current);
                node.pending.clear();
                Ok(())
            }
            Some(DiskFault::Lie) => Ok(()),
            Some(_) => {
                // What a flush fails to write the system takes for written all the same.
                let mut random = Random::new(number);
                node.durable = node.after_cut(Chance::Some, &mut random);
                node.pending.clear();
                Err(io::Error::other("the flush failed"))
            }
        }
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}

/// How much of what is not durable survives.
#[derive(Clone, Copy)]
enum Chance {
    Nothing,
    Everything,
    Some,
}

impl Chance {
    fn draw(random: &mut Random) -> Self {
        *random.pick(&[Self::Nothing, Self::Everything, Self::Some, Self::Some])
    }

    fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => random.one_in(2),
        }
    }
}

impl Node {
    fn after_cut(&self, chance: Chance, random: &mut Random) -> Vec<u8> {
        let mut content = self.durable.clone();
        if content.len() != self.current.len() && chance.keeps(random) {
            content.resize(self.current.len(), 0);
        }
        let sectors = |(offset, bytes): &(usize, Vec<u8>)| offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR);
        let touched: BTreeSet<_> = self.pending.iter().flat_map(sectors).collect();
        for sector in touched {
            let writes: Vec<_> = self.pending.iter().filter(|write| sectors(write).contains(&sector)).collect();
            let kept = match chance {
                Chance::Nothing => 0,
                Chance::Everything => writes.len(),
                Chance::Some => random.below(writes.len() as u64 + 1) as usize,
            };
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(content.len());
            writes[..kept].iter().for_each(|(offset, bytes)| overlay(&mut content, range.clone(), *offset, bytes));
        }
        content
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        if self.current.len() < offset + bytes.len() {
            self.current.resize(offset + bytes.len(), 0);
        }
        self.current[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.pending.push((offset, bytes.to_vec()));
    }
}

/// Writes the part of `bytes` that falls into `range`.
fn overlay(content: &mut [u8], range: std::ops::Range<usize>, offset: usize, bytes: &[u8]) {
    let (start, end) = (range.start.max(offset), range.end.min(offset + bytes.len()));
    if start < end {
        content[start..end].copy_from_slice(&bytes[start - offset..end - offset]);
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Given(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Renamed(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::Taken(path, node) => {
                if names.get(path) == Some(node) {
                    names.remove(path);
                }
            }
        }
    }
}

impl Disk for Simulated {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files.lock();
        let node = match files.named(path) {
            Ok(node) => node,
            Err(_) => {
                files.check()?;
                files.last += 1;
                let node = files.last;
                files.nodes.insert(node, Node::default());
                files.names.insert(path.to_owned(), node);
                files.namings.push(Naming::Given(path.to_owned(), node));
                node
            }
        };
        Ok(Box::new(Handle { disk: self.clone(), node }))
    }

    fn read(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let mut files = self.files.lock();
        let node = files.named(path)?;
        let content = files.node(node)?.current.clone();
        Ok((content.len() as u64, Box::new(io::Cursor::new(content))))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        let inside = files.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        files.check()?;
        let node = files.named(from)?;
        let naming = Naming::Renamed(from.to_owned(), to.to_owned(), node);
        naming.apply(&mut files.names);
        files.namings.push(naming);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let node = files.named(path)?;
        files.check()?;
        let naming = Naming::Taken(path.to_owned(), node);
        naming.apply(&mut files.names);
        files.namings.push(naming);
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        files.check()?;
        files.durable = files.names.clone();
        files.namings.clear();
        let named: BTreeSet<_> = files.names.values().copied().collect();
        files.nodes.retain(|node, _| named.contains(node));
        Ok(())
    }

    fn create_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(()))
    }
}

struct Handle {
    disk: Simulated,
    node: u64,
}

impl DiskFile for Handle {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.files.lock().node(self.node)?.current.len() as u64)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut files = self.disk.files.lock();
        files.check()?;
        let is_full = files.full;
        let node = files.node(self.node)?;
        let length = node.current.len().max(usize::try_from(bytes).unwrap_or(usize::MAX));
        if is_full && length > node.current.len() {
            return Err(full());
        }
        node.current.resize(length, 0);
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let mut files = self.disk.files.lock();
        files.check()?;
        files.node(self.node)?.current.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut files = self.disk.files.lock();
        let fault = files.step()?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if files.full && offset + bytes.len() > files.node(self.node)?.current.len() {
            return Err(full());
        }
        match fault {
            None | Some(DiskFault::Lie) => {
                files.node(self.node)?.write(bytes, offset);
                Ok(())
            }
            Some(DiskFault::Short) => {
                files.node(self.node)?.write(&bytes[..bytes.len() / 2], offset);
                Err(full())
            }
            Some(DiskFault::Full) => Err(full()),
            Some(DiskFault::Device) => Err(io::Error::other("the device does not answer")),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.files.lock().flush(self.node)
    }
}
