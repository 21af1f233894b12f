//! The executor of simulations: one thread, a clock that jumps, an order of tasks that a seed decides.
//!
//! Everything above gets time, randomness and tasks from its environment, so this is all a simulation needs. When no
//! task can go on, the clock jumps to the next timer: an hour of waiting costs nothing. The same seed gives the same
//! run; another seed gives another order of everything that may happen in any order.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use k8s_core::env::{BoxFuture, Environment, Task, TaskHandle, Timestamp};
use parking_lot::Mutex;

/// The wall clock at the start of every simulation: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// The environment of a simulation. Cloning shares.
#[derive(Clone)]
pub struct SimEnvironment {
    world: Arc<World>,
}

struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now: Duration,
    random: u64,
    sequence: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
    ready: VecDeque<u64>,
    /// Tasks that are already in `ready`, so that waking twice queues once.
    queued: BTreeSet<u64>,
    tasks: BTreeMap<u64, Slot>,
    panics: Vec<String>,
}

struct Slot {
    name: &'static str,
    /// `None` while the task is being polled.
    future: Option<BoxFuture<'static, ()>>,
    is_cancelled: bool,
    end: Arc<End>,
}

/// How a task ended, and who waits for that.
#[derive(Default)]
struct End {
    state: Mutex<EndState>,
}

#[derive(Default)]
struct EndState {
    outcome: Option<Result<(), String>>,
    waiting: Vec<Waker>,
}

impl End {
    fn set(&self, outcome: Result<(), String>) {
        let wakers = {
            let mut state = self.state.lock();
            state.outcome.get_or_insert(outcome);
            std::mem::take(&mut state.waiting)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl SimEnvironment {
    /// A world at its beginning.
    pub fn new(seed: u64) -> Self {
        let state = State { random: seed, ..State::default() };
        Self { world: Arc::new(World { state: Mutex::new(state) }) }
    }

    /// Runs until `main` ends. Panics when a task panicked, or when nothing can ever happen again before that.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let woken = Arc::new(MainWaker(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut main = pin!(main);
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(done) = main.as_mut().poll(&mut Context::from_waker(&waker))
            {
                self.check_panics();
                return done;
            }
            if self.step() {
                continue;
            }
            self.check_panics();
            if !woken.0.load(Ordering::Relaxed) && !self.advance() {
                panic!("the simulation stands still: nothing is ready and no timer is set");
            }
        }
    }

    fn check_panics(&self) {
        let panics = std::mem::take(&mut self.world.state.lock().panics);
        assert!(panics.is_empty(), "tasks panicked: {panics:?}");
    }

    /// Polls one ready task, chosen by the seed; `false` if there is none.
    fn step(&self) -> bool {
        let (id, future) = {
            let mut state = self.world.state.lock();
            if state.ready.is_empty() {
                return false;
            }
            let choice = (state.next_random() % state.ready.len() as u64) as usize;
            let Some(id) = state.ready.remove(choice) else { return false };
            state.queued.remove(&id);
            match state.tasks.get_mut(&id) {
                Some(slot) if slot.is_cancelled => {
                    let slot = state.tasks.remove(&id);
                    drop(state);
                    finish(slot, Ok(()));
                    return true;
                }
                Some(slot) => (id, slot.future.take()),
                None => return true,
            }
        };
        if let Some(future) = future {
            self.poll_task(id, future);
        }
        true
    }

    fn poll_task(&self, id: u64, mut future: BoxFuture<'static, ()>) {
        let waker = Waker::from(Arc::new(TaskWaker { world: self.world.clone(), id }));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                let mut state = self.world.state.lock();
                if let Some(slot) = state.tasks.get_mut(&id) {
                    slot.future = Some(future);
                    if slot.is_cancelled {
                        state.wake(id);
                    }
                }
            }
            Ok(Poll::Ready(())) => {
                let slot = self.world.state.lock().tasks.remove(&id);
                drop(future);
                finish(slot, Ok(()));
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                let mut state = self.world.state.lock();
                let slot = state.tasks.remove(&id);
                let name = slot.as_ref().map_or("task", |slot| slot.name);
                state.panics.push(format!("{name}: {text}"));
                drop(state);
                finish(slot, Err(text));
            }
        }
    }

    /// Lets the clock jump to the next timer; `false` if there is none.
    fn advance(&self) -> bool {
        let due = {
            let mut state = self.world.state.lock();
            let Some(((at, _), _)) = state.timers.first_key_value() else { return false };
            state.now = *at;
            let now = state.now;
            let later = state.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        };
        due.into_values().for_each(Waker::wake);
        true
    }
}

fn finish(slot: Option<Slot>, outcome: Result<(), String>) {
    if let Some(Slot { future, end, .. }) = slot {
        drop(future);
        end.set(outcome);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".into())
}

impl State {
    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn wake(&mut self, id: u64) {
        if self.queued.insert(id) {
            self.ready.push_back(id);
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

struct MainWaker(AtomicBool);

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct TaskWaker {
    world: Arc<World>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.world.state.lock().wake(self.id);
    }
}

struct Sleep {
    world: Arc<World>,
    deadline: Duration,
    /// The place in `timers`, once polled.
    place: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut state = world.state.lock();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let place = match self.place {
            Some(place) => place,
            None => (self.deadline, state.next_sequence()),
        };
        state.timers.insert(place, cx.waker().clone());
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.place.and_then(|place| self.world.state.lock().timers.remove(&place));
        drop(waker);
    }
}

struct Handle {
    world: Arc<World>,
    id: u64,
    end: Arc<End>,
}

impl TaskHandle for Handle {
    fn cancel(&self) {
        let mut state = self.world.state.lock();
        if let Some(slot) = state.tasks.get_mut(&self.id) {
            slot.is_cancelled = true;
            state.wake(self.id);
        }
    }

    fn join(self: Box<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = self.end.state.lock();
            match state.outcome.clone() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    state.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl Environment for SimEnvironment {
    fn now(&self) -> Timestamp {
        let now = self.monotonic();
        // Invariant: a simulation lasts less than the hundreds of millennia that a timestamp can hold.
        Timestamp::new(EPOCH_SECONDS + now.as_secs() as i64, now.subsec_nanos() as i32).expect("a representable time")
    }

    fn monotonic(&self) -> Duration {
        self.world.state.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.monotonic().saturating_add(duration);
        Box::pin(Sleep { world: self.world.clone(), deadline, place: None })
    }

    fn random(&self) -> u64 {
        self.world.state.lock().next_random()
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let end = Arc::<End>::default();
        let mut state = self.world.state.lock();
        let id = state.next_sequence();
        state.tasks.insert(id, Slot { name, future: Some(future), is_cancelled: false, end: end.clone() });
        state.wake(id);
        drop(state);
        Task::new(Handle { world: self.world.clone(), id, end })
    }
}

impl SimEnvironment {
    /// Drops every task. Called at the end of a simulation, since tasks and world hold each other.
    pub fn clear(&self) {
        let (tasks, timers) = {
            let mut state = self.world.state.lock();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        drop(timers);
        drop(tasks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let env = SimEnvironment::new(seed);
        let log = Arc::new(Mutex::new(Vec::new()));
        env.run({
            let (env, log) = (env.clone(), log.clone());
            async move {
                let tasks: Vec<Task> = (0..8)
                    .map(|number| {
                        let (env2, log) = (env.clone(), log.clone());
                        env.spawn(
                            "t",
                            Box::pin(async move {
                                env2.sleep(Duration::from_secs(u64::from(number / 4))).await;
                                log.lock().push(number);
                            }),
                        )
                    })
                    .collect();
                for task in tasks {
                    task.join().await.unwrap();
                }
            }
        });
        env.clear();
        log.lock().clone()
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else_does() {
        assert_eq!(order(1), order(1));
        assert!((2..20).any(|seed| order(seed) != order(1)), "some seed gives another order");
        for seed in 0..20 {
            let order = order(seed);
            assert!(order[..4].iter().all(|number| *number < 4), "time comes before chance: {order:?}");
        }
    }

    #[test]
    fn an_hour_takes_no_time_and_cancelled_tasks_end() {
        let env = SimEnvironment::new(0);
        env.run(async {
            let task = env.spawn("sleeper", env.sleep(Duration::from_secs(99_999)));
            env.sleep(Duration::from_secs(3600)).await;
            task.stop().await;
            assert_eq!(env.monotonic(), Duration::from_secs(3600));
            assert_eq!(env.now().to_string(), "2026-01-01T01:00:00Z");
        });
    }

    #[test]
    #[should_panic(expected = "stands still")]
    fn a_deadlock_is_told() {
        SimEnvironment::new(0).run(std::future::pending::<()>());
    }

    #[test]
    #[should_panic(expected = "tasks panicked: [\"bad: boom\"]")]
    fn a_panic_of_a_task_fails_the_run() {
        let env = SimEnvironment::new(0);
        env.run(async {
            env.spawn("bad", Box::pin(async { panic!("boom") })).detach();
            env.sleep(Duration::from_secs(1)).await;
        });
    }
}
