//! What waits for one sink: bounded, and written in batches by a task.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_core::{
    env::{self, Env, Task},
    signal::Signal,
};

use super::AuditSink;

/// The most events that wait for one sink.
pub const MAX_QUEUED: usize = 10_000;
/// The most bytes that wait for one sink, unless a single event is larger.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// The most events in one batch, as upstream.
pub const MAX_BATCH: usize = 400;
/// How long the first event of a batch waits for others. A process that is killed loses as much.
const GATHERING: Duration = Duration::from_millis(50);

/// The queue of one sink.
pub(super) struct Queue {
    /// The sink's name.
    pub sink: &'static str,
    state: Arc<Signal<State>>,
    /// Whether what waits is to be written now. Beside the state, so that not every event wakes the task.
    hurry: Arc<Signal<bool>>,
    _task: Task,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Whether a batch is being written.
    writing: bool,
    lost: u64,
    /// Whether the last event was dropped: only the first of a run is told.
    full: bool,
}

impl Queue {
    /// An empty queue, and the task that empties it into `sink`.
    pub fn start(env: &Env, sink: Box<dyn AuditSink>) -> Self {
        let (name, state, hurry) = (sink.name(), Arc::new(Signal::new(State::default())), Arc::new(Signal::new(false)));
        let _task = env.spawn("audit", Box::pin(drain(env.clone(), state.clone(), hurry.clone(), sink)));
        Self { sink: name, state, hurry, _task }
    }

    /// Adds an event, or drops it where there is no room.
    pub fn push(&self, event: Bytes) {
        let (mut refused, mut is_batch) = (false, false);
        self.state.modify(|state| {
            let full = state.waiting.len() >= MAX_QUEUED
                || !state.waiting.is_empty() && state.bytes + event.len() > MAX_QUEUED_BYTES;
            refused = full && !state.full;
            state.full = full;
            if full {
                state.lost += 1;
            } else {
                state.bytes += event.len();
                state.waiting.push_back(event);
                is_batch = state.waiting.len() == MAX_BATCH;
            }
        });
        if is_batch {
            self.hurry.modify(|hurry| *hurry = true);
        }
        if refused {
            tracing::error!(sink = self.sink, "the audit queue is full; events are dropped");
        }
    }

    /// How many events were lost.
    pub fn lost(&self) -> u64 {
        let mut lost = 0;
        self.state.modify(|state| lost = state.lost);
        lost
    }

    /// Resolves when nothing waits and nothing is being written.
    pub async fn flushed(&self) {
        self.hurry.modify(|hurry| *hurry = true);
        self.state.wait_for(|state| state.waiting.is_empty() && !state.writing).await;
    }
}

async fn drain(env: Env, state: Arc<Signal<State>>, hurry: Arc<Signal<bool>>, mut sink: Box<dyn AuditSink>) {
    loop {
        state.wait_for(|state| !state.waiting.is_empty()).await;
        let _ = env::timeout(&*env, GATHERING, hurry.wait_for(|hurry| *hurry)).await;
        let (mut batch, mut is_behind) = (Vec::new(), false);
        state.modify(|state| {
            let count = state.waiting.len().min(MAX_BATCH);
            is_behind = state.waiting.len() >= 2 * MAX_BATCH;
            batch.extend(state.waiting.drain(..count));
            state.bytes -= batch.iter().map(Bytes::len).sum::<usize>();
            state.writing = true;
        });
        hurry.modify(|hurry| *hurry = is_behind);
        let count = batch.len() as u64;
        let written = sink.write(batch).await;
        if let Err(why) = &written {
            tracing::error!(sink = sink.name(), why, count, "audit events are lost");
        }
        state.modify(|state| {
            state.writing = false;
            state.lost += if written.is_err() { count } else { 0 };
        });
    }
}
