//! A client that lists, watches, goes away, resumes where it was, and begins anew when it is told to; what it is told is
//! written down as it comes.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures::StreamExt;
use k8s_core::{
    env,
    object::Object,
    request::{WatchEvent, WatchStream},
    seam::transport::Transport,
    status::ApiError,
};
use k8s_store::check::{Contradiction, Random, Tick};

use super::{
    scene::Scene,
    wanted::{Begin, Wanted},
};

/// How long nothing may come, not even a bookmark. They are due every minute.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The longest pause before somebody who was refused asks again.
const RETRY: Duration = Duration::from_millis(700);

/// What a watcher saw.
#[derive(Debug)]
pub enum Seen {
    /// Everything at a revision. `not_before` had been acknowledged when it was asked for.
    All { revision: u64, not_before: u64, objects: Vec<Arc<Object>> },
    /// A watch was opened after a revision.
    Open { from: u64 },
    /// It yielded this.
    Event(WatchEvent),
}

/// What one watcher saw, in order.
#[derive(Debug)]
pub struct Log {
    pub number: usize,
    pub wanted: Wanted,
    pub seen: Vec<(Tick, Seen)>,
    /// How often it was told that what it has is too old.
    pub expired: u64,
}

/// One watcher.
pub struct Watcher {
    pub scene: Arc<Scene>,
    pub door: Arc<dyn Transport>,
    pub random: Random,
    pub log: Log,
    reached: Option<u64>,
}

/// Why a watch is read no further.
enum Left {
    ItEnded,
    Itself,
    Expired,
    /// It has come to the end of the history.
    Done,
}

impl Watcher {
    pub fn new(scene: Arc<Scene>, door: Arc<dyn Transport>, random: Random, number: usize, wanted: Wanted) -> Self {
        let log = Log { number, wanted, seen: Vec::new(), expired: 0 };
        Self { scene, door, random, log, reached: None }
    }

    /// Watches to the end of the history.
    pub async fn run(mut self) -> Result<Log, Contradiction> {
        loop {
            let until = self.scene.until.load(SeqCst);
            let left = match self.reached {
                Some(reached) if until > 0 && reached >= until => return Ok(self.log),
                None if self.random.one_in(2) => self.list().await,
                None => self.watch(Begin::Initially).await?,
                Some(from) => self.watch(Begin::After(from)).await?,
            };
            match left {
                Left::Done => return Ok(self.log),
                Left::Expired => {
                    self.log.expired += 1;
                    self.reached = None;
                }
                Left::ItEnded => self.scene.clone().pause(&mut self.random, RETRY).await,
                Left::Itself => {}
            }
        }
    }

    fn note(&mut self, seen: Seen) {
        self.log.seen.push((self.scene.now(), seen));
    }

    fn refused(error: &ApiError) -> Left {
        if error.is_expired() { Left::Expired } else { Left::ItEnded }
    }

    async fn list(&mut self) -> Left {
        let not_before = self.scene.acknowledged.load(SeqCst);
        match self.door.call(self.log.wanted.list()).await.and_then(|answer| answer.into_list()) {
            Ok(list) => {
                self.reached = Some(list.revision);
                self.note(Seen::All { revision: list.revision, not_before, objects: list.items });
                Left::Itself
            }
            Err(error) => {
                self.scene.clone().pause(&mut self.random, RETRY).await;
                Self::refused(&error)
            }
        }
    }

    async fn watch(&mut self, begin: Begin) -> Result<Left, Contradiction> {
        let timeout = self.random.one_in(3).then(|| Duration::from_secs(5 + self.random.below(90)));
        let not_before = self.scene.acknowledged.load(SeqCst);
        let mut watch = match self.door.call(self.log.wanted.watch(begin, timeout)).await {
            Ok(answer) => answer.into_watch().map_err(|error| self.contradicts(&error.to_string()))?,
            Err(error) => {
                self.scene.clone().pause(&mut self.random, RETRY).await;
                return Ok(Self::refused(&error));
            }
        };
        match begin {
            Begin::After(from) => self.note(Seen::Open { from }),
            Begin::Initially => {
                if let Some(left) = self.initial(&mut watch, not_before).await? {
                    return Ok(left);
                }
            }
        }
        self.follow(watch).await
    }

    /// Reads the initial events, which a bookmark ends; says why not, if it does not come to that.
    async fn initial(&mut self, watch: &mut WatchStream, not_before: u64) -> Result<Option<Left>, Contradiction> {
        let mut objects = Vec::new();
        loop {
            match self.next(watch).await? {
                Some(Ok(WatchEvent::Added(object))) => objects.push(object),
                Some(Ok(WatchEvent::Bookmark { revision, initial_events_end: true })) => {
                    self.reached = Some(revision);
                    self.note(Seen::All { revision, not_before, objects });
                    self.note(Seen::Open { from: revision });
                    return Ok(None);
                }
                Some(Ok(other)) => return Err(self.contradicts(&format!("{other:?} among the initial events"))),
                Some(Err(error)) => return Ok(Some(Self::refused(&error))),
                None => return Ok(Some(Left::ItEnded)),
            }
        }
    }

    async fn follow(&mut self, mut watch: WatchStream) -> Result<Left, Contradiction> {
        let mut stay = if self.random.one_in(2) { 1 + self.random.below(40) } else { u64::MAX };
        let is_slow = self.random.one_in(4);
        while stay > 0 {
            stay -= 1;
            match self.next(&mut watch).await? {
                Some(Ok(event)) => {
                    self.reached = Some(event.revision());
                    self.note(Seen::Event(event));
                }
                Some(Err(error)) => return Ok(Self::refused(&error)),
                None => return Ok(Left::ItEnded),
            }
            let until = self.scene.until.load(SeqCst);
            if until > 0 && self.reached.is_some_and(|reached| reached >= until) {
                return Ok(Left::Done);
            }
            if is_slow && self.random.one_in(8) {
                self.scene.clone().pause(&mut self.random, Duration::from_secs(20)).await;
            }
        }
        Ok(Left::Itself)
    }

    async fn next(&self, watch: &mut WatchStream) -> Result<Option<Result<WatchEvent, ApiError>>, Contradiction> {
        let next = env::timeout(&*self.scene.env, PATIENCE, watch.next()).await;
        next.ok_or_else(|| self.contradicts("waits in vain for anything, even a bookmark"))
    }

    fn contradicts(&self, what: &str) -> Contradiction {
        let Log { number, wanted, .. } = &self.log;
        let reached = self.reached;
        Contradiction::new("live", self.scene.now(), format!("watcher {number} of {wanted:?} at {reached:?}: {what}"))
    }
}
