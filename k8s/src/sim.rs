//! A whole cluster in one thread, under a clock that jumps and a seed: for tests of controllers, without sleeps.
//!
//! API server, controllers, scheduler and simulated nodes are the real ones; only time, randomness, the order of tasks
//! and the containers are not. The same seed gives the same run to the last request.

mod executor;
mod faults;

use std::{future::Future, sync::Arc, time::Duration};

use k8s_core::{env::Env, registry::ResourceInfo};
use k8s_reconcile::Client;
use k8s_store::{Memory, Store};

pub use executor::SimEnvironment;
pub use faults::Faults;

use crate::cluster::{Cluster, ClusterBuilder};

/// Nothing but heartbeats and events was written for this long: the cluster has settled.
const QUIET: Duration = Duration::from_secs(3);
/// A cluster that has not settled after this long never will.
const LIMIT: Duration = Duration::from_secs(1800);

/// A simulation to be.
pub struct Sim {
    seed: u64,
    nodes: usize,
    kinds: Vec<ResourceInfo>,
}

impl Sim {
    /// A simulation with one node.
    pub fn new(seed: u64) -> Self {
        Self { seed, nodes: 1, kinds: Vec::new() }
    }

    /// How many simulated nodes there are.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Serves a kind of the test's own.
    pub fn kind(mut self, kind: ResourceInfo) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Runs `test` on a fresh cluster until it ends. Panics when a task of the cluster panicked.
    pub fn run<T, F: Future<Output = T>>(self, test: impl FnOnce(World) -> F) -> T {
        let environment = SimEnvironment::new(self.seed);
        let env: Env = Arc::new(environment.clone());
        let outcome = environment.run(async {
            let store: Arc<dyn Store> = Arc::new(Memory::new(env.clone()));
            let faults = Faults::new(env.clone());
            let mut world = World { sim: self, env, store, faults, cluster: None };
            world.start().await;
            test(world).await
        });
        environment.clear();
        outcome
    }

    fn builder(&self, env: &Env, store: &Arc<dyn Store>, faults: &Faults) -> ClusterBuilder {
        let wrap = faults.clone();
        let builder = Cluster::builder()
            .environment(env.clone())
            .store(store.clone())
            .hollow_nodes(self.nodes)
            .wrap_transports(move |who, inner| wrap.wrap(who, inner));
        self.kinds.iter().cloned().fold(builder, ClusterBuilder::kind)
    }
}

/// A simulated cluster, as a test holds it.
pub struct World {
    sim: Sim,
    env: Env,
    store: Arc<dyn Store>,
    faults: Faults,
    cluster: Option<Cluster>,
}

impl World {
    async fn start(&mut self) {
        let started = self.sim.builder(&self.env, &self.store, &self.faults).start().await;
        // A simulated cluster has nothing that can be missing; if it does not start, the test cannot go on.
        self.cluster = Some(started.unwrap_or_else(|error| panic!("the simulated cluster does not start: {error}")));
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        // Invariant: `start` ran before the test got this world, and `restart` puts a new one in place.
        self.cluster.as_ref().expect("a running cluster")
    }

    /// A client as the administrator.
    pub fn client(&self) -> Client {
        self.cluster().client()
    }

    /// Time, randomness and tasks of the simulation.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Faults to inject, and the trace.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Every request so far and what became of it.
    pub fn trace(&self) -> Vec<String> {
        self.faults.trace()
    }

    /// Lets time pass until nothing changes any more.
    ///
    /// Panics, with the last lines of the trace, when the cluster does not settle in half an hour of its time.
    pub async fn settle(&self) {
        let start = self.env.monotonic();
        loop {
            let before = self.faults.writes();
            self.env.sleep(QUIET).await;
            if self.faults.writes() == before {
                return;
            }
            if self.env.monotonic() - start > LIMIT {
                let trace = self.trace();
                panic!("the cluster does not settle; it ended with {:#?}", &trace[trace.len().saturating_sub(20)..]);
            }
        }
    }

    /// Stops every part at once, as a crash of the process does, and starts them again on the same store.
    pub async fn restart(&mut self) {
        drop(self.cluster.take());
        self.start().await;
    }
}
