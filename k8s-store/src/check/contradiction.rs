//! The first thing in a history that no sound store does.

use std::fmt::{self, Write};

use super::{
    history::{History, Tick, describe},
    truth::Truth,
};
use crate::{Change, Revision};

/// Why a history is impossible.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The promise that is broken.
    pub promise: &'static str,
    /// What was seen, and what should have been.
    pub what: String,
    /// When it was seen.
    pub at: Tick,
    /// What else happened around that moment, a line each.
    pub neighbourhood: Vec<String>,
}

/// How many operations before and after are shown.
const NEIGHBOURS: usize = 8;

impl Contradiction {
    /// A promise that was seen to be broken at a moment.
    pub fn new(promise: &'static str, at: Tick, what: impl Into<String>) -> Self {
        Self { promise, what: what.into(), at, neighbourhood: Vec::new() }
    }

    /// Adds what happened around it.
    pub fn amid(mut self, history: &History, truth: &Truth) -> Self {
        let index = history.operations.partition_point(|operation| operation.invoked < self.at);
        let range = index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS).min(history.operations.len());
        self.neighbourhood = history.operations[range].iter().map(ToString::to_string).collect();
        let known = truth.head().0;
        for revision in known.saturating_sub(NEIGHBOURS as u64) + 1..=known {
            if let Some(change) = truth.change(Revision(revision)) {
                self.neighbourhood.push(describe_change(change));
            }
        }
        self
    }
}

/// A change in one line.
pub(crate) fn describe_change(change: &Change) -> String {
    let mut line = format!("revision {}:", change.revision);
    for event in &change.events {
        let (was, is) = (describe(event.previous.as_ref()), describe(event.entry.as_ref()));
        // Writing into a string cannot fail.
        let _ = write!(line, " {} was {was}, is {is};", event.key);
    }
    line
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} (at moment {})", self.promise, self.what, self.at)?;
        self.neighbourhood.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
