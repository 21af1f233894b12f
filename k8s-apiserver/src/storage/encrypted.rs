//! A store whose values are encrypted in the store below it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_store::{
    Change, ChangeEvent, Committed, Digest, Entry, Key, LeaseId, Listing, Op, Page, Revision, Statistics, Store,
    StoreError, Transaction, WatchItem, WatchStream,
};

use super::{encryption::Encryption, kms::Closed};

/// A store around a store: what [`Encryption`] names is sealed on its way down and opened on its way up.
///
/// A value that cannot be opened costs itself only: [`Store::get`] answers [`StoreError::Unreadable`], and lists and
/// watches yield it as it is stored. Whoever starts on this store finds such values in a list by asking for each one
/// that is still sealed. While a key management service has to be asked and does not answer, the operation fails with
/// [`StoreError::Keyless`], and a watch ends with it: it may be tried again.
///
/// [`Statistics::bytes`] counts what is stored, [`Store::digest`] is of what is plain.
pub struct Encrypted {
    below: Arc<dyn Store>,
    encryption: Encryption,
}

impl Encrypted {
    /// Encrypts in the store `below`.
    pub fn new(below: Arc<dyn Store>, encryption: Encryption) -> Self {
        Self { below, encryption }
    }

    /// What is encrypted, and how.
    pub(crate) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Whether the value under a key would be stored in another form if it were written now: it is plain where it
    /// should not be, or sealed with a key that no longer writes.
    pub async fn is_stale(&self, key: &Key) -> Result<bool, StoreError> {
        let entry = self.below.get(key).await?;
        Ok(entry.is_some_and(|entry| self.encryption.is_stale(key, &entry.value)))
    }
}

impl Encryption {
    fn seal_op(&self, op: &mut Op) -> Result<(), StoreError> {
        let Op::Put { key, value, .. } = op else { return Ok(()) };
        let sealed = self.seal(key, value).map_err(|why| StoreError::Keyless { reason: why.to_string() })?;
        if let Some(sealed) = sealed {
            *value = sealed;
        }
        Ok(())
    }

    async fn open_entry(&self, entry: &mut Entry) -> Result<(), StoreError> {
        match self.open_asking(&entry.key, &entry.value).await {
            Ok(Some(plain)) => entry.value = plain,
            Ok(None) => {}
            Err(Closed::Away(reason)) => return Err(StoreError::Keyless { reason }),
            Err(why) => return Err(StoreError::Unreadable { key: entry.key.clone(), reason: why.to_string() }),
        }
        Ok(())
    }

    /// Opens an entry, or leaves it as it is stored. An error only says that it cannot be told now.
    async fn open_if_possible(&self, entry: &mut Entry) -> Result<(), StoreError> {
        match self.open_entry(entry).await {
            Err(StoreError::Unreadable { .. }) => Ok(()),
            other => other,
        }
    }

    /// The change itself, unless something in it is sealed.
    async fn open_change(&self, change: Arc<Change>) -> Result<Arc<Change>, StoreError> {
        if !change.events.iter().any(|event| sealed(&event.entry) || sealed(&event.previous)) {
            return Ok(change);
        }
        let mut events: Vec<ChangeEvent> = change.events.to_vec();
        for event in &mut events {
            for entry in [&mut event.entry, &mut event.previous].into_iter().flatten() {
                self.open_if_possible(entry).await?;
            }
        }
        Ok(Arc::new(Change { revision: change.revision, events: events.into_iter().collect() }))
    }

    /// The same of a commit, which has happened: what cannot be opened stays as it is stored.
    async fn open_committed(&self, change: Arc<Change>) -> Arc<Change> {
        match self.open_change(change.clone()).await {
            Ok(opened) => opened,
            Err(_) => change,
        }
    }

    async fn open_error(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Conflict { key, found: Some(mut found) } => {
                // What cannot be opened stays as it is stored: the conflict counts, not the value.
                drop(self.open_if_possible(&mut found).await);
                StoreError::Conflict { key, found: Some(found) }
            }
            other => other,
        }
    }
}

fn sealed(entry: &Option<Entry>) -> bool {
    entry.as_ref().is_some_and(|entry| super::envelope::is_sealed(&entry.value))
}

#[async_trait]
impl Store for Encrypted {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.below.head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut entry = self.below.get(key).await?;
        if let Some(entry) = &mut entry {
            self.encryption.open_entry(entry).await?;
        }
        Ok(entry)
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        let mut listing = self.below.list(prefix, page).await?;
        for entry in &mut listing.entries {
            self.encryption.open_if_possible(entry).await?;
        }
        Ok(listing)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let encryption = self.encryption.clone();
        let changes = self.below.watch(prefix, from).await?;
        Ok(Box::pin(changes.then(move |item| {
            let encryption = encryption.clone();
            async move {
                match item {
                    Ok(WatchItem::Change(change)) => encryption.open_change(change).await.map(WatchItem::Change),
                    other => other,
                }
            }
        })))
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<Committed, StoreError> {
        transaction.ops.iter_mut().try_for_each(|op| self.encryption.seal_op(op))?;
        let Committed { revision, change } = match self.below.commit(transaction).await {
            Ok(committed) => committed,
            Err(error) => return Err(self.encryption.open_error(error).await),
        };
        let change = match change {
            Some(change) => Some(self.encryption.open_committed(change).await),
            None => None,
        };
        Ok(Committed { revision, change })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.below.compact(revision).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.below.progress().await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.below.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.below.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.below.revoke(lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.below.statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        let listing = self.list("", Page::all()).await?;
        Ok(Digest::of(&listing.entries))
    }
}
