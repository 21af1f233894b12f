//! One history: who takes part, what they saw, and whether it can be.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_core::{
    env::{BoxFuture, Env},
    seam::transport::Transport,
};
use k8s_store::{
    Faulty, Memory, Store, Transaction,
    check::{self, Contradiction, Failure, History, Random, Recorder, Truth, mirrors},
};
use parking_lot::Mutex;

use super::{
    clock::seeded,
    defective::{Defect, Spoilt},
    hasty::hasty,
    informed::{Component, Informed},
    judge::{Judged, judge},
    lagging::Lagging,
    scene::{Scene, Weather, Writer},
    stack::{Layer, Stack},
    wanted::{WANTS, Wanted},
    watcher::{Log, Watcher},
};

/// How much happens in one history.
#[derive(Clone, Debug)]
pub struct Plan {
    pub layer: Layer,
    /// How many servers there are; every second one is late.
    pub servers: usize,
    pub writers: usize,
    /// How often each of them writes.
    pub writes: usize,
    pub watchers: usize,
    /// How many components have an informer.
    pub components: usize,
    pub defect: Defect,
}

impl Plan {
    /// At one layer, with no defect.
    pub fn at(layer: Layer) -> Self {
        Self { layer, servers: 1, writers: 4, writes: 120, watchers: 24, components: 0, defect: Defect::None }
    }
}

/// What was checked, so that nobody takes silence for a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proven {
    /// At the store: events of its own watches.
    pub store_events: u64,
    /// At the layer.
    pub watches: u64,
    pub events: u64,
    pub bookmarks: u64,
    pub lists: u64,
    /// How often watchers had to begin anew.
    pub expired: u64,
    /// By informers: what handlers were told, how often informers began and listed, and were looked at.
    pub told: u64,
    pub begun: u64,
    pub relists: u64,
    pub looks: u64,
    pub rebuilds: u64,
    pub restarts: u64,
}

impl Proven {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            store_events: self.store_events + other.store_events,
            watches: self.watches + other.watches,
            events: self.events + other.events,
            bookmarks: self.bookmarks + other.bookmarks,
            lists: self.lists + other.lists,
            expired: self.expired + other.expired,
            told: self.told + other.told,
            begun: self.begun + other.begun,
            relists: self.relists + other.relists,
            looks: self.looks + other.looks,
            rebuilds: self.rebuilds + other.rebuilds,
            restarts: self.restarts + other.restarts,
        }
    }

    /// Events of all layers.
    pub fn all_events(&self) -> u64 {
        self.store_events + self.events + self.told
    }
}

/// Lets it happen and judges what was seen. Blocks the thread. The same seed is the same history, but over sockets.
///
/// # Errors
///
/// The first contradiction.
pub fn run(seed: u64, plan: &Plan) -> Result<Proven, Box<Failure>> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let is_real = plan.layer == Layer::Tls;
    builder.enable_all().start_paused(!is_real);
    let runtime = builder.build().expect("the system gives a runtime");
    let saw = runtime.block_on(async {
        let env = if is_real { hasty(20) } else { seeded(seed) };
        observe(env, seed, plan).await
    });
    drop(runtime);
    saw.and_then(|saw| saw.judge()).map_err(|contradiction| Box::new(Failure { seed, contradiction }))
}

/// What everybody saw.
struct Saw {
    history: History,
    logs: Vec<Log>,
    informed: Vec<Informed>,
    proven: Proven,
}

async fn observe(env: Env, seed: u64, plan: &Plan) -> Result<Saw, Contradiction> {
    let mut random = Random::new(seed);
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::new(env.clone()))));
    let recorder = Recorder::new(faulty.clone());
    let scene = Arc::new(Scene {
        env: env.clone(),
        recorder: recorder.clone(),
        acknowledged: AtomicU64::new(0),
        until: AtomicU64::new(0),
        pace: Duration::from_secs(6),
    });
    // In the API, revision zero is whatever there is; a cluster is never there.
    let begun = recorder.client(8).commit(Transaction::new().put("/registry/begun", "")).await;
    begun.map_err(|error| Contradiction::new("live", 0, error.to_string()))?;
    let stores = (0..plan.servers).map(|number| store(&recorder, &env, number, &mut random)).collect();
    let stack = Stack::start(plan.layer, env.clone(), stores, Random::new(random.bits())).await;
    let door: Arc<dyn Transport> = match plan.defect {
        Defect::None => stack.clone(),
        defect => Arc::new(Spoilt { stack: stack.clone(), scene: scene.clone(), defect }),
    };

    let (mut readers, mut writers) = (Crowd::new(&env), Crowd::new(&env));
    for (number, wanted) in (0..plan.watchers).zip(WANTS.iter().cycle()) {
        let own = Random::new(random.bits());
        readers.add(Watcher::new(scene.clone(), door.clone(), own, number, wanted.clone()).run());
    }
    let mut components = Crowd::new(&env);
    for (number, wanted) in (0..plan.components).zip(WANTS.iter().cycle()) {
        let random = Random::new(random.bits());
        let (scene, door, wanted) = (scene.clone(), door.clone(), wanted.clone());
        components.add(Component { scene, door, random, number, wanted, defect: plan.defect }.run());
    }
    for number in 0..plan.writers {
        let door = (plan.layer != Layer::Cache).then(|| stack.clone() as Arc<dyn Transport>);
        let (store, random) = (recorder.client(number + 10), Random::new(random.bits()));
        writers.add(Writer { number, scene: scene.clone(), store, door, random }.run(plan.writes));
    }
    let over = Arc::new(AtomicBool::new(false));
    let weather = Weather {
        scene: scene.clone(),
        faulty,
        store: recorder.client(9),
        stack: stack.clone(),
        random: Random::new(random.bits()),
        over: over.clone(),
        every: Duration::from_secs(12),
    };
    let weather = env.spawn("weather", Box::pin(weather.run()));

    writers.all().await;
    over.store(true, SeqCst);
    weather.join().await.map_err(|panic| Contradiction::new("live", scene.now(), panic))?;
    // A last change that everybody is told of, or passed by; it is the truth's head.
    let head = last(&*recorder.client(8)).await;
    scene.until.store(head, SeqCst);
    let logs = readers.all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let informed = components.all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    stack.stop().await;
    let (rebuilds, restarts) = stack.counts();
    let proven = Proven { rebuilds, restarts, ..Proven::default() };
    Ok(Saw { history: recorder.take(), logs, informed, proven })
}

/// The store as a server sees it: every second one is late.
fn store(recorder: &Arc<Recorder>, env: &Env, number: usize, random: &mut Random) -> Arc<dyn Store> {
    let (inner, random) = (recorder.client(number), Random::new(random.bits()));
    match number % 2 {
        0 => inner,
        _ => Arc::new(Lagging::sometimes(inner, env.clone(), random, Duration::from_millis(800))),
    }
}

async fn last(store: &dyn Store) -> u64 {
    loop {
        // The last of the weather may still be felt.
        if let Ok(head) = store.head().await {
            return head.0;
        }
    }
}

/// Tasks that end by themselves with something to tell.
struct Crowd<T> {
    env: Env,
    tasks: Vec<k8s_core::env::Task>,
    told: Arc<Mutex<BTreeMap<usize, T>>>,
}

impl<T: Send + 'static> Crowd<T> {
    fn new(env: &Env) -> Self {
        Self { env: env.clone(), tasks: Vec::new(), told: Arc::default() }
    }

    fn add(&mut self, work: impl Future<Output = T> + Send + 'static) {
        let (number, told) = (self.tasks.len(), self.told.clone());
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let outcome = work.await;
            told.lock().insert(number, outcome);
        });
        self.tasks.push(self.env.spawn("crowd", task));
    }

    async fn all(self) -> Vec<T> {
        for task in self.tasks {
            task.join().await.expect("it does not panic");
        }
        std::mem::take(&mut *self.told.lock()).into_values().collect()
    }
}

impl Saw {
    fn judge(self) -> Result<Proven, Contradiction> {
        let (truth, checked) = check::reconstruct(&self.history)?;
        let mut proven = Proven { store_events: checked.watch_events, ..self.proven };
        let mut views: BTreeMap<Wanted, Truth> = BTreeMap::new();
        let mut view = |wanted: &Wanted| -> Truth {
            let made = views.entry(wanted.clone());
            made.or_insert_with(|| truth.through(|entry| wanted.shows(entry))).clone()
        };
        let amid = |contradiction: Contradiction| contradiction.amid(&self.history, &truth);
        for log in &self.logs {
            let Judged { watches, events, bookmarks, lists } = judge(&view(&log.wanted), log).map_err(amid)?;
            let more = Proven { watches, events, bookmarks, lists, expired: log.expired, ..Proven::default() };
            proven = proven.and(more);
        }
        for Informed { wanted, record, begun } in &self.informed {
            mirrors::validate(&view(wanted), record).map_err(amid)?;
            let (relists, looks) = (record.lists.len() as u64, record.looks.len() as u64);
            let told = record.told.len() as u64 - begun;
            proven = proven.and(Proven { told, begun: *begun, relists, looks, ..Proven::default() });
        }
        Ok(proven)
    }
}
