//! A store whose values are encrypted in the store below it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_store::{
    Change, ChangeEvent, Committed, Digest, Entry, Key, LeaseId, Listing, Op, Page, Revision, Statistics, Store,
    StoreError, Transaction, WatchItem, WatchStream,
};

use super::encryption::Encryption;

/// A store around a store: what [`Encryption`] names is sealed on its way down and opened on its way up.
///
/// A value that cannot be opened costs itself only: [`Store::get`] answers [`StoreError::Unreadable`], and lists and
/// watches yield it as it is stored. Whoever starts on this store finds such values in a list by asking for each one
/// that is still sealed.
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
        let sealed = self.seal(key, value).map_err(|why| StoreError::Unavailable(why.to_string()))?;
        if let Some(sealed) = sealed {
            *value = sealed;
        }
        Ok(())
    }

    fn open_entry(&self, entry: &mut Entry) -> Result<(), StoreError> {
        match self.open(&entry.key, &entry.value) {
            Ok(Some(plain)) => entry.value = plain,
            Ok(None) => {}
            Err(reason) => return Err(StoreError::Unreadable { key: entry.key.clone(), reason }),
        }
        Ok(())
    }

    /// Opens an entry, or leaves it as it is stored.
    fn open_if_possible(&self, entry: &mut Entry) {
        if let Ok(Some(plain)) = self.open(&entry.key, &entry.value) {
            entry.value = plain;
        }
    }

    /// The change itself, unless something in it is sealed.
    fn open_change(&self, change: Arc<Change>) -> Arc<Change> {
        let sealed =
            |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| super::envelope::is_sealed(&entry.value));
        if !change.events.iter().any(|event| sealed(&event.entry) || sealed(&event.previous)) {
            return change;
        }
        let opened = |event: &ChangeEvent| {
            let mut event = event.clone();
            [&mut event.entry, &mut event.previous]
                .into_iter()
                .flatten()
                .for_each(|entry| self.open_if_possible(entry));
            event
        };
        Arc::new(Change { revision: change.revision, events: change.events.iter().map(opened).collect() })
    }

    fn open_error(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Conflict { key, found: Some(mut found) } => {
                self.open_if_possible(&mut found);
                StoreError::Conflict { key, found: Some(found) }
            }
            other => other,
        }
    }
}

#[async_trait]
impl Store for Encrypted {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.below.head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let mut entry = self.below.get(key).await?;
        if let Some(entry) = &mut entry {
            self.encryption.open_entry(entry)?;
        }
        Ok(entry)
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        let mut listing = self.below.list(prefix, page).await?;
        listing.entries.iter_mut().for_each(|entry| self.encryption.open_if_possible(entry));
        Ok(listing)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let encryption = self.encryption.clone();
        let changes = self.below.watch(prefix, from).await?;
        Ok(Box::pin(changes.map(move |item| match item {
            Ok(WatchItem::Change(change)) => Ok(WatchItem::Change(encryption.open_change(change))),
            other => other,
        })))
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<Committed, StoreError> {
        transaction.ops.iter_mut().try_for_each(|op| self.encryption.seal_op(op))?;
        let committed = self.below.commit(transaction).await.map_err(|error| self.encryption.open_error(error))?;
        let Committed { revision, change } = committed;
        Ok(Committed { revision, change: change.map(|change| self.encryption.open_change(change)) })
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
