//! A store with a bit of everything that files hold: for the fixtures of released formats.

use std::{path::Path, time::Duration};

use k8s_store::{Embedded, EmbeddedOptions, Op, Revision, Store, StoreError, Transaction, contract::Clock};

/// Small, so that there are several segments and two snapshots.
pub fn options() -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes: 8 << 10, snapshot_after_bytes: 6 << 10, ..EmbeddedOptions::default() }
}

/// Writes the sample into an empty folder.
pub async fn write(folder: &Path) -> Result<(), StoreError> {
    let store = Embedded::open(folder, Clock::new().env(), options())?;
    let (kept, ended) = (store.grant(Duration::from_secs(77)).await?, store.grant(Duration::from_secs(5)).await?);
    for round in 0..40_u8 {
        let value = vec![round; 40 + usize::from(round) * 9];
        let lease = if round % 7 == 0 { Some(kept) } else { None };
        let key = format!("/registry/sample/{:02}-ü", round % 11).into();
        let put = Op::Put { key, value: value.into(), lease, attachment: None };
        store.commit(Transaction::new().op(put).put(format!("/round/{round}"), "")).await?;
        if round % 3 == 0 {
            store.commit(Transaction::new().delete(format!("/round/{}", round / 2))).await?;
        }
        if round == 30 {
            store.revoke(ended).await?;
        }
        // A snapshot is written by another thread; wait until none is.
        while folder.join("unfinished-snapshot").exists() {
            std::thread::yield_now();
        }
    }
    store.compact(Revision(33)).await?;
    store.commit(Transaction::new().put("/last", "of all")).await?;
    store.close();
    Ok(())
}
