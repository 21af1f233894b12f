//! A run that is repeatable, and a reference that knows every state that it goes through.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::join_all};
use k8s_core::env::{BoxFuture, Env, Environment, Task, TaskHandle, Timestamp};

use super::{executor::block_on, random::Random};
use crate::{
    Change, Digest, Embedded, EmbeddedOptions, LeaseId, Memory, Op, Retention, Revision, Store, StoreError,
    Transaction, WatchItem,
    embedded::{Surroundings, simulated::Simulated},
};

/// An environment in which nothing happens by itself.
pub(crate) struct Still(pub(crate) u64);

struct Nothing;

impl TaskHandle for Nothing {
    fn cancel(&self) {}

    fn join(self: Box<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

impl Environment for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn random(&self) -> u64 {
        Random::new(self.0).bits()
    }

    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> Task {
        Task::new(Nothing)
    }
}

/// A still environment whose random number is `seed`'s.
pub(crate) fn still(seed: u64) -> Env {
    Arc::new(Still(seed))
}

/// Small, so that everything happens often.
pub(crate) fn small() -> EmbeddedOptions {
    EmbeddedOptions {
        retention: Retention { revisions: 150, bytes: 1 << 20 },
        segment_bytes: 8 << 10,
        snapshot_after_bytes: 12 << 10,
    }
}

/// The folder of every simulated store.
pub(crate) fn folder() -> &'static Path {
    Path::new("/store")
}

pub(crate) fn open(disk: &Simulated) -> Result<Arc<Embedded>, StoreError> {
    Embedded::open_on(&Surroundings::on(Arc::new(disk.clone())), folder(), still(1), &small())
}

/// One step of a script.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// At once, so that they may share a flush.
    Commits(Vec<Transaction>),
    Grant,
    Revoke(LeaseId),
    Compact(Revision),
}

/// Writes the steps, and notes what they came to.
pub(crate) struct Script {
    random: Random,
    reference: Memory,
    digests: BTreeMap<Revision, Digest>,
    changes: BTreeMap<Revision, Arc<Change>>,
    leases: u64,
    written: u64,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let reference = Memory::new(still(1));
        // A store in memory does not fail by itself.
        let empty = block_on(reference.digest()).unwrap_or(Digest([0; 32]));
        let digests = BTreeMap::from([(Revision::ZERO, empty)]);
        Self { random: Random::new(seed), reference, digests, changes: BTreeMap::new(), leases: 0, written: 0 }
    }

    /// The newest revision that can have been reached.
    pub(crate) fn head(&self) -> Revision {
        self.digests.last_key_value().map_or(Revision::ZERO, |(revision, _)| *revision)
    }

    pub(crate) fn next_step(&mut self) -> Step {
        match self.random.below(20) {
            0 => Step::Grant,
            1 if self.leases > 0 => Step::Revoke(LeaseId(1 + self.random.below(self.leases))),
            2 => Step::Compact(Revision(self.head().0.saturating_sub(self.random.below(40)))),
            _ => {
                let count = 1 + self.random.below(3);
                Step::Commits((0..count).map(|_| self.transaction()).collect())
            }
        }
    }

    fn transaction(&mut self) -> Transaction {
        let mut transaction = Transaction::new();
        for _ in 0..1 + self.random.below(3) {
            let key = format!("key/{}", self.random.below(24));
            if transaction.ops.iter().any(|op| op.key().as_str() == key) {
                continue;
            }
            self.written += 1;
            let length = if self.random.one_in(30) { 9000 } else { self.random.below(700) as usize };
            let mut value = format!("{} ", self.written).into_bytes();
            value.resize(value.len() + length, (self.written % 251) as u8);
            transaction = match self.random.below(4) {
                0 => transaction.delete(key),
                1 if self.leases > 0 => {
                    let lease = Some(LeaseId(1 + self.random.below(self.leases)));
                    transaction.op(Op::Put { key: key.into(), value: value.into(), lease, attachment: None })
                }
                _ => transaction.put(key, value),
            };
        }
        transaction
    }

    /// Takes a step; the reference follows as far as the store did. Returns the first error that the disk is to blame
    /// for, if there was one.
    pub(crate) fn perform(&mut self, store: &dyn Store, step: &Step) -> Result<Option<StoreError>, String> {
        let outcomes = block_on(perform(store, step));
        let mut blamed = None;
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Err(error @ (StoreError::Full { .. } | StoreError::ReadOnly { .. } | StoreError::Closed)) => {
                    blamed = blamed.filter(StoreError::outcome_unknown).or(Some(error));
                }
                Err(error) if error.outcome_unknown() => {
                    // Whether it happened, and what it came to, shows at the next opening.
                    drop(self.follow(step, index)?);
                    blamed = Some(error);
                }
                outcome => {
                    let expected = self.follow(step, index)?;
                    let seen = outcome.map_err(|error| error.to_string());
                    if seen != expected {
                        return Err(format!("{step:?} came to {seen:?}; the reference says {expected:?}"));
                    }
                }
            }
        }
        Ok(blamed)
    }

    fn follow(&mut self, step: &Step, index: usize) -> Result<Outcome, String> {
        let one = match step {
            Step::Commits(transactions) => Step::Commits(vec![transactions[index].clone()]),
            other => other.clone(),
        };
        let outcome = block_on(perform(&self.reference, &one)).pop().ok_or("a step has an outcome")?;
        if let (Step::Grant, Ok(Done { number, .. })) = (step, &outcome) {
            self.leases = *number;
        }
        let failed = |error: StoreError| error.to_string();
        let head = block_on(self.reference.head()).map_err(failed)?;
        if head > self.head() {
            let listed = block_on(self.reference.watch("", self.head())).map_err(failed)?.next().now_or_never();
            if let Some(Some(Ok(WatchItem::Change(change)))) = listed {
                self.changes.insert(change.revision, change);
            }
            self.digests.insert(head, block_on(self.reference.digest()).map_err(failed)?);
        }
        Ok(outcome.map_err(|error| error.to_string()))
    }

    /// Opens a disk and compares: exactly a state of the script, and none before `acknowledged`.
    pub(crate) fn verify(&self, disk: &Simulated, acknowledged: Revision) -> Result<Arc<Embedded>, String> {
        let failed = |error: StoreError| format!("it does not open: {error}");
        let store = open(disk).map_err(failed)?;
        let statistics = block_on(store.statistics()).map_err(failed)?;
        let head = statistics.head;
        if head < acknowledged || head > self.head() {
            let head_now = self.head();
            return Err(format!("{acknowledged} was acknowledged and {head_now} asked for, and {head} is there"));
        }
        let digest = block_on(store.digest()).map_err(failed)?;
        if self.digests.get(&head) != Some(&digest) {
            return Err(format!("the state at revision {head} is not what it was"));
        }
        let mut watch = block_on(store.watch("", statistics.oldest)).map_err(failed)?;
        for revision in statistics.oldest.0 + 1..=head.0 {
            let item = watch.next().now_or_never();
            let Some(Some(Ok(WatchItem::Change(change)))) = item else {
                return Err(format!("revision {revision} is missing from the history: {item:?}"));
            };
            if self.changes.get(&Revision(revision)) != Some(&change) {
                return Err(format!("the history says of revision {revision} what did not happen"));
            }
        }
        Ok(store)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    number: u64,
}

type Outcome = Result<Done, String>;

async fn perform(store: &dyn Store, step: &Step) -> Vec<Result<Done, StoreError>> {
    let done = |number| Done { number };
    match step {
        Step::Commits(transactions) => {
            let commits = transactions.iter().map(|transaction| store.commit(transaction.clone()));
            let outcomes = join_all(commits).await;
            outcomes.into_iter().map(|outcome| outcome.map(|committed| done(committed.revision.0))).collect()
        }
        Step::Grant => vec![store.grant(Duration::from_secs(60)).await.map(|lease| done(lease.0))],
        Step::Revoke(lease) => vec![store.revoke(*lease).await.map(|()| done(0))],
        Step::Compact(revision) => vec![store.compact(*revision).await.map(|()| done(0))],
    }
}
