//! A checker for the promises of [`Store`]: does what a store answered to many clients at once make sense?
//!
//! [`run`] lets a few clients do random things to a store and records every call, its outcome and every item of every
//! watch. Then it looks for the one order in which all of that can have happened:
//!
//! 1. An acknowledged commit names its revision, so the order of the changes is known; only what has an unknown outcome
//!    is searched for (did it happen, and as which of the revisions that nobody claims?).
//! 2. Every other operation must have an instant between its call and its return at which the store was as it says, and
//!    must see at least what was seen before it began.
//! 3. Every watch keeps the nine promises of [`watches`].
//!
//! Whoever forwards what a store tells is judged by the same functions: [`reconstruct`] says what happened, and
//! [`Truth::through`] what of it a reader was to see. What a cache of a reader owes is in [`mirrors`].
//!
//! If there is none, the [`Failure`] names the first contradiction, what was expected, and what happened around it.
//! Over a backend that never waits the same seed is the same run; over others it is the same requests, and the
//! operating system decides on their order.
//!
//! ```
//! use std::sync::Arc;
//! use k8s_store::{Memory, check::{self, Workload}, contract::Clock};
//!
//! let store = Arc::new(Memory::new(Clock::new().env()));
//! let checked = check::run(store, 1, &Workload { steps: 200, ..Workload::default() }).unwrap();
//! assert!(checked.changes > 0 && checked.watch_events > 0);
//! ```
//!
//! A backend of your own must be empty at the start, and compute its digest with [`Digest::of`](crate::Digest::of). A
//! backend that lives on a runtime is checked from inside it (`Runtime::enter`), on a thread that may block. A backend on
//! servers, whose clients wait, time out and see servers die, is checked by [`record_live`] and [`verify`].
//!
//! Not checked: that leases expire when their time is up (the contract suite does), and the order of what leases do
//! among themselves beyond their revocation.

mod contradiction;
pub mod disasters;
mod executor;
mod frames;
mod history;
mod live;
pub mod long;
pub mod mirrors;
mod mortal;
mod random;
mod reads;
mod replay;
mod script;
mod truth;
pub mod watches;
mod workload;

use std::{fmt, sync::Arc};

pub use self::{
    contradiction::Contradiction,
    frames::reopen,
    history::{Answer, Call, History, Operation, Recorder, Tick, WatchRecord},
    live::record_live,
    mortal::history_with_power_cuts,
    random::Random,
    truth::Truth,
    workload::Workload,
};
use self::{
    executor::Stuck,
    reads::Reads,
    replay::{Evidence, Replay},
    workload::{Client, Shared},
};
use crate::{Revision, Store, WatchItem};

/// What was checked, so that nobody takes silence for a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Calls that were made.
    pub operations: u64,
    /// Revisions that were replayed.
    pub changes: u64,
    /// Calls whose outcome is unknown.
    pub unknown: u64,
    /// Watches that were opened.
    pub watches: u64,
    /// Events that watches yielded.
    pub watch_events: u64,
}

impl Checked {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            changes: self.changes + other.changes,
            unknown: self.unknown + other.unknown,
            watches: self.watches + other.watches,
            watch_events: self.watch_events + other.watch_events,
        }
    }
}

/// Why a store does not keep the contract.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that makes the same requests again.
    pub seed: u64,
    /// What no sound store does.
    pub contradiction: Contradiction,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.contradiction)
    }
}

impl std::error::Error for Failure {}

/// Lets clients work on an empty store and checks what they saw. Blocks the thread.
///
/// # Errors
///
/// The first contradiction, or that the store got stuck.
pub fn run(store: Arc<dyn Store>, seed: u64, workload: &Workload) -> Result<Checked, Box<Failure>> {
    let outcome = record(store, seed, workload).and_then(|history| verify(&history));
    outcome.map_err(|contradiction| Box::new(Failure { seed, contradiction }))
}

/// Lets clients work on an empty store and returns what they saw. Blocks the thread.
///
/// # Errors
///
/// A contradiction that says which calls never returned.
pub fn record(store: Arc<dyn Store>, seed: u64, workload: &Workload) -> Result<History, Contradiction> {
    let mut random = Random::new(seed);
    let recorder = Recorder::hesitant(store, Random::new(random.bits()));
    let shared = Arc::new(Shared::default());
    let steps = workload.steps / workload.clients.max(1);
    let clients = (0..workload.clients).map(|number| {
        let own = Random::new(random.bits());
        let client = Client::new(number, recorder.client(number), own, shared.clone(), steps);
        Box::pin(client.run()) as _
    });
    let clients: Vec<_> = clients.collect();
    let worked = executor::run(&mut random, clients, workload.patience);
    let auditor = recorder.client(workload.clients);
    let audited =
        worked.and_then(|()| executor::run(&mut random, vec![Box::pin(audit(auditor, &shared))], workload.patience));
    let history = History { compacts_itself: workload.compacts_itself, ..recorder.take() };
    match audited {
        Ok(()) => Ok(history),
        Err(Stuck(clients)) => Err(explain(clients.len(), &history)),
    }
}

/// Looks at everything once more when nobody writes, and reads every watch to its end.
async fn audit(store: Arc<dyn Store>, shared: &Shared) {
    let watches = std::mem::take(&mut *shared.watches.lock());
    // What comes back is recorded; without a head there is nothing to wait for.
    let _ = store.list("", crate::Page::all()).await;
    let _ = store.digest().await;
    let Ok(head) = store.head().await else { return };
    for mut watch in watches {
        if store.progress().await.is_ok() {
            watch.read_until(head).await;
        }
    }
}

fn explain(clients: usize, history: &History) -> Contradiction {
    let waiting = history.operations.iter().filter(|operation| operation.returned.is_none());
    let waiting: Vec<_> = waiting.map(ToString::to_string).collect();
    let at = history.operations.last().map_or(0, |last| last.invoked);
    let what = match waiting.is_empty() {
        true => "a watch was asked for its progress and never told it".to_owned(),
        false => format!("{clients} clients wait in vain: {}", waiting.join("; ")),
    };
    Contradiction::new("live", at, what).amid(history, &Truth::default())
}

/// Checks a history of a store that was empty when it began, from its first call to its last.
///
/// # Errors
///
/// The first contradiction.
pub fn verify(history: &History) -> Result<Checked, Contradiction> {
    reconstruct(history).map(|(_, checked)| checked)
}

/// As [`verify`], and tells what happened, so that others who saw it can be judged by it.
///
/// # Errors
///
/// The first contradiction.
pub fn reconstruct(history: &History) -> Result<(Truth, Checked), Contradiction> {
    let evidence = Evidence::gather(history)?;
    let mut replay = Replay::new(&evidence);
    let mut first = None;
    loop {
        if let Err(contradiction) = replay.complete() {
            return Err(first.unwrap_or(contradiction));
        }
        match judge(history, &replay) {
            Ok(()) => {
                let checked = summary(history, replay.truth.head());
                return Ok((replay.truth, checked));
            }
            Err(contradiction) => drop(first.get_or_insert(contradiction)),
        }
        if !replay.take_back() {
            // Invariant: it was set in this round or before.
            return Err(first.unwrap_or_else(|| Contradiction::new("linearizable", 0, "no order explains it")));
        }
    }
}

fn judge(history: &History, replay: &Replay<'_>) -> Result<(), Contradiction> {
    Reads::check(history, replay)?;
    let broken = history.watches.iter().find_map(|watch| watches::validate(&replay.truth, watch).err());
    broken.map_or(Ok(()), |contradiction| Err(contradiction.amid(history, &replay.truth)))
}

fn summary(history: &History, head: Revision) -> Checked {
    let items = history.watches.iter().flat_map(|watch| &watch.items);
    let events = items.map(|(_, item)| match item {
        Ok(WatchItem::Change(change)) => change.events.len() as u64,
        _ => 0,
    });
    Checked {
        operations: history.operations.len() as u64,
        changes: head.0,
        unknown: history.operations.iter().filter(|operation| operation.outcome_unknown()).count() as u64,
        watches: history.watches.len() as u64,
        watch_events: events.sum(),
    }
}
