//! From a history to the one order in which everything happened.
//!
//! An acknowledged commit names its revision, so replay goes from revision to revision and has nothing to search. Only
//! revisions that nobody claims are open: a commit whose outcome is unknown may have made one, or the end of a lease.
//! For those the candidates are tried, oldest first, and taken back where they lead into a contradiction.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    contradiction::{Contradiction, describe_change},
    history::{Answer, Call, History, Operation, Tick, describe},
    truth::Truth,
};
use crate::{Change, Entry, Key, LeaseId, Op, Revision, StoreError, Transaction, WatchItem};

/// How many steps the search takes back before it gives up with the first contradiction that it met.
const PATIENCE: usize = 20_000;

/// What the history says without any order: which revisions are claimed, and which had been seen when.
pub(crate) struct Evidence<'a> {
    history: &'a History,
    /// The newest revision that the history knows of.
    pub(crate) head: Revision,
    claims: BTreeMap<Revision, usize>,
    /// The operations that may have made a revision that nobody claims.
    uncertain: Vec<usize>,
    /// What was seen of each revision.
    glimpses: BTreeMap<Revision, Vec<Entry>>,
    /// Until when each version of a key was seen to last, by the revision that put it.
    lasted: BTreeMap<Key, BTreeMap<Revision, Revision>>,
    /// When a revision at least this high had been seen; rising in both.
    seen: Vec<(Tick, Revision)>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn gather(history: &'a History) -> Result<Self, Contradiction> {
        let (claims, glimpses, lasted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (uncertain, seen) = (Vec::new(), Vec::new());
        let mut evidence = Self { history, head: Revision::ZERO, claims, uncertain, glimpses, lasted, seen };
        let mut sightings = Vec::new();
        for (index, operation) in history.operations.iter().enumerate() {
            evidence.claim(index, operation)?;
            if let Some((tick, outcome)) = &operation.returned {
                sightings.extend(evidence.sighting(outcome).map(|revision| (*tick, revision)));
            }
        }
        for watch in &history.watches {
            for (tick, item) in &watch.items {
                if let Ok(WatchItem::Change(change)) = item {
                    sightings.push((*tick, change.revision));
                    let entries = change.events.iter().filter_map(|event| event.entry.as_ref());
                    entries.for_each(|entry| evidence.glimpse(entry));
                    evidence.replaced(change);
                }
            }
        }
        evidence.order(sightings);
        Ok(evidence)
    }

    fn claim(&mut self, index: usize, operation: &Operation) -> Result<(), Contradiction> {
        match (&operation.call, operation.answer()) {
            (Call::Commit(_), Some(Answer::Committed(committed))) if committed.change.is_some() => {
                if let Some(other) = self.claims.insert(committed.revision, index) {
                    let other = &self.history.operations[other];
                    let what =
                        format!("revision {} was given to two commits: {operation}; {other}", committed.revision);
                    return Err(Contradiction::new("dense", operation.invoked, what));
                }
            }
            (Call::Commit(_) | Call::Revoke(_), None) if operation.outcome_unknown() => self.uncertain.push(index),
            (Call::Revoke(_), Some(_)) => self.uncertain.push(index),
            _ => {}
        }
        Ok(())
    }

    /// The revision that an outcome shows to have happened.
    fn sighting(&mut self, outcome: &Result<Answer, StoreError>) -> Option<Revision> {
        match outcome {
            Ok(Answer::Revision(revision)) => Some(*revision),
            Ok(Answer::Committed(committed)) => {
                committed.change.iter().for_each(|change| self.replaced(change));
                Some(committed.revision)
            }
            Ok(Answer::Listing(listing)) => {
                for entry in &listing.entries {
                    self.glimpse(entry);
                    self.last(entry, listing.revision);
                }
                Some(listing.revision)
            }
            Ok(Answer::Entry(Some(entry))) | Err(StoreError::Conflict { found: Some(entry), .. }) => {
                self.glimpse(entry);
                Some(entry.modified)
            }
            Err(StoreError::Future { head }) => Some(*head),
            _ => None,
        }
    }

    fn glimpse(&mut self, entry: &Entry) {
        if !self.claims.contains_key(&entry.modified) {
            self.glimpses.entry(entry.modified).or_default().push(entry.clone());
        }
    }

    /// What a change replaced had lasted until then.
    fn replaced(&mut self, change: &Change) {
        for entry in change.events.iter().filter_map(|event| event.previous.as_ref()) {
            self.glimpse(entry);
            self.last(entry, Revision(change.revision.0 - 1));
        }
    }

    fn last(&mut self, entry: &Entry, until: Revision) {
        let lasted = self.lasted.entry(entry.key.clone()).or_default().entry(entry.modified).or_default();
        *lasted = until.max(*lasted);
    }

    /// Whether a key was seen not to change at a revision.
    fn is_still(&self, key: &Key, revision: Revision) -> bool {
        let before = self.lasted.get(key).and_then(|versions| versions.range(..revision).next_back());
        before.is_some_and(|(_, until)| *until >= revision)
    }

    fn order(&mut self, mut sightings: Vec<(Tick, Revision)>) {
        sightings.sort_unstable();
        for (tick, revision) in sightings {
            if revision > self.head {
                self.head = revision;
                self.seen.push((tick, revision));
            }
        }
        self.head = self.head.max(self.claims.last_key_value().map_or(Revision::ZERO, |(revision, _)| *revision));
    }

    /// The newest revision that had been seen before a moment.
    fn seen_before(&self, tick: Tick) -> Revision {
        let count = self.seen.partition_point(|(at, _)| *at < tick);
        count.checked_sub(1).map_or(Revision::ZERO, |last| self.seen[last].1)
    }

    /// When a revision, or one after it, had been seen.
    fn first_seen(&self, revision: Revision) -> Tick {
        self.seen.get(self.seen.partition_point(|(_, seen)| *seen < revision)).map_or(Tick::MAX, |(tick, _)| *tick)
    }

    /// The changes that an unclaimed revision may be, and who asked for them.
    fn candidates(&self, truth: &Truth, used: &BTreeSet<usize>) -> Vec<Candidate> {
        let revision = truth.head().next();
        let seen = self.first_seen(revision);
        let free = self.uncertain.iter().filter(|index| !used.contains(index));
        let possible = free.filter_map(|index| {
            let operation = &self.history.operations[*index];
            if operation.invoked > seen || self.seen_before(operation.invoked) >= revision {
                return None;
            }
            let change = match &operation.call {
                Call::Commit(transaction) if truth.refuses(&transaction.guards, truth.head()).is_none() => {
                    truth.predict(transaction, truth.head())
                }
                Call::Revoke(lease) => truth.predict(&end_of(*lease, truth), truth.head()),
                _ => None,
            };
            Some((*index, Arc::new(change.filter(|change| self.agrees(change))?)))
        });
        possible.collect()
    }

    fn agrees(&self, change: &Change) -> bool {
        let glimpses = self.glimpses.get(&change.revision).map_or(&[][..], |entries| entries);
        let put = |seen: &Entry| change.events.iter().any(|event| event.entry.as_ref() == Some(seen));
        glimpses.iter().all(put) && !change.events.iter().any(|event| self.is_still(&event.key, change.revision))
    }
}

/// An uncertain operation, and the change that it would have made.
type Candidate = (usize, Arc<Change>);

/// What the end of a lease does.
fn end_of(lease: LeaseId, truth: &Truth) -> Transaction {
    let keys = truth.list("", None, truth.head()).filter(|entry| entry.lease == Some(lease));
    keys.fold(Transaction::new(), |all, entry| all.delete(Key::clone(&entry.key)))
}

/// One order that explains all revisions.
pub(crate) struct Replay<'a> {
    evidence: &'a Evidence<'a>,
    pub(crate) truth: Truth,
    /// The uncertain operations that have happened, in the order of their revisions.
    used: Vec<(Revision, usize)>,
    /// Where there was more than one candidate, and those that are left.
    choices: Vec<(Revision, Vec<Candidate>)>,
    steps: usize,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(evidence: &'a Evidence<'a>) -> Self {
        Self { evidence, truth: Truth::default(), used: Vec::new(), choices: Vec::new(), steps: 0 }
    }

    /// The uncertain operations that have happened.
    pub(crate) fn happened(&self, operation: usize) -> bool {
        self.used.iter().any(|(_, used)| *used == operation)
    }

    /// Goes on to the head. On error, which is the first met, no order explains the revisions.
    pub(crate) fn complete(&mut self) -> Result<(), Contradiction> {
        let mut first = None;
        while self.truth.head() < self.evidence.head {
            if let Err(contradiction) = self.step() {
                let contradiction = first.get_or_insert(contradiction.amid(self.evidence.history, &self.truth));
                if !self.take_back() {
                    let mut contradiction = contradiction.clone();
                    if self.steps > PATIENCE {
                        contradiction.what += " (there were too many unknown outcomes to try every order)";
                    }
                    return Err(contradiction);
                }
            }
        }
        Ok(())
    }

    /// Takes the next of the candidates at the last choice; false if there was none, or too much was tried.
    pub(crate) fn take_back(&mut self) -> bool {
        self.steps += 1;
        while let Some((revision, candidates)) = self.choices.last_mut() {
            let before = Revision(revision.0 - 1);
            match candidates.pop() {
                _ if self.steps > PATIENCE => return false,
                None => drop(self.choices.pop()),
                Some((operation, change)) => {
                    self.truth.truncate(before);
                    self.used.retain(|(revision, _)| *revision <= before);
                    self.make(operation, change);
                    return true;
                }
            }
        }
        false
    }

    fn make(&mut self, operation: usize, change: Arc<Change>) {
        self.used.push((change.revision, operation));
        self.truth.push(change, self.evidence.history.operations[operation].invoked);
    }

    fn step(&mut self) -> Result<(), Contradiction> {
        let revision = self.truth.head().next();
        match self.evidence.claims.get(&revision) {
            Some(index) => self.claimed(&self.evidence.history.operations[*index]),
            None => self.unclaimed(revision),
        }
    }

    fn claimed(&mut self, operation: &Operation) -> Result<(), Contradiction> {
        let (Call::Commit(transaction), Some(Answer::Committed(committed))) = (&operation.call, operation.answer())
        else {
            return Ok(());
        };
        let (at, before) = (operation.invoked, self.truth.head());
        if let Some((key, found)) = self.truth.refuses(&transaction.guards, before) {
            let what = format!("{operation}: accepted, though {key} held {}", describe(found));
            return Err(Contradiction::new("guards", at, what));
        }
        let seen = self.evidence.seen_before(at);
        if seen > before {
            let what = format!("{operation}: revision {seen} had been seen before the call");
            return Err(Contradiction::new("linearizable", at, what));
        }
        match self.truth.predict(transaction, before) {
            Some(expected) if committed.change.as_deref() == Some(&expected) => {
                self.truth.push(Arc::new(expected), at);
                Ok(())
            }
            expected => {
                let shown = |change: Option<&Change>| change.map_or("nothing".into(), describe_change);
                let (is, should) = (shown(committed.change.as_deref()), shown(expected.as_ref()));
                Err(Contradiction::new("atomic", at, format!("{operation}: it did {is}; expected was {should}")))
            }
        }
    }

    fn unclaimed(&mut self, revision: Revision) -> Result<(), Contradiction> {
        let used = self.used.iter().map(|(_, operation)| *operation).collect();
        let mut candidates = self.evidence.candidates(&self.truth, &used);
        // Taken from the end: the oldest first.
        candidates.reverse();
        let Some((operation, change)) = candidates.pop() else {
            let glimpses = self.evidence.glimpses.get(&revision).map_or(&[][..], |entries| entries);
            let glimpses: Vec<_> = glimpses.iter().map(|entry| describe(Some(entry))).collect();
            let at = self.evidence.first_seen(revision).min(Tick::MAX - 1);
            let what = format!("nobody made revision {revision}, of which was seen: [{}]", glimpses.join(", "));
            return Err(Contradiction::new("dense", at, what));
        };
        if !candidates.is_empty() {
            self.choices.push((revision, candidates));
        }
        self.make(operation, change);
        Ok(())
    }
}

/// The puts of a transaction that name a lease.
pub(crate) fn leases(transaction: &Transaction) -> impl Iterator<Item = LeaseId> {
    transaction.ops.iter().filter_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } => None,
    })
}
