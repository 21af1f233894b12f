//! A store with defects that real stores had. Numbers are issues of the projects named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_core::env::Env;
use k8s_store::{
    Committed, Digest, Entry, Guard, Key, LeaseId, Listing, Memory, Page, Revision, Statistics, Store, StoreError,
    Transaction, WatchItem, WatchStream, contract::Subject,
};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Defect {
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
    /// A list may be a little old (kubernetes 97294, 59848).
    ListIsStale,
    /// A commit is acknowledged and forgotten (etcd 14370, 14140).
    AcknowledgedIsLost,
    /// A commit happens twice, as when its index is not saved with it (etcd 13766).
    AppliedTwice,
    /// The last operation of a transaction is left out (etcd 14685).
    HalfATransaction,
    /// A progress is older than the one before it (etcd 20221).
    ProgressFalls,
    /// Progress is told of what has not happened.
    ProgressRunsAhead,
    /// An event does not say what was there before.
    PreviousIsLost,
    /// An update looks like a create.
    UpdateIsCreate,
    /// The number of a lease is given twice.
    LeaseTwice,
    /// A refused transaction leaves a key.
    RefusedLeavesAKey,
    /// What is compacted is answered with nothing.
    CompactedIsEmpty,
    /// A list does not say that there is more.
    MoreIsForgotten,
    /// A watch is never told its progress.
    ProgressIsForgotten,
}

/// A store that is sound but for one thing.
pub struct Defective {
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
        yield_once().await;
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
            let change = match (&item, defect) {
                (Ok(WatchItem::Change(change)), _) => change,
                (Ok(WatchItem::Progress(revision)), Defect::ProgressFalls) if count.is_multiple_of(3) => {
                    let older = WatchItem::Progress(Revision(revision.0.saturating_sub(2)));
                    return futures::stream::iter(vec![item, Ok(older)]);
                }
                (Ok(WatchItem::Progress(revision)), Defect::ProgressRunsAhead) => {
                    return futures::stream::iter(vec![Ok(WatchItem::Progress(revision.next()))]);
                }
                (Ok(WatchItem::Progress(_)), Defect::ProgressIsForgotten) => return futures::stream::iter(vec![]),
                _ => return futures::stream::iter(vec![item]),
            };
            let items = match defect {
                Defect::ChangeTwice if count.is_multiple_of(7) => vec![item.clone(), item],
                Defect::SlowReaderLoses if count == 40 => vec![],
                Defect::DeletesAreLost if change.events.iter().all(|event| event.entry.is_none()) => vec![],
                Defect::PreviousIsLost | Defect::UpdateIsCreate => {
                    let mut change = k8s_store::Change::clone(change);
                    for event in &mut change.events {
                        match defect {
                            Defect::PreviousIsLost => event.previous = None,
                            _ => event.entry.iter_mut().for_each(|entry| entry.created = entry.modified),
                        }
                    }
                    vec![Ok(WatchItem::Change(Arc::new(change)))]
                }
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
        if self.is(Defect::ListIsStale) && page.at.is_none() && self.every(6) {
            let head = self.store.head().await?;
            page.at = Some(Revision(head.0.saturating_sub(1)).max(self.oldest().await?));
        }
        match self.store.list(prefix, page).await {
            Err(StoreError::Compacted { oldest }) if self.is(Defect::CompactedIsEmpty) => {
                Ok(Listing { entries: vec![], revision: oldest, more: false, remaining: 0 })
            }
            Ok(listing) if self.is(Defect::MoreIsForgotten) => Ok(Listing { more: false, remaining: 0, ..listing }),
            other => other,
        }
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
            Defect::AcknowledgedIsLost if self.every(40) => {
                let undo = self.store.head().await?;
                let change = k8s_store::Change { revision: undo.next(), events: vec![] };
                Ok(Committed { revision: undo.next(), change: Some(Arc::new(change)) })
            }
            Defect::AppliedTwice if transaction.guards.is_empty() && self.every(20) => {
                let committed = self.store.commit(transaction.clone()).await?;
                self.store.commit(transaction).await.map(|_| committed)
            }
            Defect::HalfATransaction if transaction.ops.len() > 1 => {
                let ops = transaction.ops[..transaction.ops.len() - 1].to_vec();
                self.store.commit(Transaction { guards: transaction.guards, ops }).await
            }
            Defect::RefusedLeavesAKey => {
                let first = transaction.ops.first().cloned();
                let outcome = self.store.commit(transaction).await;
                if let (Err(StoreError::Conflict { .. }), Some(op)) = (&outcome, first) {
                    self.store.commit(Transaction::new().op(op)).await?;
                }
                outcome
            }
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
        let lease = self.store.grant(ttl).await?;
        Ok(if self.is(Defect::LeaseTwice) { LeaseId(lease.0.div_ceil(2)) } else { lease })
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

/// An empty store with a defect.
pub fn subject(env: Env, defect: Defect) -> Subject {
    let store = Arc::new(Memory::new(env));
    let (calls, fallen, leaked) = Default::default();
    Subject::new(Arc::new(Defective { store, defect, calls, fallen, leaked }))
}

/// Lets the other tasks of this thread go first.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
