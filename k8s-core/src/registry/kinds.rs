//! The kinds of this moment: custom ones come and go while a cluster runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Registry;
use crate::signal::Signal;

/// A [`Registry`] that changes. Readers take a snapshot and keep to it; cloning the [`Arc`] around this shares it.
///
/// Entries that did not change stay the same allocation from one snapshot to the next.
pub struct Kinds {
    now: ArcSwap<Registry>,
    changes: Signal<u64>,
}

impl Kinds {
    /// Kinds that begin as these.
    pub fn new(registry: Registry) -> Self {
        Self { now: ArcSwap::from_pointee(registry), changes: Signal::default() }
    }

    /// The kinds now.
    pub fn now(&self) -> Arc<Registry> {
        self.now.load_full()
    }

    /// Replaces them and wakes who waits for that.
    pub fn set(&self, registry: Arc<Registry>) {
        self.now.store(registry);
        self.changes.modify(|count| *count += 1);
    }

    /// Resolves once the kinds are others than these. Cancel-safe.
    pub async fn changed_from(&self, known: &Arc<Registry>) {
        self.changes.wait_for(|_| !Arc::ptr_eq(&self.now.load(), known)).await;
    }
}

impl From<Registry> for Kinds {
    fn from(registry: Registry) -> Self {
        Self::new(registry)
    }
}
