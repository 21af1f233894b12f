//! A log whose records anybody wrote: it opens, or it is damage.

use std::sync::Arc;

use super::{
    executor::block_on,
    script::{folder, open},
};
use crate::{
    Digest, Embedded, Revision, Store, StoreError, Transaction,
    embedded::{
        disk::{Disk, numbered_path},
        frame::{self, DATA_START},
        log::{LOG, segment_header},
        simulated::Simulated,
    },
};

/// The store's id in the files.
const STORE: u64 = 1;

/// Opens a store whose log is one segment with these payloads, each in a frame that checks out. `false` if the store
/// says that they are damage.
///
/// A store that opens must take a write, and must show the same after every time that it is opened again.
///
/// # Errors
///
/// Says what the store did instead.
pub fn reopen(payloads: &[&[u8]]) -> Result<bool, String> {
    let disk = Simulated::default();
    write(&disk, payloads).map_err(|error| format!("the log could not be written: {error}"))?;
    let store = match open(&disk) {
        Ok(store) => store,
        Err(StoreError::Corrupt { .. }) => return Ok(false),
        Err(error) => return Err(format!("opening: {error}")),
    };
    let before = shown(&store)?;
    drop(store);
    let store = again(&disk, before)?;
    match block_on(store.commit(Transaction::new().put("new", "value"))) {
        Ok(_) => {}
        // The log may say that all revisions are taken.
        Err(error) if before.0.0 >= i64::MAX as u64 - 1 => drop(error),
        Err(error) => return Err(format!("a write after opening: {error}")),
    }
    let after = shown(&store)?;
    drop(store);
    again(&disk, after).map(|_| true)
}

fn write(disk: &Simulated, payloads: &[&[u8]]) -> std::io::Result<()> {
    let header = segment_header(STORE, 1);
    let mut bytes = header.encode().to_vec();
    bytes.resize(DATA_START as usize, 0);
    for (sequence, payload) in (1..).zip(payloads) {
        let start = frame::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        frame::seal(&mut bytes, start, header.salt(), start as u64, sequence);
    }
    disk.create_folder(folder())?;
    let file = disk.open(&numbered_path(folder(), LOG, 1))?;
    file.write(&bytes, 0)?;
    file.flush()?;
    disk.sync_folder(folder())
}

fn shown(store: &Embedded) -> Result<(Revision, Digest), String> {
    let head = block_on(store.head()).map_err(|error| format!("the head: {error}"))?;
    let digest = block_on(store.digest()).map_err(|error| format!("the digest: {error}"))?;
    Ok((head, digest))
}

fn again(disk: &Simulated, before: (Revision, Digest)) -> Result<Arc<Embedded>, String> {
    let store = open(disk).map_err(|error| format!("opening again: {error}"))?;
    match shown(&store)? {
        after if after == before => Ok(store),
        after => Err(format!("it showed {before:?}, and {after:?} when it was opened again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_one_put_is_a_store_and_a_cut_one_is_damage() {
        let mut put = vec![1];
        put.extend(1u64.to_le_bytes());
        put.extend(1u32.to_le_bytes());
        put.push(1);
        put.extend([1, 0, 0, 0, b'a']);
        put.extend([1u64, 1, 0].iter().flat_map(|number| number.to_le_bytes()));
        put.extend([1, 0, 0, 0, b'v']);
        assert_eq!(reopen(&[&put]), Ok(true));
        assert_eq!(reopen(&[&put[..put.len() - 1]]), Ok(false));
        assert_eq!(reopen(&[&put, &put]), Ok(false), "a revision is written once");
        assert_eq!(reopen(&[]), Ok(true));
    }
}
