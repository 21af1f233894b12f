//! The backend on etcd: one store for several API servers, replicated by etcd's members.
//!
//! etcd's revisions are the store's revisions. This module holds no state of its own but positions: whoever else
//! writes under the prefix is seen, and a second server over the same etcd needs nothing but the same options.

mod compaction;
mod connection;
mod errors;
mod keyspace;
mod lease;
mod oldest;
mod transaction;
mod watch;
mod watchers;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{AlarmAction, AlarmType, GetOptions};
use k8s_core::env::{Env, Task};

use self::{connection::Connection, keyspace::Keyspace, oldest::Oldest, watchers::Watchers};
use crate::{
    Committed, Digest, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, Store, StoreError, Transaction,
    WatchStream,
};

/// How to reach an etcd, and how to use it.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members, as `https://host:port`. Requests go to any that answers.
    pub endpoints: Vec<String>,
    /// Put in front of every key. The API server's keys begin with `/registry/`, so that with the default, which is
    /// empty, `etcdctl get /registry/ --prefix --keys-only` lists them as it does for every other API server.
    pub prefix: String,
    /// For endpoints that speak TLS.
    pub tls: Option<EtcdTls>,
    /// How long one request may take before it counts as failed. A read is then asked of another member, six times in
    /// all; a commit is not repeated after it.
    pub timeout: Duration,
    /// After how long a member that says nothing is asked for a sign of life; after half as long again it is given up.
    pub keep_alive: Duration,
    /// How often history is compacted, and how much of it is kept: between one and two of these. `None` leaves it to
    /// somebody else.
    pub compaction: Option<Duration>,
}

/// Certificates and keys in PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who may have signed the members' certificates.
    pub ca: Vec<u8>,
    /// The client's certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A store that lives in an etcd of version 3.4 or later.
///
/// Retries, timeouts and the compaction run on the environment that was given. What runs on the machine's own time
/// instead: the connections (their keep-alive and reconnection) on the runtime that [`connect`](Self::connect) was
/// called in, and leases, which etcd ends.
pub struct Etcd {
    shared: Arc<Shared>,
    /// Cancelled with the store.
    _compaction: Option<Task>,
}

/// What the store and its watches share.
struct Shared {
    connection: Connection,
    keyspace: Keyspace,
    watchers: Watchers,
    oldest: Oldest,
}

impl EtcdOptions {
    /// The usual options for these members.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: String::new(),
            tls: None,
            timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            compaction: Some(Duration::from_secs(5 * 60)),
        }
    }
}

impl std::fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects, and makes sure that somebody answers. Must be called in a Tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no member answers, [`StoreError::Invalid`] for options that cannot work and for
    /// an etcd that is too old.
    pub async fn connect(options: EtcdOptions, env: Env) -> Result<Self, StoreError> {
        let interval = options.compaction;
        let keyspace = Keyspace::new(&options.prefix);
        let connection = Connection::open(options, env.clone()).await?;
        connection.check_version().await?;
        let shared =
            Arc::new(Shared { connection, keyspace, watchers: Watchers::default(), oldest: Oldest::default() });
        let compaction = interval.map(|interval| {
            env.spawn("etcd-compaction", Box::pin(compaction::run(Arc::downgrade(&shared), env.clone(), interval)))
        });
        Ok(Self { shared, _compaction: compaction })
    }
}

impl Drop for Etcd {
    /// Watches outlive the store; they yield what was acknowledged, and then learn that nothing more will come.
    fn drop(&mut self) {
        self.shared.watchers.close();
    }
}

impl Shared {
    /// The newest revision, by a read that goes through the leader.
    async fn head(&self) -> Result<Revision, StoreError> {
        let options = GetOptions::new().with_count_only();
        let response = self.connection.get(vec![0], options).await?;
        Ok(self.note(response.header().map_or(0, etcd_client::ResponseHeader::revision)))
    }

    /// Remembers a revision that a caller is told of: what a watch must reach before it may end with the store.
    fn note(&self, revision: i64) -> Revision {
        let revision = keyspace::revision(revision);
        self.watchers.note(revision);
        revision
    }

    /// Whether the state at the revision can be read: the one question that etcd answers exactly for lists and watches.
    async fn check_kept(&self, revision: Revision) -> Result<(), StoreError> {
        let options = GetOptions::new().with_count_only().with_revision(keyspace::number(revision.max(Revision(1))));
        match self.connection.get(vec![0], options).await {
            Ok(response) => {
                self.note(response.header().map_or(0, etcd_client::ResponseHeader::revision));
                Ok(())
            }
            Err(error) => Err(self.exact(error, revision).await),
        }
    }

    /// Completes the errors for which etcd does not say which revision would do.
    async fn exact(&self, error: StoreError, asked: Revision) -> StoreError {
        let completed = match error {
            StoreError::Compacted { .. } => {
                self.oldest.find(self, asked.next()).await.map(|oldest| StoreError::Compacted { oldest })
            }
            // The revision may have happened by now. Then the store was just before it in between.
            StoreError::Future { .. } => {
                let before = Revision(asked.0.saturating_sub(1));
                self.head().await.map(|head| StoreError::Future { head: head.min(before) })
            }
            other => return other,
        };
        completed.unwrap_or_else(|unavailable| unavailable)
    }

    async fn list(&self, prefix: &str, page: &Page) -> Result<Listing, StoreError> {
        let (start, end) = self.keyspace.range(prefix, page.after.as_ref());
        let mut options = GetOptions::new().with_range(end);
        match page.limit {
            Some(0) => options = options.with_count_only(),
            Some(limit) => options = options.with_limit(i64::try_from(limit).unwrap_or(i64::MAX)),
            None => {}
        }
        if let Some(at) = page.at {
            options = options.with_revision(keyspace::number(at.max(Revision(1))));
        }
        let read = self.connection.get(start, options).await;
        let mut response = match (read, page.at) {
            (Ok(response), _) => response,
            (Err(error), at) => return Err(self.exact(error, at.unwrap_or_default()).await),
        };
        let head = self.note(response.header().map_or(0, etcd_client::ResponseHeader::revision));
        let count = u64::try_from(response.count()).unwrap_or(0);
        let kvs = response.take_kvs();
        let remaining = count.saturating_sub(kvs.len() as u64);
        let entries = kvs.into_iter().filter_map(|kv| self.keyspace.entry(kv)).collect();
        Ok(Listing { entries, revision: page.at.unwrap_or(head), more: remaining > 0, remaining })
    }

    async fn alarms(&self) -> Result<Option<String>, StoreError> {
        let mut maintenance = self.connection.maintenance();
        let alarms = self.connection.once(maintenance.alarm(AlarmAction::Get, AlarmType::None, None)).await?;
        Ok(alarms.alarms().iter().find_map(|member| match member.alarm() {
            AlarmType::None => None,
            AlarmType::Nospace => Some(errors::NO_SPACE.into()),
            AlarmType::Corrupt => Some(errors::CORRUPT.into()),
        }))
    }
}

#[async_trait]
impl Store for Etcd {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.shared.head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let name = self.shared.keyspace.name(key);
        let mut response = self.shared.connection.get(name, GetOptions::new()).await?;
        self.shared.note(response.header().map_or(0, etcd_client::ResponseHeader::revision));
        Ok(response.take_kvs().into_iter().find_map(|kv| self.shared.keyspace.entry(kv)))
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.shared.list(prefix, &page).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        watch::open(&self.shared, prefix, from).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        transaction::commit(&self.shared, transaction).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        compaction::compact(&self.shared, revision).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        let head = self.shared.head().await?;
        self.shared.watchers.ask_progress(head);
        Ok(head)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        lease::grant(&self.shared.connection, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        lease::keep_alive(&self.shared.connection, lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        lease::revoke(&self.shared.connection, lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let counted = self.shared.list("", &Page { limit: Some(0), ..Page::all() }).await?;
        Ok(Statistics {
            head: counted.revision,
            oldest: self.shared.oldest.find(&self.shared, Revision::ZERO).await?,
            entries: counted.remaining,
            watches: self.shared.watchers.count() as u64,
            leases: lease::count(&self.shared.connection).await?,
            read_only: self.shared.alarms().await?,
            ..Statistics::default()
        })
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        let listing = self.shared.list("", &Page::all()).await?;
        Ok(Digest::of(&listing.entries))
    }
}
