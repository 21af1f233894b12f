//! Forgetting: every five minutes, what was before the last time.
//!
//! As upstream: a page of a list can be asked for during five to ten minutes, then its token has expired.

use std::{sync::Arc, time::Duration};

use k8s_store::Revision;

use super::Inner;

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// Runs until it is dropped.
pub async fn run(inner: Arc<Inner>) {
    let mut last = inner.cache.revision();
    loop {
        inner.env.sleep(INTERVAL).await;
        let now = inner.cache.revision();
        inner.cache.compact(last);
        if let Err(error) = inner.store.compact(Revision(last)).await {
            tracing::warn!(%error, revision = last, "the store was not compacted");
        }
        last = now;
    }
}
