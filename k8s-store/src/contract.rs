//! The promises of [`Store`], as tests that any backend can run.
//!
//! [`contract!`](crate::contract!) turns each public function of this module into a `#[tokio::test]` of yours. Each
//! takes a function that makes an empty store on the environment it is given, and panics if a promise is broken.
//!
//! ```
//! use std::sync::Arc;
//! use k8s_store::{Memory, contract::Subject};
//!
//! # #[allow(dead_code)]
//! async fn make(env: k8s_core::env::Env) -> Subject {
//!     Subject::new(Arc::new(Memory::new(env)))
//! }
//!
//! k8s_store::contract!(make);
//! ```

mod clock;
mod compaction;
mod leases;
mod reads;
mod watches;
mod writes;

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_core::env::{BoxFuture, Env};

pub use self::{clock::Clock, compaction::*, leases::*, reads::*, watches::*, writes::*};
use crate::{
    Change, Entry, Guard, Key, Revision, Store, StoreError, Transaction, WatchItem, WatchStream, rebased::Rebased,
};

/// A store under test.
pub struct Subject {
    /// The store, empty.
    pub store: Arc<dyn Store>,
    /// Whether the store hands attachments back, as backends do whose change feed is the commit itself.
    pub hands_back_attachments: bool,
    /// Whose time leases run on.
    pub lease_time: LeaseTime,
    /// Dropped after the store: its folder, its server.
    pub surroundings: Box<dyn Any + Send + Sync>,
}

/// Whose time a store's leases run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseTime {
    /// The environment's; the tests advance it.
    Environment,
    /// Another machine's; the tests wait, and grant leases of a few seconds.
    Real,
}

impl LeaseTime {
    /// How long the tests' leases live.
    fn ttl(self) -> Duration {
        match self {
            Self::Environment => Duration::from_secs(10),
            Self::Real => Duration::from_secs(2),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the time of a server that no environment controls")]
    async fn pass(self, clock: &Clock, duration: Duration) {
        match self {
            Self::Environment => clock.advance(duration),
            Self::Real => tokio::time::sleep(duration).await,
        }
    }
}

impl Subject {
    /// A store that needs nothing else and hands attachments back.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, hands_back_attachments: true, lease_time: LeaseTime::Environment, surroundings: Box::new(()) }
    }

    /// Counts from `base`, the head of the empty store: for a backend whose counter does not begin at zero.
    ///
    /// Nobody but the test may write, or revisions are not dense.
    pub fn counting_from(mut self, base: Revision) -> Self {
        self.store = Arc::new(Rebased { inner: self.store, base: base.0 });
        self
    }

    /// Keeps `surroundings` for as long as the store is tested.
    pub fn within(mut self, surroundings: impl Any + Send + Sync) -> Self {
        self.surroundings = Box::new(surroundings);
        self
    }
}

/// Tests a backend against every promise of [`Store`].
///
/// `$make` is an `async fn(k8s_core::env::Env) -> k8s_store::contract::Subject` that makes an empty store. The tests
/// need `tokio` with its `macros`, `rt-multi-thread` and `time` features among your dependencies; each has a minute.
#[macro_export]
macro_rules! contract {
    ($make:path) => {
        $crate::contract! { @each $make;
            the_empty_store_is_at_revision_zero
            every_change_takes_the_next_revision
            guards_hold_or_nothing_happens
            guards_see_the_store_before_the_transaction
            guarded_writers_lose_no_update
            acknowledged_writes_are_read_at_once
            invalid_transactions_change_nothing
            values_and_keys_come_back_unharmed
            attachments_are_handed_back
            equal_histories_have_equal_digests
            a_prefix_shows_nothing_else
            commits_are_seen_whole
            pages_are_of_one_snapshot
            older_states_can_be_listed
            revisions_to_come_are_refused
            the_first_change_is_watched
            deletes_are_watched_with_what_was_there
            watches_yield_every_change_once_in_order
            watches_resume_after_any_revision
            a_list_and_a_watch_miss_nothing
            a_slow_reader_loses_nothing
            progress_never_overtakes_a_change
            a_quiet_watch_progresses_too
            a_watch_filters_what_a_commit_changed
            dropped_watches_are_forgotten
            watches_end_with_the_store
            compaction_is_exact
            a_delete_outlives_the_compaction_before_it
            a_compacted_delete_is_not_seen_again
            an_overtaken_watch_ends_with_an_error
            compaction_keeps_what_is_stored
            leases_end_with_their_keys
            leases_live_while_kept_alive
            leases_can_be_revoked
            keys_leave_their_lease
            unknown_leases_are_refused
        }
    };
    (@each $make:path; $($promise:ident)*) => {
        $(
            #[allow(clippy::disallowed_methods, reason = "the limit is on real time")]
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let limit = ::std::time::Duration::from_secs(60);
                ::tokio::time::timeout(limit, $crate::contract::$promise($make)).await.expect("took over a minute");
            }
        )*
    };
}

async fn make(new: impl AsyncFn(Env) -> Subject) -> (Subject, Clock) {
    let clock = Clock::new();
    (new(clock.env()).await, clock)
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    let transaction = Transaction::new().put(key, value.to_owned());
    store.commit(transaction).await.expect("a plain put succeeds").revision
}

async fn delete(store: &dyn Store, key: &str) -> Revision {
    store.commit(Transaction::new().delete(key)).await.expect("a plain delete succeeds").revision
}

async fn get(store: &dyn Store, key: &str) -> Option<Entry> {
    store.get(&key.into()).await.expect("a get succeeds")
}

async fn all(store: &dyn Store, prefix: &str) -> Vec<Entry> {
    store.list(prefix, crate::Page::all()).await.expect("a list succeeds").entries
}

async fn watch(store: &dyn Store, prefix: &str, from: Revision) -> WatchStream {
    store.watch(prefix, from).await.expect("the revision can be watched from")
}

async fn next(watch: &mut WatchStream) -> WatchItem {
    watch.next().await.expect("the watch goes on").expect("the watch has no error")
}

async fn next_change(watch: &mut WatchStream) -> Arc<Change> {
    loop {
        if let WatchItem::Change(change) = next(watch).await {
            return change;
        }
    }
}

/// Reads the watch until it has come to `until`, which must be the revision of a change that it covers.
async fn changes_until(watch: &mut WatchStream, until: Revision) -> Vec<Arc<Change>> {
    let mut changes = Vec::new();
    while changes.last().is_none_or(|last: &Arc<Change>| last.revision < until) {
        changes.push(next_change(watch).await);
    }
    changes
}

/// Adds one to the number under the key, and tries until nobody was quicker.
async fn increment(store: &dyn Store, key: &Key) -> Revision {
    loop {
        let before = store.get(key).await.expect("a get succeeds");
        let number: u64 = match &before {
            Some(entry) => std::str::from_utf8(&entry.value).expect("text").parse().expect("a number"),
            None => 0,
        };
        let guard = match before {
            Some(entry) => Guard::At(key.clone(), entry.modified),
            None => Guard::Absent(key.clone()),
        };
        match store.commit(Transaction::new().guard(guard).put(key, (number + 1).to_string())).await {
            Ok(committed) => return committed.revision,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("an increment failed: {error}"),
        }
    }
}

/// Starts `count` tasks of their own, each of which runs `work` with its number, and waits for all.
async fn in_parallel(clock: &Clock, count: usize, work: impl Fn(usize) -> BoxFuture<'static, ()>) {
    let tasks: Vec<_> = (0..count).map(|number| clock.env().spawn("contract-writer", work(number))).collect();
    for task in tasks {
        task.join().await.expect("a writer does not panic");
    }
}

/// What is left when the changes are applied to nothing.
fn replay<'a>(changes: impl IntoIterator<Item = &'a Arc<Change>>) -> BTreeMap<Key, Entry> {
    let mut state = BTreeMap::new();
    for event in changes.into_iter().flat_map(|change| &change.events) {
        let before = match &event.entry {
            Some(entry) => state.insert(event.key.clone(), entry.clone()),
            None => state.remove(&event.key),
        };
        assert_eq!(before, event.previous, "an event says what was there before it");
    }
    state
}
