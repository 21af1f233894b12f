//! What `up` and the others show while they start and stop: a line per step, with how long it took.

use std::{cell::Cell, time::Instant};

/// Prints steps to standard error.
pub struct Progress {
    last: Cell<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { last: Cell::new(Instant::now()) }
    }
}

impl Progress {
    /// A step is done.
    pub fn done(&self, what: impl std::fmt::Display) {
        let now = Instant::now();
        let took = now.duration_since(self.last.replace(now));
        eprintln!("  {what} ({:.1} ms)", took.as_secs_f64() * 1000.0);
    }

    /// Steps begin now; the time before counts for none.
    pub fn begin(&self, what: impl std::fmt::Display) {
        self.last.set(Instant::now());
        self.say(what);
    }

    /// Something to know that is no step.
    pub fn say(&self, what: impl std::fmt::Display) {
        eprintln!("{what}");
    }
}
