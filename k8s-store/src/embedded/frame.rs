//! Frames: the checksummed units that log segments and snapshots are made of.
//!
//! A file is a header in a block of its own, then frames, each at a multiple of eight bytes. A frame's checksum covers
//! its place and the header of the file that it was written for, so that what an earlier use left in a recycled file
//! is never taken for a frame of this one.
//!
//! All numbers are little-endian.
//!
//! | header | bytes | | frame | bytes |
//! |---|---|---|---|---|
//! | magic | 8 | | magic | 4 |
//! | format version | 4 | | payload length | 4 |
//! | zero | 4 | | checksum | 4 |
//! | store's id | 8 | | zero | 4 |
//! | three numbers | 24 | | sequence | 8 |
//! | zero | 12 | | payload | length |
//! | checksum | 4 | | padding | to 8 |

use std::path::Path;

use super::disk::corrupt;
use crate::StoreError;

/// Where the first frame is. The header has its block to itself, so that it is written only once.
pub(crate) const DATA_START: u64 = 4096;
/// What a frame takes besides its payload and padding.
pub(crate) const FRAME_HEADER: usize = 24;
/// The format that this code reads and writes.
const VERSION: u32 = 1;
const HEADER: usize = 64;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"k8sF");

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) magic: [u8; 8],
    /// The same in every file of one store.
    pub(crate) store: u64,
    /// What the kind of file needs: a segment its number, a snapshot its place in history.
    pub(crate) numbers: [u64; 3],
}

/// Binds frames to the file that they were written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

/// A frame that checks out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.store.to_le_bytes());
        for (slot, number) in bytes[24..48].chunks_exact_mut(8).zip(self.numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `file`, whose path is for the error alone.
    pub(crate) fn decode(file: &[u8], magic: [u8; 8], path: &Path) -> Result<Self, StoreError> {
        let Some(bytes) = file.get(..HEADER) else {
            return Err(corrupt(path, file.len() as u64, "the file ends inside its header"));
        };
        if bytes[..8] != magic {
            return Err(corrupt(path, 0, "the file is not what its name says"));
        }
        if u32_at(bytes, HEADER - 4) != crc32c::crc32c(&bytes[..HEADER - 4]) {
            return Err(corrupt(path, 0, "the header's checksum does not match"));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(corrupt(path, 8, format!("the format is version {version}; this program reads {VERSION}")));
        }
        let numbers = [u64_at(bytes, 24), u64_at(bytes, 32), u64_at(bytes, 40)];
        Ok(Self { magic, store: u64_at(bytes, 16), numbers })
    }

    /// The header's own checksum. (One over the whole header, that checksum included, would be the same for all.)
    pub(crate) fn salt(&self) -> Salt {
        Salt(u32_at(&self.encode(), HEADER - 4))
    }
}

/// Makes room for a frame's header at the end of `buffer`; the payload follows, then [`seal`].
pub(crate) fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.resize(start + FRAME_HEADER, 0);
    start
}

/// Completes the frame that begins at `start` of `buffer` and will be written at `offset` of its file.
pub(crate) fn seal(buffer: &mut Vec<u8>, start: usize, salt: Salt, offset: u64, sequence: u64) {
    // Invariant: a payload is far below 4 GiB; a batch is cut long before.
    let length = (buffer.len() - start - FRAME_HEADER) as u32;
    let checksum = checksum(salt, offset, sequence, &buffer[start + FRAME_HEADER..]);
    let header = &mut buffer[start..start + FRAME_HEADER];
    header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    header[16..24].copy_from_slice(&sequence.to_le_bytes());
    buffer.resize(start + framed(length as usize), 0);
}

/// How many bytes of a file a payload takes, with header and padding.
pub(crate) fn framed(payload: usize) -> usize {
    (FRAME_HEADER + payload).next_multiple_of(8)
}

/// The frame at `offset` of `file`, if there is one.
pub(crate) fn at(file: &[u8], offset: u64, salt: Salt) -> Option<Frame<'_>> {
    check(file.get(usize::try_from(offset).ok()?..)?, offset, salt)
}

/// The frame at the start of `bytes`, which are from `offset` of a file on, if there is one.
pub(crate) fn check(bytes: &[u8], offset: u64, salt: Salt) -> Option<Frame<'_>> {
    let (sequence, length) = claim(bytes)?;
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER.checked_add(length)?)?;
    (u32_at(bytes, 8) == checksum(salt, offset, sequence, payload)).then_some(Frame { sequence, payload })
}

/// What the bytes say they are, before anything is believed: a frame's sequence and payload length.
pub(crate) fn claim(bytes: &[u8]) -> Option<(u64, usize)> {
    let header = bytes.get(..FRAME_HEADER)?;
    (u32_at(header, 0) == FRAME_MAGIC).then(|| (u64_at(header, 16), u32_at(header, 4) as usize))
}

/// The first frame at or after `offset` that checks out.
pub(crate) fn find(file: &[u8], offset: u64, salt: Salt) -> Option<u64> {
    let start = offset.next_multiple_of(8);
    let blocks = file.get(usize::try_from(start).ok()?..)?.chunks_exact(8);
    let claims = blocks.enumerate().filter(|(_, block)| u32_at(block, 0) == FRAME_MAGIC);
    claims.map(|(block, _)| start + 8 * block as u64).find(|offset| at(file, *offset, salt).is_some())
}

fn checksum(salt: Salt, offset: u64, sequence: u64, payload: &[u8]) -> u32 {
    let mut place = [0; 20];
    place[..8].copy_from_slice(&offset.to_le_bytes());
    place[8..16].copy_from_slice(&sequence.to_le_bytes());
    place[16..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(salt.0, &place), payload)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}
