//! Files that are cut, damaged, missing or foreign: a prefix or an error, never something else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{fingerprint, open, put, small};
use crate::{
    Digest, EmbeddedOptions, Op, Revision, Store, StoreError, Transaction,
    embedded::{
        disk::{Native, numbered},
        frame::{self, DATA_START, FileHeader},
        log::{LOG, LOG_MAGIC},
        snapshot::SNAPSHOT,
    },
};

/// A folder with one short log, and the state after each of its frames.
struct Sample {
    folder: tempfile::TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    states: Vec<(Revision, Digest)>,
    /// Where each frame begins, and where the last ends.
    bounds: Vec<u64>,
    /// Where the payload of each frame ends; padding follows.
    ends: Vec<u64>,
}

async fn sample() -> Sample {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    let lease = store.grant(std::time::Duration::from_secs(9)).await.expect("grants");
    let mut states = vec![(Revision::ZERO, fingerprint(&store).await.1)];
    states.push(fingerprint(&store).await);
    let leased = Op::Put { key: "leased".into(), value: "v".into(), lease: Some(lease), attachment: None };
    let transactions = [
        Transaction::new().put("a", "1"),
        Transaction::new().op(leased).put("b", "a longer value"),
        Transaction::new().put("a", "2").delete("b"),
        Transaction::new().put("c", vec![0; 40]),
        Transaction::new().delete("a"),
        Transaction::new().put("last", "v"),
    ];
    for transaction in transactions {
        store.commit(transaction).await.expect("commits");
        states.push(fingerprint(&store).await);
    }
    drop(store);
    let log = numbered(&Native, folder.path(), LOG).expect("the folder can be read").remove(0).1;
    let bytes = fs::read(&log).expect("the log can be read");
    let bounds = frame_bounds(&bytes);
    assert_eq!(bounds.len(), states.len(), "every commit has its frame");
    let claim = |bound: &u64| frame::claim(&bytes[*bound as usize..]).map(|(_, payload)| payload);
    let ends = bounds.iter().filter_map(|bound| Some(bound + (frame::FRAME_HEADER + claim(bound)?) as u64)).collect();
    Sample { folder, log, bytes, states, bounds, ends }
}

fn frame_bounds(bytes: &[u8]) -> Vec<u64> {
    let salt = FileHeader::decode(bytes, LOG_MAGIC, Path::new("")).expect("a whole header").salt();
    let mut bounds = vec![DATA_START];
    while let Some(frame) = frame::at(bytes, bounds[bounds.len() - 1], salt) {
        bounds.push(bounds[bounds.len() - 1] + frame::framed(frame.payload.len()) as u64);
    }
    bounds
}

#[tokio::test]
async fn a_log_cut_anywhere_recovers_what_is_whole() {
    let sample = sample().await;
    let end = sample.bounds[sample.bounds.len() - 1];
    let inside_header = (0..DATA_START).step_by(61).chain(0..70);
    for length in inside_header.chain(DATA_START..=end + 9) {
        fs::write(&sample.log, &sample.bytes[..length as usize]).expect("the log can be written");
        let whole = sample.ends.iter().filter(|end| **end <= length).count();
        let store = open(sample.folder.path(), small()).expect("a cut is what a crash leaves");
        assert_eq!(fingerprint(&store).await, sample.states[whole], "cut at {length}");
        put(&store, "new", "v").await;
        let after = fingerprint(&store).await;
        drop(store);
        let store = open(sample.folder.path(), small()).expect("it opens again");
        assert_eq!(fingerprint(&store).await, after, "what was written after a cut at {length} stays");
    }
}

#[tokio::test]
async fn a_frame_that_was_partly_written_is_cut_off() {
    let sample = sample().await;
    let last = &sample.bounds[sample.bounds.len() - 2..];
    let mut bytes = sample.bytes.clone();
    bytes[last[0] as usize + 40..last[1] as usize].fill(0);
    fs::write(&sample.log, bytes).expect("the log can be written");
    let store = open(sample.folder.path(), small()).expect("a torn frame is what a crash leaves");
    assert_eq!(fingerprint(&store).await, sample.states[sample.states.len() - 2]);
    let disk = store.statistics().await.expect("statistics").disk.expect("it has a disk");
    assert_eq!(disk.torn_bytes, last[1] - last[0]);
}

#[tokio::test]
async fn a_flipped_bit_is_never_read_as_data() {
    let sample = sample().await;
    let (last, end) = (sample.bounds[sample.bounds.len() - 2], sample.bounds[sample.bounds.len() - 1]);
    let complete = sample.states[sample.states.len() - 1];
    let mut refused = 0;
    for offset in (0..64).chain(DATA_START..end) {
        for bit in [offset % 8, (offset + 3) % 8] {
            let mut bytes = sample.bytes.clone();
            bytes[offset as usize] ^= 1 << bit;
            fs::write(&sample.log, &bytes).expect("the log can be written");
            let frame = sample.bounds.iter().copied().rfind(|bound| *bound <= offset);
            match open(sample.folder.path(), small()) {
                Ok(store) if offset >= last => {
                    let found = fingerprint(&store).await;
                    assert!(
                        found == complete || found == sample.states[sample.states.len() - 2],
                        "a flip at {offset} in the last frame made something up"
                    );
                }
                // Padding carries nothing.
                Ok(store) => assert_eq!(fingerprint(&store).await, complete, "a flip at {offset} went unnoticed"),
                Err(StoreError::Corrupt { file, offset: said, .. }) => {
                    assert_eq!(file, sample.log);
                    assert!(offset < 64 || Some(said) == frame, "a flip at {offset} was reported at {said}");
                    refused += 1;
                }
                Err(error) => panic!("a flip at {offset} gave {error}"),
            }
        }
    }
    let flips = 2 * (64 + last - DATA_START);
    assert!(refused * 10 > flips * 7, "only {refused} of {flips} flips before the last frame were refused");
}

/// A folder whose log has several segments.
async fn segmented() -> (tempfile::TempDir, Vec<PathBuf>, (Revision, Digest)) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), small()).expect("it opens");
    for round in 0..12_u8 {
        put(&store, &format!("k/{}", round % 5), vec![round; 1000]).await;
    }
    let complete = fingerprint(&store).await;
    drop(store);
    let segments: Vec<_> = numbered(&Native, folder.path(), LOG)
        .expect("the folder can be read")
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    assert!(segments.len() > 3, "there are only {} segments", segments.len());
    (folder, segments, complete)
}

fn expect_corrupt(folder: &Path, file: &Path, what: &str) {
    match open(folder, small()) {
        Err(StoreError::Corrupt { file: said, .. }) => assert_eq!(said, file, "{what}"),
        other => panic!("{what}: it opened, or failed otherwise: {:?}", other.err()),
    }
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_told_from_a_crash() {
    let (folder, segments, complete) = segmented().await;
    for segment in &segments[..segments.len() - 1] {
        let whole = fs::read(segment).expect("the segment can be read");
        let bounds = frame_bounds(&whole);
        for bound in &bounds[..bounds.len() - 1] {
            let mut bytes = whole.clone();
            bytes[*bound as usize + 100] ^= 1;
            fs::write(segment, bytes).expect("the segment can be written");
            expect_corrupt(folder.path(), segment, "a frame of an earlier segment is damaged");
        }
        for length in [bounds[bounds.len() - 1] - 8, DATA_START, 10, 0] {
            fs::write(segment, &whole[..length as usize]).expect("the segment can be written");
            expect_corrupt(folder.path(), segment, "an earlier segment is cut");
        }
        fs::write(segment, whole).expect("the segment can be written");
    }
    let store = open(folder.path(), small()).expect("it is whole again");
    assert_eq!(fingerprint(&store).await, complete);
}

#[tokio::test]
async fn missing_and_foreign_segments_are_refused() {
    let (folder, segments, complete) = segmented().await;
    let away = folder.path().join("away");
    for (index, segment) in segments.iter().enumerate().take(segments.len() - 1) {
        fs::rename(segment, &away).expect("it can be moved");
        let reported = if index == 0 { &segments[1] } else { &segments[index + 1] };
        expect_corrupt(folder.path(), reported, "a segment is missing");
        fs::rename(&away, segment).expect("it can be moved");
    }
    let other = tempfile::tempdir().expect("a folder");
    let clock = crate::contract::Clock::new();
    // Another random number, another store.
    let _ = k8s_core::env::Environment::random(&clock);
    let foreign = crate::Embedded::open(other.path(), clock.env(), small()).expect("it opens");
    for round in 0..12_u8 {
        put(&foreign, &format!("k/{}", round % 5), vec![round; 1000]).await;
    }
    drop(foreign);
    let last = &segments[segments.len() - 1];
    let name = last.file_name().expect("it has a name");
    let own = fs::read(last).expect("the segment can be read");
    fs::copy(other.path().join(name), last).expect("it can be copied");
    expect_corrupt(folder.path(), last, "a segment belongs to another store");
    fs::write(last, own).expect("the segment can be written");
    let store = open(folder.path(), small()).expect("it is whole again");
    assert_eq!(fingerprint(&store).await, complete);
}

#[tokio::test]
async fn a_damaged_snapshot_is_replaced_by_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { snapshot_after_bytes: 16 << 10, ..small() };
    let store = open(folder.path(), options.clone()).expect("it opens");
    let mut round = 0_u32;
    while store.statistics().await.expect("statistics").disk.expect("it has a disk").segments_recycled < 3 {
        put(&store, &format!("k/{}", round % 9), round.to_le_bytes().repeat(200)).await;
        round += 1;
    }
    let complete = fingerprint(&store).await;
    drop(store);
    let snapshots = numbered(&Native, folder.path(), SNAPSHOT).expect("the folder can be read");
    let [(_, older), (_, newer)] = &snapshots[..] else { panic!("two snapshots are kept, not {snapshots:?}") };
    let whole = fs::read(older).expect("the snapshot can be read");
    for offset in (0..64).chain((DATA_START as usize..whole.len()).step_by(101)) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x10;
        fs::write(older, bytes).expect("the snapshot can be written");
        let store = open(folder.path(), options.clone()).expect("the newer snapshot stands in");
        assert_eq!(fingerprint(&store).await, complete, "a flip at {offset} made something up");
    }
    for length in (0..whole.len()).step_by(997) {
        fs::write(older, &whole[..length]).expect("the snapshot can be written");
        let store = open(folder.path(), options.clone()).expect("the newer snapshot stands in");
        assert_eq!(fingerprint(&store).await, complete, "a cut at {length} made something up");
    }
    let mut bytes = fs::read(newer).expect("the snapshot can be read");
    bytes[DATA_START as usize + 60] ^= 1;
    fs::write(newer, bytes).expect("the snapshot can be written");
    match open(folder.path(), options) {
        Err(StoreError::Corrupt { file, .. }) => assert_eq!(&file, older),
        other => panic!("both snapshots are damaged: {:?}", other.err()),
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let sample = sample().await;
    let mut bytes = sample.bytes.clone();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&sample.log, bytes).expect("the log can be written");
    let error = open(sample.folder.path(), small()).err().expect("it cannot be read");
    assert!(error.to_string().contains("version 2"), "{error}");
}
