//! The contract suite is trusted because it finds known defects.
//!
//! Each case is a defect that a real store had, built into a store that is otherwise sound. The promise that it breaks
//! must notice: by a panic, or by waiting for what never comes.
#![allow(clippy::disallowed_methods, reason = "the limits are on real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future};
use k8s_core::env::Env;
use k8s_store::{
    Committed, Digest, Entry, Guard, Key, LeaseId, Listing, Memory, Page, Revision, Statistics, Store, StoreError,
    Transaction, WatchItem, WatchStream,
    contract::{self, Subject},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    /// None: the wrapper itself must not be what the suite finds.
    None,
    /// After a compaction the head falls back (etcd 17780).
    HeadFallsAfterCompaction,
    /// Progress is told before the changes that it covers (etcd 15220).
    ProgressOvertakes,
    /// A resumed watch begins with what its reader has seen (etcd 15271).
    WatchReplays,
    /// Now and then a change comes twice (etcd 17247).
    ChangeTwice,
    /// A reader that was slow finds a hole (etcd 17529).
    SlowReaderLoses,
    /// A watch before the compacted revision silently begins at it (etcd 18089).
    CompactedIsSkipped,
    /// A watch from the compacted revision misses the first change after it (etcd 19179).
    FirstAfterCompactionIsLost,
    /// A watch of a revision to come is given what there is (etcd 20221).
    FutureIsPast,
    /// A list at a compacted revision is answered with another (etcd 18667).
    CompactedIsListed,
    /// A get may be a little old (etcd 20418, 14140).
    GetIsStale,
    /// The head may be a little old.
    HeadIsStale,
    /// A watch yields later keys, too (etcd GHSA-xg4h-6gfc-h4m8).
    PrefixLeaks,
    /// A watch on an empty window misses the first change (kubernetes 49992).
    EmptyWindow,
    /// A watch registered while others write misses what comes right then (kubernetes 116172).
    RegistrationGap,
    /// Deletes do not reach watches (kubernetes 123072).
    DeletesAreLost,
    /// The changes of one commit come one by one.
    CommitsAreSplit,
    /// Guards are checked, and then the world changes.
    GuardsAreLate,
    /// A page after the first is of the state now.
    PagesDrift,
    /// Compaction takes the digest along.
    CompactionLosesState,
    /// A dropped watch stays.
    WatchesLeak,
    /// What a writer attached is gone.
    AttachmentsAreLost,
    /// A lease that is kept alive ends all the same.
    KeepAliveIsIdle,
    /// A revoked lease leaves its keys.
    RevokeLeavesKeys,
}

struct Defective {
    store: Arc<Memory>,
    defect: Defect,
    calls: AtomicU64,
    fallen: AtomicU64,
    leaked: parking_lot::Mutex<Vec<WatchStream>>,
}

impl Defective {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// True for every `n`-th call.
    fn every(&self, n: u64) -> bool {
        self.calls.fetch_add(1, SeqCst) % n == n - 1
    }

    async fn commit_without_guards(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        for guard in &transaction.guards {
            let found = self.store.get(guard.key()).await?;
            let holds = match guard {
                Guard::Absent(_) => found.is_none(),
                Guard::Exists(_) => found.is_some(),
                Guard::At(_, revision) => found.as_ref().is_some_and(|entry| entry.modified == *revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: guard.key().clone(), found });
            }
        }
        std::thread::yield_now();
        self.store.commit(Transaction { guards: vec![], ops: transaction.ops }).await
    }

    async fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(self.store.statistics().await?.oldest)
    }

    fn spoil(&self, stream: WatchStream) -> WatchStream {
        let defect = self.defect;
        let mut count = 0_u64;
        let spoilt = stream.flat_map(move |item| {
            count += 1;
            let Ok(WatchItem::Change(change)) = &item else { return futures::stream::iter(vec![item]) };
            let items = match defect {
                Defect::ChangeTwice if count.is_multiple_of(7) => vec![item.clone(), item],
                Defect::SlowReaderLoses if count == 1024 => vec![],
                Defect::DeletesAreLost if change.events.iter().all(|event| event.entry.is_none()) => vec![],
                Defect::ProgressOvertakes => vec![Ok(WatchItem::Progress(change.revision)), item],
                Defect::CommitsAreSplit => {
                    let one = |event: &k8s_store::ChangeEvent| k8s_store::Change {
                        revision: change.revision,
                        events: vec![event.clone()],
                    };
                    change.events.iter().map(|event| Ok(WatchItem::Change(Arc::new(one(event))))).collect()
                }
                _ => vec![item],
            };
            futures::stream::iter(items)
        });
        Box::pin(spoilt)
    }
}

#[async_trait]
impl Store for Defective {
    async fn head(&self) -> Result<Revision, StoreError> {
        let stale = u64::from(self.is(Defect::HeadIsStale) && self.every(3));
        Ok(Revision(self.store.head().await?.0.saturating_sub(stale + self.fallen.load(SeqCst))))
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let head = self.store.head().await?;
        let mut entry = if self.is(Defect::GetIsStale) && self.every(5) && head > Revision::ZERO {
            let page = Page { at: Some(Revision(head.0 - 1)), ..Page::all() };
            self.store.list(key, page).await?.entries.into_iter().find(|entry| entry.key == *key)
        } else {
            self.store.get(key).await?
        };
        if self.is(Defect::AttachmentsAreLost) {
            entry.iter_mut().for_each(|entry| entry.attachment = None);
        }
        Ok(entry)
    }

    async fn list(&self, prefix: &str, mut page: Page) -> Result<Listing, StoreError> {
        let compacted = page.at.is_some_and(|at| self.is(Defect::CompactedIsListed) && at.0 > 0);
        if compacted {
            page.at = page.at.max(Some(self.oldest().await?));
        }
        if self.is(Defect::PagesDrift) && page.after.is_some() {
            page.at = None;
        }
        self.store.list(prefix, page).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let (head, oldest) = (self.store.head().await?, self.oldest().await?);
        let prefix = if self.is(Defect::PrefixLeaks) { &prefix[..prefix.len().min(2)] } else { prefix };
        let from = match self.defect {
            Defect::WatchReplays if from > oldest => Revision(from.0 - 1),
            Defect::CompactedIsSkipped => from.max(oldest),
            Defect::FirstAfterCompactionIsLost if from == oldest && oldest > Revision::ZERO && head > from => {
                from.next()
            }
            Defect::FutureIsPast => from.min(head),
            Defect::RegistrationGap if from < head && self.every(4) => from.next(),
            _ => from,
        };
        let stream = self.store.watch(prefix, from).await?;
        if self.is(Defect::WatchesLeak) {
            let leak = self.store.watch(prefix, from).await?;
            self.leaked.lock().push(leak);
        }
        let stream = self.spoil(stream);
        let skipped = usize::from(self.is(Defect::EmptyWindow) && head == Revision::ZERO);
        Ok(Box::pin(stream.skip(skipped)))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        match self.defect {
            Defect::GuardsAreLate => self.commit_without_guards(transaction).await,
            _ => self.store.commit(transaction).await,
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await?;
        if self.is(Defect::HeadFallsAfterCompaction) {
            self.fallen.store(1, SeqCst);
        }
        if self.is(Defect::CompactionLosesState) {
            let entries = self.store.list("", Page::all()).await?.entries;
            let first = entries.first().map_or("".into(), |entry| entry.key.clone());
            self.store.commit(Transaction::new().delete(first)).await?;
        }
        Ok(())
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.store.progress().await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        match self.defect {
            Defect::KeepAliveIsIdle => Ok(Duration::from_secs(10)),
            _ => self.store.keep_alive(lease).await,
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        if self.is(Defect::RevokeLeavesKeys) {
            for entry in self.store.list("", Page::all()).await?.entries {
                self.store.commit(Transaction::new().put(entry.key, entry.value)).await?;
            }
        }
        self.store.revoke(lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.store.statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.store.digest().await
    }
}

fn subject(env: Env, defect: Defect) -> Subject {
    let store = Arc::new(Memory::new(env));
    let (calls, fallen, leaked) = Default::default();
    Subject::new(Arc::new(Defective { store, defect, calls, fallen, leaked }))
}

/// Whether the promise notices the defect within so many seconds.
macro_rules! finds {
    ($promise:ident, $defect:expr, $seconds:expr) => {{
        let new = async |env: Env| subject(env, $defect);
        let checked = std::panic::AssertUnwindSafe(contract::$promise(new)).catch_unwind();
        let limit = tokio::time::sleep(Duration::from_secs($seconds));
        futures::pin_mut!(checked, limit);
        match future::select(checked, limit).await {
            future::Either::Left((outcome, _)) => outcome.is_err(),
            future::Either::Right(_) => true,
        }
    }};
}

macro_rules! found {
    ($($test:ident: $defect:ident by $promise:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                assert!(!finds!($promise, Defect::None, 60), "a sound store does not keep the promise");
                assert!(finds!($promise, Defect::$defect, 2), "the suite does not notice that {:?}", Defect::$defect);
            }
        )*
    };
}

found! {
    a_head_that_falls: HeadFallsAfterCompaction by compaction_keeps_what_is_stored;
    progress_that_overtakes: ProgressOvertakes by progress_never_overtakes_a_change;
    a_watch_that_replays: WatchReplays by watches_resume_after_any_revision;
    a_change_that_comes_twice: ChangeTwice by watches_yield_every_change_once_in_order;
    a_slow_reader_that_loses: SlowReaderLoses by a_slow_reader_loses_nothing;
    a_compacted_delete_that_is_skipped: CompactedIsSkipped by a_compacted_delete_is_not_seen_again;
    a_first_change_that_compaction_takes: FirstAfterCompactionIsLost by a_delete_outlives_the_compaction_before_it;
    a_future_that_is_past: FutureIsPast by revisions_to_come_are_refused;
    a_compacted_list_that_is_answered: CompactedIsListed by compaction_is_exact;
    a_stale_get: GetIsStale by acknowledged_writes_are_read_at_once;
    a_stale_head: HeadIsStale by acknowledged_writes_are_read_at_once;
    a_prefix_that_leaks: PrefixLeaks by a_prefix_shows_nothing_else;
    an_empty_window_that_loses: EmptyWindow by the_first_change_is_watched;
    a_registration_that_loses: RegistrationGap by watches_resume_after_any_revision;
    deletes_that_are_lost: DeletesAreLost by deletes_are_watched_with_what_was_there;
    commits_that_are_split: CommitsAreSplit by commits_are_seen_whole;
    guards_that_are_late: GuardsAreLate by guarded_writers_lose_no_update;
    pages_that_drift: PagesDrift by pages_are_of_one_snapshot;
    compaction_that_loses_state: CompactionLosesState by compaction_keeps_what_is_stored;
    watches_that_leak: WatchesLeak by dropped_watches_are_forgotten;
    attachments_that_are_lost: AttachmentsAreLost by attachments_are_handed_back;
    a_keep_alive_that_is_idle: KeepAliveIsIdle by leases_live_while_kept_alive;
    a_revoke_that_leaves_keys: RevokeLeavesKeys by leases_can_be_revoked;
}
