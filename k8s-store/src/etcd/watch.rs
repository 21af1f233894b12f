//! One reader's watch: an etcd watch over *all* keys, of which the reader is shown those under its prefix.
//!
//! Every revision of an etcd has at least one event, so a watch over everything knows by itself how far it has come,
//! and sees if a revision is left out. Progress is therefore a matter of counting. It needs nothing of the server: in
//! etcd before 3.4.25 and 3.5.8 a requested progress notice may overtake events, and a watch that trusted it would
//! lose them. The price is that on an etcd with other users, their events cross the network, too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use etcd_client::{Event, EventType, WatchOptions, WatchResponse};
use futures::stream;

use super::{Shared, keyspace, watchers::Slot};
use crate::{Change, ChangeEvent, Revision, StoreError, WatchItem, WatchStream};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Watch {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    prefix: String,
    /// Every change up to here was yielded or is in `ready`, or is not under the prefix.
    seen: Revision,
    ready: VecDeque<Arc<Change>>,
    stream: Option<etcd_client::WatchStream>,
    pause: Duration,
    /// The last stream left out the revision after `seen`.
    gap: bool,
    ended: bool,
}

/// Begins after `from`, or says why not.
pub(super) async fn open(shared: &Arc<Shared>, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
    let mut watch = Watch {
        slot: shared.watchers.register(),
        shared: shared.clone(),
        prefix: prefix.into(),
        seen: from,
        ready: VecDeque::new(),
        stream: None,
        pause: FIRST_PAUSE,
        gap: false,
        ended: false,
    };
    watch.stream = Some(watch.start().await?);
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        if watch.ended {
            return None;
        }
        let item = watch.next().await;
        watch.ended = item.is_err();
        Some((item, watch))
    })))
}

impl Watch {
    async fn next(&mut self) -> Result<WatchItem, StoreError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(WatchItem::Change(change));
            }
            if self.slot.answer(self.seen) {
                return Ok(WatchItem::Progress(self.seen));
            }
            if self.shared.watchers.closed_at().is_some_and(|last| self.seen >= last) {
                return Err(StoreError::Closed);
            }
            self.advance().await?;
        }
    }

    /// Takes in one answer, or mends the stream.
    async fn advance(&mut self) -> Result<(), StoreError> {
        let Some(stream) = &mut self.stream else { return self.restart().await };
        let message = tokio::select! {
            biased;
            () = self.slot.told.notified() => return Ok(()),
            message = stream.message() => message,
        };
        match message {
            Ok(Some(response)) if response.canceled() => self.cancelled(&response).await,
            Ok(Some(response)) => self.take(&response).await,
            Ok(None) | Err(_) => {
                self.stream = None;
                Ok(())
            }
        }
    }

    /// Goes on after `seen` with whatever member answers, for as long as it takes.
    async fn restart(&mut self) -> Result<(), StoreError> {
        if self.shared.watchers.closed_at().is_some() {
            return Err(StoreError::Closed);
        }
        match self.start().await {
            Ok(stream) => self.stream = Some(stream),
            Err(StoreError::Unavailable(why)) => {
                tracing::debug!(why, "a watch waits for etcd");
                let env = self.shared.connection.env.clone();
                let pause = env.sleep(env.jitter(self.pause, 1.0));
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                tokio::select! {
                    biased;
                    () = self.slot.told.notified() => {}
                    () = pause => {}
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A stream after `seen`. etcd begins a watch at the compacted revision itself, where deletes are gone, and one in
    /// the future without a word; so both ends are checked, after the stream has begun.
    async fn start(&self) -> Result<etcd_client::WatchStream, StoreError> {
        let connection = &self.shared.connection;
        let mut client = connection.watch_client().await?;
        let options =
            WatchOptions::new().with_all_keys().with_prev_key().with_start_revision(keyspace::number(self.seen.next()));
        let stream = connection.once(client.watch(Vec::new(), Some(options))).await?;
        self.shared.check_kept(self.seen).await?;
        Ok(stream)
    }

    async fn cancelled(&mut self, response: &WatchResponse) -> Result<(), StoreError> {
        self.stream = None;
        if response.compact_revision() > 0 {
            return Err(self.compacted().await);
        }
        if response.cancel_reason().contains("permission denied") {
            return Err(StoreError::Invalid { reason: format!("etcd refused it: {}", response.cancel_reason()) });
        }
        self.wait_after_failure(response.cancel_reason()).await;
        Ok(())
    }

    async fn wait_after_failure(&self, why: &str) {
        tracing::debug!(why, "etcd ended a watch; it goes on with another stream");
        let env = &self.shared.connection.env;
        env.sleep(env.jitter(FIRST_PAUSE, 1.0)).await;
    }

    /// Takes in events. All of one revision come in one response, since fragments are not asked for.
    async fn take(&mut self, response: &WatchResponse) -> Result<(), StoreError> {
        for events in response.events().chunk_by(|one, other| modified(one) == modified(other)) {
            let revision = events.first().map(modified).unwrap_or_default();
            if revision <= self.seen {
                // A member that went back behind what it had sent repeats itself.
                continue;
            }
            if revision != self.seen.next() {
                return self.left_out(revision).await;
            }
            let Some(events) = self.events(events) else { return Err(self.compacted().await) };
            (self.seen, self.gap, self.pause) = (revision, false, FIRST_PAUSE);
            if !events.is_empty() {
                self.ready.push_back(Arc::new(Change { revision, events }));
            }
        }
        Ok(())
    }

    /// Asks once more for a revision that was left out; if it is left out again, the reader must list anew.
    async fn left_out(&mut self, found: Revision) -> Result<(), StoreError> {
        self.stream = None;
        if !std::mem::replace(&mut self.gap, true) {
            return Ok(());
        }
        match self.shared.check_kept(self.seen).await {
            Ok(()) => Err(StoreError::Unavailable(format!(
                "etcd left out what happened between the revisions {} and {found}",
                self.seen
            ))),
            Err(error) => Err(error),
        }
    }

    /// The events under the prefix; `None` if what was there before one of them has been compacted.
    fn events(&self, events: &[Event]) -> Option<Vec<ChangeEvent>> {
        let keyspace = &self.shared.keyspace;
        let mut shown = Vec::new();
        for event in events {
            let Some(kv) = event.kv() else { continue };
            let Some(key) = keyspace.key(kv.key()).filter(|key| key.starts_with(&self.prefix)) else { continue };
            let previous = event.prev_kv().cloned().and_then(|kv| keyspace.entry(kv));
            let replaces = event.event_type() == EventType::Delete || kv.create_revision() < kv.mod_revision();
            if replaces && previous.is_none() {
                return None;
            }
            let entry = match event.event_type() {
                EventType::Put => keyspace.entry(kv.clone()),
                EventType::Delete => None,
            };
            shown.push(ChangeEvent { key, entry, previous });
        }
        Some(shown)
    }

    async fn compacted(&self) -> StoreError {
        self.shared.exact(StoreError::Compacted { oldest: Revision::ZERO }, self.seen).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.watchers.forget(&self.slot);
    }
}

fn modified(event: &Event) -> Revision {
    keyspace::revision(event.kv().map_or(0, etcd_client::KeyValue::mod_revision))
}
