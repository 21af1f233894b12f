//! Priority and fairness: how many requests are answered at once, and whose turn it is.
//!
//! Follows upstream's API priority and fairness (KEP-1040). FlowSchemas sort requests into priority levels and flows; a
//! level has seats, and may borrow what other levels lend; flows of a level take turns; what does not fit waits, for a
//! bounded time and in bounded queues, or is refused with 429. The deciding parts are pure (`queues`, `classify`,
//! `share`); this file is the shell around them.
//!
//! Requests over HTTP are counted, those for paths that are no resource and those that another server answers too.
//! Connections (exec, attach, port-forward, proxy) are not, and of a watch only its beginning is. Components of this process are bounded by their own workers.

mod classify;
mod queues;
mod share;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use k8s_core::{
    doc::{Doc, Text},
    env::{self, Env},
    metrics::{Histogram, Samples},
    object::{Object, ObjectKey},
    request::{ApiRequest, Caller, Verb},
    status::{ApiError, ApiResult},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::{
    classify::{Asked, FlowSchema, Request},
    queues::{Offer, Queues, Refusal, Ticket},
    share::Share,
};
use crate::auth::Follower;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// How often levels lend and borrow anew.
const PERIOD: Duration = Duration::from_secs(10);
/// How many objects of a list one seat is for, and the most seats of one request.
const OBJECTS_PER_SEAT: u64 = 100;
const MAX_WIDTH: u32 = 10;

/// How much is answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessLimits {
    /// The seats of all levels together: upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight`.
    pub seats: u32,
    /// How long a request waits at most.
    pub wait: Duration,
}

impl Default for FairnessLimits {
    fn default() -> Self {
        Self { seats: 600, wait: Duration::from_secs(15) }
    }
}

/// Sorts requests, and lets them in in turn. Follows the cache.
pub struct Fairness {
    env: Env,
    limits: FairnessLimits,
    known: Mutex<Known>,
    schemas: ArcSwap<Vec<Arc<FlowSchema>>>,
    levels: ArcSwap<BTreeMap<Text, Arc<Level>>>,
    /// When levels lent and borrowed last, in nanoseconds of the environment's clock.
    shared: AtomicU64,
}

/// The configuration objects, as they are.
#[derive(Default)]
struct Known {
    schemas: BTreeMap<Text, Arc<FlowSchema>>,
    levels: BTreeMap<Text, Share>,
}

/// One priority level.
struct Level {
    name: Text,
    /// Its uid, for clients.
    uid: Mutex<Text>,
    /// Whether nothing is limited.
    exempt: bool,
    state: Mutex<State>,
    counts: Counts,
}

struct State {
    queues: Queues,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
    /// The most seats that were wanted at once since levels shared last.
    wanted: u32,
}

#[derive(Default)]
struct Counts {
    dispatched: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    waits: Histogram,
}

/// A request that was let in. Dropping it gives its seats back.
pub struct Seat {
    level: Arc<Level>,
    fairness: Arc<Fairness>,
    width: u32,
    since: Duration,
    flow: usize,
    /// The uid of the schema that the request was sorted by.
    pub schema_uid: Text,
    /// The uid of the level that it was answered in.
    pub level_uid: Text,
}

impl Fairness {
    /// Nothing is limited until the cache shows levels.
    pub fn new(env: Env, limits: FairnessLimits) -> Arc<Self> {
        Arc::new(Self {
            env,
            limits,
            known: Mutex::default(),
            schemas: ArcSwap::default(),
            levels: ArcSwap::default(),
            shared: AtomicU64::new(0),
        })
    }

    /// Waits for a request's turn; `objects` is about how many it reads. `None` if it is not counted. 429 if there is no
    /// room, or its turn does not come in time. Dropping the future gives the place in the queue up.
    pub async fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        request: &ApiRequest,
        objects: u64,
    ) -> ApiResult<Option<Seat>> {
        if request.verb == Verb::Connect {
            return Ok(None);
        }
        let asked = Request { caller, verb: request.verb.as_str(), subject: Asked::Resource(&request.target) };
        let width = match request.verb {
            Verb::List => u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MAX_WIDTH).clamp(1, MAX_WIDTH),
            _ => 1,
        };
        self.take_turn(&asked, width).await
    }

    /// The same for a request of a path that is no resource; `verb` is the method in small letters.
    pub async fn enter_path(self: &Arc<Self>, caller: &Caller, verb: &str, path: &str) -> ApiResult<Option<Seat>> {
        self.take_turn(&Request { caller, verb, subject: Asked::Path(path) }, 1).await
    }

    async fn take_turn(self: &Arc<Self>, asked: &Request<'_>, width: u32) -> ApiResult<Option<Seat>> {
        let schemas = self.schemas.load_full();
        let Some(schema) = schemas.iter().find(|schema| schema.matches(asked)) else { return Ok(None) };
        let Some(level) = self.levels.load().get(&schema.level).cloned() else { return Ok(None) };
        self.share_if_due();
        let flow = schema.flow(asked);
        self.sit(level, flow, width, schema.uid.clone()).await.map(Some)
    }

    async fn sit(self: &Arc<Self>, level: Arc<Level>, hash: u64, width: u32, schema_uid: Text) -> ApiResult<Seat> {
        let began = self.env.monotonic();
        let entered = {
            let mut state = level.state.lock();
            let offer = if level.exempt { Offer::Run(0) } else { state.queues.offer(hash, width) };
            state.wanted = state.wanted.max(state.queues.wanted());
            match offer {
                Offer::Run(flow) => Ok((flow, None)),
                Offer::Wait(ticket, flow) => {
                    let (turn, waits) = oneshot::channel();
                    state.waiting.insert(ticket, turn);
                    Ok((flow, Some((ticket, waits))))
                }
                Offer::Refuse(refusal) => Err(refusal),
            }
        };
        let (flow, waits) = entered.map_err(|refusal| level.refuse(refusal))?;
        if let Some((ticket, turn)) = waits {
            let place = Place { fairness: self.clone(), level: level.clone(), ticket, width, flow, came: false };
            place.wait(turn, self.limits.wait).await?;
        }
        let since = self.env.monotonic();
        level.counts.dispatched.fetch_add(1, Relaxed);
        level.counts.waits.observe(since.saturating_sub(began));
        let level_uid = level.uid.lock().clone();
        Ok(Seat { level, fairness: self.clone(), width, since, flow, schema_uid, level_uid })
    }

    /// Lends and borrows anew, once a period, when somebody comes or goes.
    fn share_if_due(&self) {
        let now = u64::try_from(self.env.monotonic().as_nanos()).unwrap_or(u64::MAX);
        let last = self.shared.load(Relaxed);
        let due = now.saturating_sub(last) >= PERIOD.as_nanos() as u64;
        if due && self.shared.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            self.share();
        }
    }

    fn share(&self) {
        let levels = self.levels.load();
        let known = self.known.lock();
        let limited: Vec<(&Arc<Level>, &Share)> =
            levels.values().filter_map(|level| Some((level, known.levels.get(&level.name)?))).collect();
        let wanted: Vec<(Share, u32)> = limited
            .iter()
            .map(|(level, share)| {
                let mut state = level.state.lock();
                let wanted = state.wanted;
                state.wanted = state.queues.wanted();
                ((*share).clone(), wanted)
            })
            .collect();
        let seats = share::allocate(self.limits.seats, &wanted);
        for ((level, _), seats) in limited.into_iter().zip(seats) {
            let mut state = level.state.lock();
            state.queues.set_seats(seats);
            state.call();
        }
    }

    /// Makes what the configuration objects say the rule from now on.
    fn rebuild(&self, known: &Known) {
        let mut schemas: Vec<Arc<FlowSchema>> = known.schemas.values().cloned().collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let before = self.levels.load();
        let shares: u64 = known.levels.values().map(|share| u64::from(share.shares)).sum();
        let level = |(name, share): (&Text, &Share)| {
            let nominal = share.nominal(self.limits.seats, shares);
            let kept = before.get(name).filter(|level| level.exempt == share.exempt).cloned();
            let level = kept.unwrap_or_else(|| Arc::new(Level::new(name.clone(), share, nominal)));
            *level.uid.lock() = share.uid.clone();
            let mut state = level.state.lock();
            state.queues.configure(share.queuing);
            state.queues.set_seats(nominal);
            state.call();
            drop(state);
            (name.clone(), level)
        };
        let levels = known.levels.iter().map(level).collect();
        self.schemas.store(Arc::new(schemas));
        self.levels.store(Arc::new(levels));
    }

    /// The samples in the Prometheus text format.
    pub fn samples(&self) -> String {
        let (mut out, levels) = (Samples::default(), self.levels.load());
        let name = "apiserver_flowcontrol_dispatched_requests_total";
        out.family(name, "counter", "Requests that were let in, by priority level.");
        for level in levels.values() {
            out.sample(name, &[("priority_level", level.name.as_str())], level.counts.dispatched.load(Relaxed));
        }
        let name = "apiserver_flowcontrol_rejected_requests_total";
        out.family(name, "counter", "Requests that were refused, by priority level and reason.");
        for level in levels.values() {
            for (reason, count) in level.counts.refused.lock().iter() {
                out.sample(name, &[("priority_level", level.name.as_str()), ("reason", reason)], count);
            }
        }
        type Read = fn(&Queues) -> u32;
        let gauges: [(&str, &str, Read); 3] = [
            ("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait.", |queues| queues.waiting()),
            ("apiserver_flowcontrol_current_executing_seats", "Seats that are taken.", |queues| queues.taken()),
            ("apiserver_flowcontrol_current_limit_seats", "Seats that there are now.", |queues| queues.seats()),
        ];
        for (name, help, read) in gauges {
            out.family(name, "gauge", help);
            for level in levels.values().filter(|level| !level.exempt) {
                let value = read(&level.state.lock().queues);
                out.sample(name, &[("priority_level", level.name.as_str())], value);
            }
        }
        let name = "apiserver_flowcontrol_request_wait_duration_seconds";
        out.family(name, "histogram", "How long requests waited for their turn.");
        for level in levels.values() {
            out.histogram(name, &[("priority_level", level.name.as_str())], &level.counts.waits);
        }
        out.into_text()
    }
}

impl Follower for Fairness {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group == GROUP && matches!(plural, SCHEMAS | LEVELS)
    }

    fn changed(&self, _: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let doc = new.and_then(|object| Doc::parse(object.stored_json()).ok());
        let (mut known, name) = (self.known.lock(), key.name.clone());
        // A status that says what everybody knows is no reason to begin anew.
        let changed = match (plural, doc) {
            (SCHEMAS, Some(doc)) => {
                let schema = Arc::new(FlowSchema::of(&doc));
                known.schemas.insert(name, schema.clone()).is_none_or(|before| before != schema)
            }
            (SCHEMAS, None) => known.schemas.remove(&name).is_some(),
            (_, Some(doc)) => {
                let share = Share::of(&doc);
                known.levels.insert(name, share.clone()).is_none_or(|before| before != share)
            }
            (_, None) => known.levels.remove(&name).is_some(),
        };
        if changed {
            self.rebuild(&known);
        }
    }
}

impl Level {
    fn new(name: Text, share: &Share, seats: u32) -> Self {
        let state = State { queues: Queues::new(share.queuing, seats), waiting: BTreeMap::new(), wanted: 0 };
        let (uid, counts) = (Mutex::new(share.uid.clone()), Counts::default());
        Self { name, uid, exempt: share.exempt, state: Mutex::new(state), counts }
    }

    fn refuse(&self, refusal: Refusal) -> ApiError {
        let reason = match refusal {
            Refusal::QueueFull => "queue-full",
            Refusal::NoRoom => "concurrency-limit",
            Refusal::TooLate => "time-out",
        };
        *self.counts.refused.lock().entry(reason).or_default() += 1;
        ApiError::too_many_requests("too many requests, please try again later", Duration::from_secs(1))
    }
}

impl State {
    /// Calls those whose turn it is.
    fn call(&mut self) {
        for ticket in self.queues.dispatch() {
            // Whoever left has taken their ticket back.
            if let Some(turn) = self.waiting.remove(&ticket) {
                let _ = turn.send(());
            }
        }
    }
}

/// A place in a queue. Dropping it before its turn leaves the queue; after it, gives the seats back.
struct Place {
    fairness: Arc<Fairness>,
    level: Arc<Level>,
    ticket: Ticket,
    width: u32,
    flow: usize,
    /// Whether the seats belong to somebody else now.
    came: bool,
}

impl Place {
    async fn wait(mut self, turn: oneshot::Receiver<()>, limit: Duration) -> ApiResult<()> {
        let env = self.fairness.env.clone();
        match env::timeout(&*env, limit, turn).await {
            Some(Ok(())) => {
                self.came = true;
                Ok(())
            }
            _ => Err(self.level.refuse(Refusal::TooLate)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.came {
            return;
        }
        let mut state = self.level.state.lock();
        state.waiting.remove(&self.ticket);
        if !state.queues.leave(self.ticket) {
            // Its turn came in the same moment.
            state.queues.finish(self.flow, self.width, Duration::ZERO);
        }
        state.call();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.level.exempt {
            let took = self.fairness.env.monotonic().saturating_sub(self.since);
            let mut state = self.level.state.lock();
            state.queues.finish(self.flow, self.width, took);
            state.call();
        }
        self.fairness.share_if_due();
    }
}
