//! One watch: a position in a kind's changes.
//!
//! It holds no queue and copies nothing; what a slow reader misses is bounded by the ring, and costs that reader a 410.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use k8s_core::{
    env::BoxFuture,
    object::{Object, ObjectKey},
    request::{Options, WatchEvent, WatchStream},
    status::{ApiError, ApiResult},
};

use super::{
    Cache,
    filter::Filter,
    interest::{GroupId, Parked, WatcherId},
    kind::KindCache,
    read::check_watch_options,
    state::State,
};

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch goes on that did not say: this, and up to as much again.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How many changes are looked at under one lock.
const CHANGES_PER_LOCK: usize = 256;
/// How many initial objects are taken from the snapshot at a time.
const INITIAL_BATCH: usize = 64;

impl Cache {
    /// Opens a watch of a kind.
    ///
    /// From a revision: every change after it. From none or 0: first every object, as added. With
    /// `sendInitialEvents`, these end with a bookmark. 410 for a revision that is no longer known, 504 for one that
    /// does not come.
    pub async fn watch(
        self: &Arc<Self>,
        kind: &Arc<KindCache>,
        filter: Filter,
        options: &Options,
    ) -> ApiResult<WatchStream> {
        check_watch_options(options)?;
        let from = options.resource_version.unwrap_or(0);
        let with_initial = options.send_initial_events.unwrap_or(from == 0);
        match options.resource_version {
            None => self.wait_for_head().await?,
            Some(revision) => self.wait_for(revision).await?,
        }
        let generation = kind.ring.read().generation;
        kind.prepare(&filter);
        let (state, now) = self.newest(kind);
        let seen = if with_initial || from == 0 { now } else { from };
        if kind.ring.read().after(seen).is_none() {
            return Err(too_old(kind, seen));
        }
        let initial = with_initial.then(|| Initial {
            state,
            after: None,
            batch: Vec::new().into_iter(),
            mark_end: options.send_initial_events == Some(true) && options.allow_watch_bookmarks,
        });
        let timeout = options.timeout.unwrap_or_else(|| self.env.jitter(MIN_TIMEOUT, 1.0));
        let (group, id, filter) = kind.interest.lock().join(filter);
        let mut watch = Watch {
            cache: self.clone(),
            kind: kind.clone(),
            filter,
            group,
            id,
            seen,
            generation,
            initial,
            deadline: self.env.monotonic().saturating_add(timeout),
            bookmark: options.allow_watch_bookmarks.then(|| self.env.monotonic() + BOOKMARK_EVERY),
            alarm: Box::pin(std::future::pending()),
            ended: false,
        };
        watch.set_alarm();
        Ok(Box::pin(watch))
    }
}

struct Watch {
    cache: Arc<Cache>,
    kind: Arc<KindCache>,
    filter: Arc<Filter>,
    group: GroupId,
    id: WatcherId,
    /// Everything up to here was yielded or is not wanted.
    seen: u64,
    /// The cache that `seen` is of.
    generation: u64,
    initial: Option<Initial>,
    /// When the watch ends by itself, on the monotonic clock.
    deadline: Duration,
    /// When the next bookmark is due, if any are wanted.
    bookmark: Option<Duration>,
    alarm: BoxFuture<'static, ()>,
    ended: bool,
}

/// The objects that were there when the watch began.
struct Initial {
    state: Arc<State>,
    after: Option<ObjectKey>,
    batch: std::vec::IntoIter<Arc<Object>>,
    mark_end: bool,
}

impl Initial {
    fn next(&mut self, filter: &Filter) -> Option<Arc<Object>> {
        if self.batch.as_slice().is_empty() {
            let next: Vec<_> = self.state.select(filter, self.after.as_ref()).take(INITIAL_BATCH).cloned().collect();
            self.after = next.last().map(|object| object.meta.key());
            self.batch = next.into_iter();
        }
        self.batch.next()
    }
}

impl Watch {
    fn set_alarm(&mut self) {
        let at = self.bookmark.map_or(self.deadline, |bookmark| bookmark.min(self.deadline));
        self.alarm = self.cache.env.sleep(at.saturating_sub(self.cache.env.monotonic()));
    }

    fn next_initial(&mut self) -> Option<WatchEvent> {
        let initial = self.initial.as_mut()?;
        if let Some(object) = initial.next(&self.filter) {
            return Some(WatchEvent::Added(object));
        }
        let mark_end = initial.mark_end;
        self.initial = None;
        mark_end.then_some(WatchEvent::Bookmark { revision: self.seen, initial_events_end: true })
    }

    /// Stops waiting, and takes over what was passed by on the watch's behalf.
    fn unpark(&mut self) {
        let mut interest = self.kind.interest.lock();
        let noted = interest.noted;
        let Some(member) = interest.member(self.group, self.id) else { return };
        let passed = match std::mem::replace(member, Parked::No) {
            Parked::No => self.seen,
            Parked::Waiting(_) => noted,
            Parked::Found(revision) => revision.saturating_sub(1),
            Parked::Nudged(revision) => revision,
        };
        self.seen = self.seen.max(passed);
    }

    /// The next wanted change, or the watch is parked.
    fn next_change(&mut self, waker: &Waker) -> Poll<ApiResult<WatchEvent>> {
        self.unpark();
        loop {
            let reached = self.cache.revision();
            let ring = self.kind.ring.read();
            let Some(changes) = ring.after(self.seen).filter(|_| ring.generation == self.generation) else {
                drop(ring);
                self.kind.counts.terminated();
                return Poll::Ready(Err(too_old(&self.kind, self.seen)));
            };
            let mut looked_at = 0;
            for event in changes.take(CHANGES_PER_LOCK) {
                looked_at += 1;
                self.seen = event.revision;
                if let Some(seen) = event.seen_through(&self.filter) {
                    return Poll::Ready(Ok(seen));
                }
            }
            if looked_at < CHANGES_PER_LOCK {
                self.seen = self.seen.max(reached);
                let mut interest = self.kind.interest.lock();
                if let Some(member) = interest.member(self.group, self.id) {
                    *member = Parked::Waiting(waker.clone());
                }
                // Whoever closes the cache or the kind wakes those that are parked by then.
                if self.cache.is_closed() || self.kind.is_closed() {
                    waker.wake_by_ref();
                }
                // Both locks are held up to here: between the last look and parking nothing can be published.
                return Poll::Pending;
            }
        }
    }

    /// What is due by the clock: a bookmark, or the end (`None`).
    fn ring_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            std::task::ready!(self.alarm.as_mut().poll(cx));
            let now = self.cache.env.monotonic();
            if now >= self.deadline {
                return Poll::Ready(None);
            }
            let due = self.bookmark.is_some_and(|at| now >= at);
            if due {
                self.bookmark = Some(now + BOOKMARK_EVERY);
            }
            self.set_alarm();
            if due {
                return Poll::Ready(Some(WatchEvent::Bookmark { revision: self.seen, initial_events_end: false }));
            }
        }
    }
}

impl Stream for Watch {
    type Item = ApiResult<WatchEvent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(event) = this.next_initial() {
            return Poll::Ready(Some(Ok(event)));
        }
        if this.cache.is_closed() {
            this.ended = true;
            return Poll::Ready(None);
        }
        if let Poll::Ready(change) = this.next_change(cx.waker()) {
            this.ended = change.is_err();
            return Poll::Ready(Some(change));
        }
        if this.kind.is_closed() {
            this.ended = true;
            return Poll::Ready(None);
        }
        // The watch has seen everything, so a bookmark overtakes nothing.
        let alarm = std::task::ready!(this.ring_alarm(cx));
        this.ended = alarm.is_none();
        Poll::Ready(alarm.map(Ok))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.kind.interest.lock().leave(self.group, self.id);
    }
}

fn too_old(kind: &KindCache, revision: u64) -> ApiError {
    ApiError::expired(format!("too old resource version: {revision} ({})", kind.ring.read().oldest()))
}
