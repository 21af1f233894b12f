//! Every operation against the order in which everything happened: each must have an instant, between its call and its
//! return, at which the store was as the operation says, and no operation may see less than one that ended before it
//! began.

use std::collections::BTreeMap;

use super::{
    contradiction::Contradiction,
    history::{Answer, Call, History, Operation, Tick, describe},
    replay::{Replay, leases},
    truth::Truth,
};
use crate::{Entry, Key, LeaseId, Listing, Page, Revision, StoreError, Transaction, WatchItem};

/// Goes through the history in the order of time.
pub(crate) struct Reads<'a> {
    history: &'a History,
    replay: &'a Replay<'a>,
    truth: &'a Truth,
    leases: BTreeMap<LeaseId, Life>,
    /// Revisions that somebody asked to compact to, and when.
    compactions: BTreeMap<Revision, Tick>,
    now: Seen,
    /// What had been seen when each operation began.
    before: Vec<Seen>,
}

/// What is known to everybody at a moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    head: Revision,
    oldest: Revision,
}

/// When a lease may have begun and ended, and when it surely had.
struct Life {
    granted: Tick,
    may_have_ended: Tick,
    surely_ended: Tick,
}

enum Moment {
    Invoked(usize),
    Returned(usize),
    Item(usize, usize),
}

impl<'a> Reads<'a> {
    pub(crate) fn check(history: &'a History, replay: &'a Replay<'a>) -> Result<(), Contradiction> {
        let (leases, compactions) = (BTreeMap::new(), BTreeMap::new());
        let before = vec![Seen::default(); history.operations.len()];
        let mut reads =
            Self { history, replay, truth: &replay.truth, leases, compactions, now: Seen::default(), before };
        let outcome = reads.gather().and_then(|()| reads.sweep());
        outcome.map_err(|contradiction| contradiction.amid(history, &replay.truth))
    }

    fn gather(&mut self) -> Result<(), Contradiction> {
        for operation in &self.history.operations {
            if let (Call::Grant(_), Some(Answer::Granted(lease))) = (&operation.call, operation.answer()) {
                let life = Life { granted: operation.invoked, may_have_ended: Tick::MAX, surely_ended: Tick::MAX };
                if self.leases.insert(*lease, life).is_some() {
                    let what = format!("{operation}: the number was given before");
                    return Err(Contradiction::new("leases", operation.invoked, what));
                }
            }
            if let Call::Compact(revision) = &operation.call {
                self.compactions.entry(*revision).or_insert(operation.invoked);
            }
        }
        for operation in &self.history.operations {
            if let Call::Revoke(lease) = &operation.call
                && let Some(life) = self.leases.get_mut(lease)
                && (operation.outcome_unknown() || operation.answer().is_some())
            {
                life.may_have_ended = life.may_have_ended.min(operation.invoked);
                if let (Some(_), Some((tick, _))) = (operation.answer(), &operation.returned) {
                    life.surely_ended = life.surely_ended.min(*tick);
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), Contradiction> {
        let mut moments = Vec::new();
        for (index, operation) in self.history.operations.iter().enumerate() {
            moments.push((operation.invoked, Moment::Invoked(index)));
            moments.extend(operation.returned.as_ref().map(|(tick, _)| (*tick, Moment::Returned(index))));
        }
        for (index, watch) in self.history.watches.iter().enumerate() {
            moments.extend(watch.items.iter().enumerate().map(|(item, (tick, _))| (*tick, Moment::Item(index, item))));
        }
        moments.sort_unstable_by_key(|(tick, _)| *tick);
        for (tick, moment) in moments {
            match moment {
                Moment::Invoked(operation) => self.before[operation] = self.now,
                Moment::Returned(operation) => {
                    let position = self.returned(operation)?;
                    self.now.head = self.now.head.max(position);
                }
                Moment::Item(watch, item) => self.item(tick, watch, item)?,
            }
        }
        Ok(())
    }

    fn item(&mut self, tick: Tick, watch: usize, item: usize) -> Result<(), Contradiction> {
        let revision = match &self.history.watches[watch].items[item].1 {
            Ok(WatchItem::Change(change)) => change.revision,
            Ok(WatchItem::Progress(revision)) => *revision,
            Err(_) => return Ok(()),
        };
        if revision > self.truth.head() || self.truth.asked(revision) > tick {
            let what = format!("watch {watch} knew of revision {revision} before it was asked for");
            return Err(Contradiction::new("linearizable", tick, what));
        }
        self.now.head = self.now.head.max(revision);
        Ok(())
    }

    /// Checks an outcome; returns a revision that it shows to have happened.
    fn returned(&mut self, index: usize) -> Result<Revision, Contradiction> {
        let operation = &self.history.operations[index];
        let Some((returned, outcome)) = &operation.returned else { return Ok(Revision::ZERO) };
        let moment = Instants { truth: self.truth, seen: self.before[index], returned: *returned, operation };
        match (&operation.call, outcome) {
            (Call::Commit(transaction), outcome) => self.commit(&moment, transaction, outcome, index),
            (Call::Head | Call::Progress, Ok(Answer::Revision(revision))) => moment.exactly(*revision),
            (Call::Get(key), Ok(Answer::Entry(entry))) => moment.get(key, entry.as_ref()),
            (Call::List(prefix, page), Ok(Answer::Listing(listing))) => {
                self.readable(&moment, page.at)?;
                moment.list(prefix, page, listing)
            }
            (Call::Watch(_, from), Ok(_)) => {
                self.readable(&moment, Some(*from))?;
                moment.happened(*from)
            }
            (Call::List(_, Page { at: Some(at), .. }) | Call::Watch(_, at), Err(error)) => {
                self.unreadable(&moment, *at, error)
            }
            (Call::Compact(revision), Ok(_)) => {
                let position = moment.happened(*revision)?;
                self.now.oldest = self.now.oldest.max(*revision);
                Ok(position)
            }
            (Call::Compact(revision), Err(StoreError::Future { head })) => moment.future(*revision, *head),
            (Call::KeepAlive(lease) | Call::Revoke(lease), outcome) => self.lease(&moment, *lease, outcome, index),
            (Call::Digest, Ok(Answer::Digest(digest))) => {
                let what = || "the digest is of no state that there was meanwhile".into();
                moment.some("digest", |revision| self.truth.digest(revision, self.history.base) == *digest, what)
            }
            _ => Ok(Revision::ZERO),
        }
    }

    fn commit(
        &self,
        moment: &Instants<'_>,
        transaction: &Transaction,
        outcome: &Result<Answer, StoreError>,
        index: usize,
    ) -> Result<Revision, Contradiction> {
        match outcome {
            Ok(Answer::Committed(committed)) => {
                for lease in leases(transaction) {
                    self.lease(moment, lease, outcome, index)?;
                }
                match &committed.change {
                    Some(_) => moment.later_than_seen(committed.revision),
                    None => moment.nothing(transaction, committed.revision),
                }
            }
            Err(StoreError::Conflict { key, found }) => moment.conflict(transaction, key, found.as_ref()),
            Err(StoreError::LeaseNotFound { lease }) => self.lease(moment, *lease, outcome, index),
            _ => Ok(Revision::ZERO),
        }
    }

    /// What is compacted must not be answered.
    fn readable(&self, moment: &Instants<'_>, at: Option<Revision>) -> Result<(), Contradiction> {
        match at {
            Some(at) if at < moment.seen.oldest => {
                Err(moment.wrong("no gaps", format!("answered, though {} was compacted before", moment.seen.oldest)))
            }
            _ => Ok(()),
        }
    }

    fn unreadable(
        &mut self,
        moment: &Instants<'_>,
        at: Revision,
        error: &StoreError,
    ) -> Result<Revision, Contradiction> {
        match error {
            StoreError::Compacted { oldest } => {
                let asked = self.compactions.get(oldest).is_some_and(|tick| *tick < moment.returned);
                let asked = asked || self.history.compacts_itself;
                if at >= *oldest || *oldest < moment.seen.oldest || !asked {
                    let known = moment.seen.oldest;
                    return Err(
                        moment.wrong("no gaps", format!("the oldest was {known}, and nobody asked for {oldest}"))
                    );
                }
                self.now.oldest = self.now.oldest.max(*oldest);
                Ok(*oldest)
            }
            StoreError::Future { head } => moment.future(at, *head),
            _ => Ok(Revision::ZERO),
        }
    }

    /// Whether a lease may have been there, or not, as the outcome says.
    fn lease(
        &self,
        moment: &Instants<'_>,
        lease: LeaseId,
        outcome: &Result<Answer, StoreError>,
        index: usize,
    ) -> Result<Revision, Contradiction> {
        let life = self.leases.get(&lease);
        let ended_before = life.is_none_or(|life| life.surely_ended < moment.operation.invoked);
        let alive_after = life.is_some_and(|life| {
            let by_this = matches!(moment.operation.call, Call::Revoke(_)) && outcome.is_ok();
            life.granted < moment.returned && life.may_have_ended > moment.returned && !by_this
        });
        match outcome {
            Ok(_) if ended_before => Err(moment.wrong("leases", format!("lease {lease} had ended before the call"))),
            Err(StoreError::LeaseNotFound { .. }) if alive_after => {
                Err(moment.wrong("leases", format!("lease {lease} was there all the time")))
            }
            Ok(_) if matches!(moment.operation.call, Call::Revoke(_)) && !self.replay.happened(index) => {
                let free = |revision| self.truth.list("", None, revision).all(|entry| entry.lease != Some(lease));
                moment.some("leases", free, || format!("keys of lease {lease} are left"))
            }
            _ => Ok(Revision::ZERO),
        }
    }
}

/// The instants at which an operation may have happened.
struct Instants<'a> {
    truth: &'a Truth,
    seen: Seen,
    returned: Tick,
    operation: &'a Operation,
}

impl Instants<'_> {
    fn wrong(&self, promise: &'static str, what: impl AsRef<str>) -> Contradiction {
        Contradiction::new(promise, self.operation.invoked, format!("{}: {}", self.operation, what.as_ref()))
    }

    /// The first revision at which something holds, of those that the store may have been at.
    fn some(
        &self,
        promise: &'static str,
        holds: impl Fn(Revision) -> bool,
        what: impl FnOnce() -> String,
    ) -> Result<Revision, Contradiction> {
        let mut revision = self.seen.head;
        loop {
            if holds(revision) {
                return Ok(revision);
            }
            revision = revision.next();
            if revision > self.truth.head() || self.truth.asked(revision) > self.returned {
                let from = self.seen.head;
                let range = format!("; the store was between revisions {from} and {}", Revision(revision.0 - 1));
                return Err(self.wrong(promise, what() + &range));
            }
        }
    }

    fn exactly(&self, revision: Revision) -> Result<Revision, Contradiction> {
        self.some("linearizable", |at| at == revision, || format!("the store was not at revision {revision}"))
    }

    /// A revision that need not be the newest, but must have happened.
    fn happened(&self, revision: Revision) -> Result<Revision, Contradiction> {
        self.some("linearizable", |at| at >= revision, || format!("revision {revision} had not happened"))?;
        Ok(revision)
    }

    fn later_than_seen(&self, revision: Revision) -> Result<Revision, Contradiction> {
        if revision <= self.seen.head {
            return Err(self.wrong("linearizable", format!("revision {} had been seen before", self.seen.head)));
        }
        Ok(revision)
    }

    fn future(&self, asked: Revision, head: Revision) -> Result<Revision, Contradiction> {
        if asked <= head {
            return Err(self.wrong("no gaps", "refused, though it has happened"));
        }
        self.exactly(head)
    }

    fn get(&self, key: &Key, entry: Option<&Entry>) -> Result<Revision, Contradiction> {
        let expected = || format!("expected was {}", describe(self.truth.at(key, self.seen.head)));
        self.some("linearizable", |revision| self.truth.at(key, revision) == entry, expected)
    }

    fn list(&self, prefix: &str, page: &Page, listing: &Listing) -> Result<Revision, Contradiction> {
        let position = match page.at {
            Some(at) if at != listing.revision => return Err(self.wrong("pages", format!("asked was revision {at}"))),
            Some(at) => self.happened(at)?,
            None => self.exactly(listing.revision)?,
        };
        let limit = page.limit.unwrap_or(usize::MAX);
        let mut all = self.truth.list(prefix, page.after.as_ref(), listing.revision);
        let expected: Vec<_> = all.by_ref().take(limit).collect();
        let remaining = all.count() as u64;
        if !expected.iter().copied().eq(&listing.entries) {
            let expected: Vec<_> = expected.into_iter().map(|entry| describe(Some(entry))).collect();
            return Err(self.wrong("pages", format!("expected was [{}]", expected.join(", "))));
        }
        if (listing.more, listing.remaining) != (remaining > 0, remaining) {
            let said = (listing.more, listing.remaining);
            return Err(self.wrong("pages", format!("{remaining} entries remain, and it says {said:?}")));
        }
        Ok(position)
    }

    fn conflict(&self, transaction: &Transaction, key: &Key, found: Option<&Entry>) -> Result<Revision, Contradiction> {
        let holds = |revision| self.truth.refuses(&transaction.guards, revision) == Some((key, found));
        self.some("guards", holds, || format!("there was no conflict on {key} with {}", describe(found)))
    }

    fn nothing(&self, transaction: &Transaction, revision: Revision) -> Result<Revision, Contradiction> {
        let quiet = |at| {
            at == revision
                && self.truth.refuses(&transaction.guards, at).is_none()
                && self.truth.predict(transaction, at).is_none()
        };
        self.some("dense", quiet, || "it should have changed something".into())
    }
}
