//! Comparing the cache with the store: what should never differ is looked at all the same.
//!
//! A comparison is of keys and revisions at one revision, kind by kind: a list of the store, and lookups. It finds a
//! change that the store's watch has left out. The cache is then made anew, whoever watches starts anew, and nobody is
//! told anything that did not happen.

use std::{sync::Arc, time::Duration};

use k8s_core::status::{ApiError, ApiResult};
use k8s_store::{Entry, Page};

use super::{Cache, KindCache, metrics::Checked, state::State};

/// How often by default.
pub const INTERVAL: Duration = Duration::from_secs(600);

/// Compares at intervals until the cache is closed.
pub async fn run(cache: Arc<Cache>, interval: Duration) {
    while !cache.is_closed() {
        cache.env.sleep(interval).await;
        for kind in &cache.kinds() {
            let outcome = match cache.difference(kind).await {
                // It changed its form meanwhile: the next comparison is of the new one.
                _ if kind.is_closed() => continue,
                Ok(None) => Checked::Same,
                Ok(Some(what)) => {
                    tracing::error!(kind = %kind.info.plural, what, "the watch cache differs from the store");
                    cache.doubted.notify_one();
                    Checked::Different
                }
                Err(error) => {
                    tracing::warn!(kind = %kind.info.plural, %error, "the watch cache was not compared with the store");
                    Checked::Failed
                }
            };
            kind.counts.checked(outcome);
            if outcome == Checked::Different {
                break;
            }
        }
    }
}

impl Cache {
    /// What differs between the cache and the store in a kind, if anything does.
    async fn difference(&self, kind: &KindCache) -> ApiResult<Option<String>> {
        let listing = self.store.list(&kind.prefix, Page::all()).await;
        let listing = listing.map_err(|error| ApiError::unavailable(error.to_string()))?;
        let revision = listing.revision.0;
        self.wait_for(revision).await?;
        let state = kind.state_at(revision)?;
        Ok(kind.difference(&state, &listing.entries).map(|what| format!("{what}, at revision {revision}")))
    }
}

impl KindCache {
    fn difference(&self, state: &State, entries: &[Entry]) -> Option<String> {
        let mut same = 0;
        for entry in entries {
            let known = state.get(&self.key(&entry.key[self.prefix.len()..])).map(|object| object.revision());
            match known {
                Some(revision) if revision == entry.modified.0 => same += 1,
                // What cannot be decoded is left out of the cache.
                None if self.decode(entry).is_err() => {}
                _ => {
                    let Entry { key, modified, .. } = entry;
                    return Some(format!("{key} is of revision {modified} in the store and of {known:?} in the cache"));
                }
            }
        }
        let count = state.count("");
        (count != same).then(|| format!("the cache holds {} objects that the store does not", count - same))
    }
}
