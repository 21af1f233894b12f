//! What only this folder can arrange: disks that fail, and files that are cut or damaged.

mod damage;
mod disk;
mod power;

use std::{path::Path, sync::Arc};

use super::{Embedded, EmbeddedOptions, Surroundings, disk::DiskFile};
use crate::{Digest, Revision, Store, StoreError, Transaction, contract::Clock};

/// Segments and snapshots as small as they get.
fn small() -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes: 8 << 10, snapshot_after_bytes: 1 << 20, ..EmbeddedOptions::default() }
}

fn open(folder: &Path, options: EmbeddedOptions) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open(folder, Clock::new().env(), options)
}

fn open_flushing(
    folder: &Path,
    flush: Arc<impl Fn(&dyn DiskFile) -> std::io::Result<()> + Send + Sync + 'static>,
) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open_on(&Surroundings { flush, ..Surroundings::native() }, folder, Clock::new().env(), &small())
}

async fn put(store: &Embedded, key: &str, value: impl Into<bytes::Bytes>) -> Revision {
    store.commit(Transaction::new().put(key, value)).await.expect("a plain put succeeds").revision
}

/// What identifies a state of a store.
async fn fingerprint(store: &Embedded) -> (Revision, Digest) {
    (store.head().await.expect("a head"), store.digest().await.expect("a digest"))
}
