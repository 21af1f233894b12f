//! The backend that forgets: everything in memory, every write done before `commit` returns.

use std::sync::Arc;

use k8s_core::env::Env;
use parking_lot::Mutex;

use crate::{
    Retention, StoreError,
    core::Core,
    engine::{Engine, Writer, impl_store},
    plan::{Answer, Command, Plan},
};

/// A store that lives as long as this value. For tests, simulations and throw-away clusters.
///
/// No operation waits, so under a paused clock and in a single thread it is deterministic. It starts no task until
/// the first lease is granted.
pub struct Memory {
    engine: Engine<Direct>,
}

impl Memory {
    /// An empty store that keeps the usual amount of history.
    pub fn new(env: Env) -> Self {
        Self::retaining(env, Retention::default())
    }

    /// An empty store that keeps as much history as `retention` says.
    pub fn retaining(env: Env, retention: Retention) -> Self {
        let core = Arc::new(Core::empty(env, retention));
        let writer = Arc::new(Direct { core: core.clone(), turn: Mutex::new(()) });
        Self { engine: Engine::new(core, writer) }
    }
}

impl_store!(Memory, |_, statistics| statistics);

/// Carries each command out in its caller's own time.
struct Direct {
    core: Arc<Core>,
    /// Held from deciding to publishing: one command at a time.
    turn: Mutex<()>,
}

impl Writer for Direct {
    async fn write(&self, command: Command) -> Result<Answer, StoreError> {
        let _turn = self.turn.lock();
        let now = self.core.env.monotonic();
        let (answer, effect) = {
            let published = self.core.published.read();
            published.writable()?;
            let mut leases = self.core.leases.lock();
            let planned = Plan::new(&published.state, published.history.oldest(), &mut leases, now).add(command)?;
            leases.settle();
            planned
        };
        self.core.publish(std::iter::once(&effect))?;
        Ok(answer)
    }
}
