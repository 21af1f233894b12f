//! The promises of a mirror: a copy that a reader keeps by listing, watching, and listing again when it must. An informer
//! is one.
//!
//! A mirror may leave changes out, but only by a list: it then tells the difference between what it had and what it found.
//! So the promises of [`watches`](super::watches) do not hold for it as they stand, and these do:
//!
//! | Function | Promise |
//! |---|---|
//! | [`chained`] | what a change says was there before is what was told last |
//! | [`genuine`] | everything that is told was once there |
//! | [`forward`] | no key goes back: not to an older state, not from its deletion, not over a restart |
//! | [`compressed`] | a state is left out only where a list showed a later one |
//! | [`current`] | a mirror that says how far it is shows nothing older than that |
//! | [`whole`] | in the end, what was told adds up to the truth: no last state is missing, and no deletion |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{contradiction::Contradiction, history::Tick, truth::Truth};
use crate::{Entry, Key, Revision};

type Outcome = Result<(), Contradiction>;

/// A state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that made it.
    pub modified: Revision,
    /// What it holds.
    pub value: Bytes,
}

/// What a mirror told a listener.
#[derive(Clone, Debug)]
pub enum Told {
    /// The mirror began, with nothing: all that is there will be told.
    Began,
    /// A key changed.
    Change {
        /// The key.
        key: Key,
        /// What was there before; `None` if nothing.
        old: Option<Version>,
        /// What is there now; `None` if it is gone.
        new: Option<Version>,
    },
}

/// A look at all of a mirror.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Tick,
    /// How far the mirror said, just before, that it is.
    pub reached: Revision,
    /// What it showed.
    pub shown: BTreeMap<Key, Version>,
}

/// What is known of one mirror.
#[derive(Clone, Debug, Default)]
pub struct MirrorRecord {
    /// Whose it is.
    pub client: usize,
    /// What it was told to hold.
    pub prefix: String,
    /// What a listener was told, and when.
    pub told: Vec<(Tick, Told)>,
    /// The revisions of the lists that it was given.
    pub lists: BTreeSet<Revision>,
    /// Looks at it.
    pub looks: Vec<Look>,
}

/// Applies all of them, when the mirror has come to the end of the truth.
pub fn validate(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    chained(mirror)?;
    genuine(truth, mirror)?;
    forward(truth, mirror)?;
    compressed(truth, mirror)?;
    current(truth, mirror)?;
    whole(truth, mirror)
}

fn broken(promise: &'static str, mirror: &MirrorRecord, at: Tick, what: String) -> Contradiction {
    Contradiction::new(promise, at, format!("the mirror of {:?} of client {} {what}", mirror.prefix, mirror.client))
}

fn describe(version: Option<&Version>) -> String {
    version.map_or("nothing".into(), |version| format!("of revision {}", version.modified))
}

fn changes(mirror: &MirrorRecord) -> impl Iterator<Item = (Tick, &Key, Option<&Version>, Option<&Version>)> {
    mirror.told.iter().filter_map(|(tick, told)| match told {
        Told::Began => None,
        Told::Change { key, old, new } => Some((*tick, key, old.as_ref(), new.as_ref())),
    })
}

/// A change begins where the last one of its key ended.
pub fn chained(mirror: &MirrorRecord) -> Outcome {
    let mut known: BTreeMap<&Key, &Version> = BTreeMap::new();
    for (tick, told) in &mirror.told {
        let Told::Change { key, old, new } = told else {
            known.clear();
            continue;
        };
        let last = known.get(key).copied();
        if last != old.as_ref() || (old.is_none() && new.is_none()) {
            let (said, was) = (describe(old.as_ref()), describe(last));
            return Err(broken("chained", mirror, *tick, format!("says that {key} was {said}; it had told {was}")));
        }
        match new {
            Some(new) => known.insert(key, new),
            None => known.remove(key),
        };
    }
    Ok(())
}

/// Every state that is told is one that the key was in.
pub fn genuine(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    for (tick, key, _, new) in changes(mirror) {
        if let Some(new) = new
            && !truth.at(key, new.modified).is_some_and(|entry| is(entry, new))
        {
            let what = format!("tells {key} {}, which it never was", describe(Some(new)));
            return Err(broken("genuine", mirror, tick, what));
        }
    }
    Ok(())
}

fn is(entry: &Entry, version: &Version) -> bool {
    entry.modified == version.modified && entry.value == version.value
}

/// A told state, by its place in the life of its key.
struct Step<'a> {
    tick: Tick,
    key: &'a Key,
    /// The place that was told before, also by an earlier beginning; `None` if none was.
    before: Option<usize>,
    /// The place that is told; `None` if the key was never so.
    place: Option<usize>,
    /// Whether the mirror had told since it began that the key is there.
    was_there: bool,
    /// Whether this is the first that it tells of the key since it began.
    is_first: bool,
}

fn steps<'a>(truth: &'a Truth, mirror: &'a MirrorRecord) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let mut last: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut since_begun: BTreeMap<&Key, bool> = BTreeMap::new();
    for (tick, told) in &mirror.told {
        let Told::Change { key, new, .. } = told else {
            since_begun.clear();
            continue;
        };
        let before = last.get(key).copied();
        let life = truth.versions(key);
        let place = match new {
            Some(new) => life.iter().position(|(at, entry)| *at == new.modified && entry.is_some()),
            None => (before.map_or(0, |before| before + 1)..life.len()).find(|place| life[*place].1.is_none()),
        };
        last.extend(place.map(|place| (key, place)));
        let known = since_begun.insert(key, new.is_some());
        let (is_first, was_there) = (known.is_none(), known == Some(true));
        steps.push(Step { tick: *tick, key, before, place, was_there, is_first });
    }
    steps
}

/// No key goes back. Only a mirror that began again may tell a state twice.
pub fn forward(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    for Step { tick, key, before, place, is_first, .. } in steps(truth, mirror) {
        let goes_on = match (before, place) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(place)) => place > before || (is_first && place == before),
        };
        if !goes_on {
            let at = |place: Option<usize>| place.map_or("one that never was".into(), |place| place.to_string());
            let (before, place) = (at(before), at(place));
            let what = format!("goes back with {key}: from its state {before} to its state {place}");
            return Err(broken("forward", mirror, tick, what));
        }
    }
    Ok(())
}

/// What was left out was left out by a list: it showed the state that was told, or that nothing was there when nothing
/// was known to be.
pub fn compressed(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    for Step { tick, key, before, place, was_there, .. } in steps(truth, mirror) {
        let Some(place) = place else { continue };
        let next = before.map_or(0, |before| before + 1);
        let life = truth.versions(key);
        let tells_it_gone = life[place].1.is_none();
        let is_shown = |list: &Revision| {
            let count = life.partition_point(|(at, _)| at <= list);
            // That it is gone tells nothing of which time: it may have come back and gone again.
            let shows_it_gone = count > 0 && life[count - 1].1.is_none();
            let gone = if tells_it_gone { count > place } else { count == place && !was_there };
            count == place + 1 || (shows_it_gone && gone)
        };
        if place > next && !mirror.lists.iter().any(is_shown) {
            let what = format!("left out revision {} of {key}, and no list showed {}", life[next].0, life[place].0);
            return Err(broken("compressed", mirror, tick, what));
        }
    }
    Ok(())
}

/// Whoever waits until a mirror has come to a revision finds in it all that had happened by then.
pub fn current(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    for look in &mirror.looks {
        let there = truth.list(&mirror.prefix, None, look.reached).map(|entry| &entry.key);
        for key in there.chain(look.shown.keys()).collect::<BTreeSet<_>>() {
            let life = truth.versions(key);
            let from = life.partition_point(|(at, _)| *at <= look.reached).saturating_sub(1);
            let absent_at_first = life.first().is_none_or(|(at, _)| *at > look.reached);
            let mut later = life[from.min(life.len())..].iter().map(|(_, entry)| entry.as_ref());
            let shown = look.shown.get(key);
            let fits = match shown {
                None => absent_at_first || later.any(|entry| entry.is_none()),
                Some(shown) => later.flatten().any(|entry| is(entry, shown)),
            };
            if !fits {
                let (shown, was) = (describe(shown), truth.at(key, look.reached).map(|entry| entry.modified));
                let what = format!("says that it is at {} and shows {key} {shown}; it was {was:?}", look.reached);
                return Err(broken("current", mirror, look.at, what));
            }
        }
    }
    Ok(())
}

/// What was told adds up to what there is in the end.
pub fn whole(truth: &Truth, mirror: &MirrorRecord) -> Outcome {
    let mut told: BTreeMap<&Key, &Version> = BTreeMap::new();
    let mut last = 0;
    for (tick, item) in &mirror.told {
        last = *tick;
        match item {
            Told::Began => told.clear(),
            Told::Change { key, new: Some(new), .. } => drop(told.insert(key, new)),
            Told::Change { key, new: None, .. } => drop(told.remove(key)),
        }
    }
    let there: BTreeMap<_, _> =
        truth.list(&mirror.prefix, None, truth.head()).map(|entry| (&entry.key, entry)).collect();
    for key in there.keys().chain(told.keys()) {
        let (is_there, was_told) = (there.get(*key), told.get(*key));
        let same = match (is_there, was_told) {
            (Some(entry), Some(version)) => is(entry, version),
            (one, other) => one.is_none() && other.is_none(),
        };
        if !same {
            let (there, told) = (is_there.map(|entry| entry.modified), describe(was_told.copied()));
            let what = format!("last told {key} as {told}; there is, in the end, {there:?}");
            return Err(broken("whole", mirror, last, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
