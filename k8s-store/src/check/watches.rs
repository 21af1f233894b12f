//! The promises about watches, each as a function over what watches yielded. They hold for whatever forwards a change
//! feed, so they can be applied at any layer that yields [`WatchItem`]s.
//!
//! | Function | Promise |
//! |---|---|
//! | [`ordered`] | revisions rise |
//! | [`unique`] | nothing comes twice |
//! | [`atomic`] | all of a revision comes in one item |
//! | [`reliable`] | between the first and the last item nothing is missing |
//! | [`resumable`] | the first item is the first change after the revision that was asked for |
//! | [`bookmarkable`] | progress never overtakes a change, and never runs ahead |
//! | [`filtered`] | nothing comes that is not under the prefix |
//! | [`previous_values`] | an event says truly what was there before |
//! | [`flags`] | a create is told from an update and from a delete, and dated right |

use std::{collections::BTreeSet, sync::Arc};

use super::{
    contradiction::{Contradiction, describe_change},
    history::{Tick, WatchRecord, describe},
    truth::Truth,
};
use crate::{Change, ChangeEvent, Revision, WatchItem};

type Outcome = Result<(), Contradiction>;

/// Applies all of them.
pub fn validate(truth: &Truth, watch: &WatchRecord) -> Outcome {
    ordered(watch)?;
    unique(watch)?;
    filtered(watch)?;
    resumable(truth, watch)?;
    reliable(truth, watch)?;
    atomic(truth, watch)?;
    bookmarkable(truth, watch)?;
    previous_values(truth, watch)?;
    flags(truth, watch)
}

fn broken(promise: &'static str, watch: &WatchRecord, at: Tick, what: String) -> Contradiction {
    let who = format!("the watch of {:?} after {} by client {}", watch.prefix, watch.from, watch.client);
    Contradiction::new(promise, at, format!("{who} {what}"))
}

fn changes(watch: &WatchRecord) -> impl Iterator<Item = (Tick, &Arc<Change>)> {
    watch.items.iter().filter_map(|(tick, item)| match item {
        Ok(WatchItem::Change(change)) => Some((*tick, change)),
        _ => None,
    })
}

fn events(watch: &WatchRecord) -> impl Iterator<Item = (Tick, Revision, &ChangeEvent)> {
    changes(watch).flat_map(|(tick, change)| change.events.iter().map(move |event| (tick, change.revision, event)))
}

/// Revisions never fall, and begin after the one that was asked for.
pub fn ordered(watch: &WatchRecord) -> Outcome {
    let mut last = watch.from;
    for (tick, change) in changes(watch) {
        if change.revision < last || change.revision <= watch.from {
            let what = format!("yielded revision {} after {last}", change.revision);
            return Err(broken("ordered", watch, tick, what));
        }
        last = change.revision;
    }
    Ok(())
}

/// No key's change at a revision comes twice.
pub fn unique(watch: &WatchRecord) -> Outcome {
    let mut seen = BTreeSet::new();
    match events(watch).find(|(_, revision, event)| !seen.insert((*revision, &event.key))) {
        Some((tick, revision, event)) => {
            Err(broken("unique", watch, tick, format!("yielded {} at revision {revision} twice", event.key)))
        }
        None => Ok(()),
    }
}

/// An item is all of its revision that is under the prefix.
pub fn atomic(truth: &Truth, watch: &WatchRecord) -> Outcome {
    for (tick, change) in changes(watch) {
        let whole = truth.change(change.revision).and_then(|whole| whole.under(&watch.prefix));
        let count = whole.as_ref().map_or(0, |whole| whole.events.len());
        let all =
            whole.is_some_and(|whole| whole.events.iter().map(|e| &e.key).eq(change.events.iter().map(|e| &e.key)));
        if !all {
            let what = format!("yielded {} where the revision has {count} events", describe_change(change));
            return Err(broken("atomic", watch, tick, what));
        }
    }
    Ok(())
}

/// After the first item no change is missing up to the last item.
pub fn reliable(truth: &Truth, watch: &WatchRecord) -> Outcome {
    let Some((_, first)) = changes(watch).next() else { return Ok(()) };
    let mut expected = expected(truth, watch, first.revision.0.saturating_sub(1));
    for (tick, change) in changes(watch) {
        match expected.next() {
            Some(next) if next == change.revision => {}
            next => {
                let next = next.map_or("nothing".into(), |next| format!("revision {next}"));
                let what = format!("yielded revision {}, and {next} was next", change.revision);
                return Err(broken("reliable", watch, tick, what));
            }
        }
    }
    Ok(())
}

/// The first change is the first after the revision that was asked for.
pub fn resumable(truth: &Truth, watch: &WatchRecord) -> Outcome {
    let Some((tick, first)) = changes(watch).next() else { return Ok(()) };
    match expected(truth, watch, watch.from.0).next() {
        Some(expected) if expected != first.revision => {
            let what = format!("began with revision {}, and {expected} was the first", first.revision);
            Err(broken("resumable", watch, tick, what))
        }
        _ => Ok(()),
    }
}

/// Whoever resumes from a progress misses nothing and sees nothing again.
pub fn bookmarkable(truth: &Truth, watch: &WatchRecord) -> Outcome {
    let mut missing = expected(truth, watch, watch.from.0).peekable();
    let mut bookmark = watch.from;
    for (tick, item) in &watch.items {
        match item {
            Ok(WatchItem::Change(change)) if change.revision <= bookmark => {
                let what = format!("yielded revision {} after progress {bookmark}", change.revision);
                return Err(broken("bookmarkable", watch, *tick, what));
            }
            Ok(WatchItem::Change(change)) => while missing.next_if(|next| *next <= change.revision).is_some() {},
            Ok(WatchItem::Progress(progress)) => {
                let overtaken = missing.peek().is_some_and(|next| next <= progress);
                if overtaken || *progress < bookmark || *progress > truth.head() {
                    let next = missing.peek().map_or("nothing".into(), ToString::to_string);
                    let what = format!("told progress {progress} after {bookmark}; the next change was {next}");
                    return Err(broken("bookmarkable", watch, *tick, what));
                }
                bookmark = *progress;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Every key starts with the prefix.
pub fn filtered(watch: &WatchRecord) -> Outcome {
    match events(watch).find(|(.., event)| !event.key.starts_with(&watch.prefix)) {
        Some((tick, revision, event)) => {
            Err(broken("filtered", watch, tick, format!("yielded {} at revision {revision}", event.key)))
        }
        None => Ok(()),
    }
}

/// What an event says was there before was there.
pub fn previous_values(truth: &Truth, watch: &WatchRecord) -> Outcome {
    for (tick, revision, event) in events(watch) {
        let before = truth.at(&event.key, Revision(revision.0 - 1));
        if event.previous.as_ref() != before {
            let (said, was) = (describe(event.previous.as_ref()), describe(before));
            let what = format!("says at revision {revision} that {} was {said}; it was {was}", event.key);
            return Err(broken("previous values", watch, tick, what));
        }
    }
    Ok(())
}

/// What an event says is there now is there, created and modified when it says.
pub fn flags(truth: &Truth, watch: &WatchRecord) -> Outcome {
    for (tick, revision, event) in events(watch) {
        let now = truth.at(&event.key, revision);
        let create = event.entry.as_ref().is_some_and(|entry| entry.created == entry.modified);
        if event.entry.as_ref() != now || (event.entry.is_some() && create != event.previous.is_none()) {
            let (said, is) = (describe(event.entry.as_ref()), describe(now));
            let what = format!("says at revision {revision} that {} is {said}; it is {is}", event.key);
            return Err(broken("flags", watch, tick, what));
        }
    }
    Ok(())
}

/// The revisions after `from` that touch the prefix.
fn expected<'a>(truth: &'a Truth, watch: &'a WatchRecord, from: u64) -> impl Iterator<Item = Revision> + 'a {
    let touches = |change: &&Arc<Change>| change.events.iter().any(|event| event.key.starts_with(&watch.prefix));
    truth.after(Revision(from)).iter().filter(touches).map(|change| change.revision)
}

#[cfg(test)]
mod tests;
