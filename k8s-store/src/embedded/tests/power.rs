//! Power losses: of a frame that was being flushed, any sectors may have reached the disk.
//!
//! Before each flush the folder is copied, and in the copies sectors of the frame in question are lost. Each copy must
//! open, and hold what was acknowledged before; the frame itself may be there if nothing of it was lost.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{fingerprint, open, open_flushing, small};
use crate::{
    Store, Transaction,
    contract::Clock,
    embedded::{
        disk::{DiskFile, Native, numbered},
        frame::{self, DATA_START, FileHeader},
        log::{LOG, LOG_MAGIC},
    },
};

const SECTOR: usize = 512;
const VARIANTS: u64 = 6;

/// A folder as the disk might have it after a loss of power.
struct Crash {
    folder: tempfile::TempDir,
    /// Whether anything of the frame that was being flushed is lost.
    torn: bool,
}

#[tokio::test]
async fn a_loss_of_power_takes_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let crashes: Arc<Mutex<Vec<Crash>>> = Arc::default();
    let chance = Clock::new().env();
    let (source, copies) = (folder.path().to_owned(), crashes.clone());
    let flush = Arc::new(move |file: &dyn DiskFile| {
        copies.lock().extend((0..VARIANTS).map(|variant| crash(&source, variant, chance.random())));
        file.flush()
    });
    let store = open_flushing(folder.path(), flush).expect("it opens");
    let mut before = fingerprint(&store).await;
    let mut torn = 0;
    for round in 0..40_u8 {
        let length = usize::from(round) * 97 % 2500;
        let step = Transaction::new().put(format!("k/{}", round % 5), vec![round; length]).put("round", vec![round]);
        store.commit(step).await.expect("commits");
        let after = fingerprint(&store).await;
        let caught = std::mem::take(&mut *crashes.lock());
        for crash in caught {
            let store = open(crash.folder.path(), small()).expect("a loss of power is no damage");
            let found = fingerprint(&store).await;
            assert!(found == if crash.torn { before } else { after }, "round {round} came back as {found:?}");
            torn += u64::from(crash.torn);
        }
        before = after;
    }
    assert!(torn > 40 * (VARIANTS - 2), "only {torn} frames were torn");
    let segments = numbered(&Native, folder.path(), LOG).expect("the folder can be read").len();
    assert!(segments > 5, "the losses met only {segments} segments");
}

/// Copies the folder and loses sectors of the last frame of its log: none, all, or those that `chance` says.
fn crash(source: &Path, variant: u64, chance: u64) -> Crash {
    let folder = tempfile::tempdir().expect("a folder");
    for item in fs::read_dir(source).expect("the folder can be read") {
        let path = item.expect("the folder can be read").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("it has a name"))).expect("it can be copied");
    }
    let (log, mut bytes, last) = last_frame(folder.path());
    let lost = match variant {
        0 => 0,
        1 => u64::MAX,
        _ => chance | 1 << (chance >> 58),
    };
    let mut torn = false;
    for (sector, start) in (0..bytes.len()).step_by(SECTOR).enumerate() {
        let range = start.max(last.start)..(start + SECTOR).min(last.end);
        if !range.is_empty() && lost >> (sector % 64) & 1 == 1 {
            torn |= bytes[range.clone()].iter().any(|byte| *byte != 0);
            bytes[range].fill(0);
        }
    }
    fs::write(&log, bytes).expect("the log can be written");
    Crash { folder, torn }
}

fn last_frame(folder: &Path) -> (PathBuf, Vec<u8>, Range<usize>) {
    let log = numbered(&Native, folder, LOG).expect("the folder can be read").pop().expect("there is a log").1;
    let bytes = fs::read(&log).expect("the log can be read");
    let salt = FileHeader::decode(&bytes, LOG_MAGIC, &log).expect("a whole header").salt();
    let mut last = DATA_START..DATA_START;
    while let Some(frame) = frame::at(&bytes, last.end, salt) {
        last = last.end..last.end + frame::framed(frame.payload.len()) as u64;
    }
    (log, bytes, last.start as usize..last.end as usize)
}
