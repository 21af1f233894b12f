//! What stands between a store and its watchers: one or two servers, at one of the layers, which can be restarted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use k8s_apiserver::{
    ApiServer,
    cache::{Cache, Filter},
};
use k8s_core::{
    env::{Env, Task},
    registry::Registry,
    request::{ApiRequest, ApiResponse, Caller, ResponseBody, Verb},
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_store::{Store, check::Random};
use parking_lot::Mutex;

use super::{
    http::InProcess,
    socket::{Listening, Place},
};

/// Where watchers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// At the watch cache, with no server around it.
    Cache,
    /// At the door for components of the same process.
    Door,
    /// At the outer service: JSON, read as a client reads it.
    Http,
    /// At the other end of a TLS connection.
    Tls,
}

/// One server.
struct Running {
    cache: Arc<Cache>,
    server: Option<ApiServer>,
    /// Where lists and watches are asked for.
    reads: Arc<dyn Transport>,
    /// Where everything else is.
    writes: Option<Arc<dyn Transport>>,
    task: Option<Task>,
    listening: Option<Listening>,
}

/// The servers.
pub struct Stack {
    layer: Layer,
    env: Env,
    stores: Vec<Arc<dyn Store>>,
    places: Vec<Place>,
    servers: Mutex<Vec<Option<Running>>>,
    random: Mutex<Random>,
    rebuilds: AtomicU64,
    restarts: AtomicU64,
    /// When a server was last restarted, in milliseconds.
    restarted: AtomicU64,
}

impl Stack {
    /// Starts a server over each of the stores, which must be views of the same one.
    pub async fn start(layer: Layer, env: Env, stores: Vec<Arc<dyn Store>>, random: Random) -> Arc<Self> {
        let mut places = Vec::new();
        if layer == Layer::Tls {
            for _ in &stores {
                places.push(Place::find().await);
            }
        }
        let (servers, random) = (Mutex::new(stores.iter().map(|_| None).collect()), Mutex::new(random));
        let (rebuilds, restarts, restarted) = Default::default();
        let stack = Self { layer, env, stores, places, servers, random, rebuilds, restarts, restarted };
        for number in 0..stack.stores.len() {
            stack.begin(number).await;
        }
        Arc::new(stack)
    }

    async fn begin(&self, number: usize) {
        loop {
            match self.running(number).await {
                Ok(running) => {
                    self.servers.lock()[number] = Some(running);
                    return;
                }
                // The weather: the store does not answer.
                Err(_) => self.env.sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn running(&self, number: usize) -> ApiResult<Running> {
        let (env, store) = (self.env.clone(), self.stores[number].clone());
        if self.layer == Layer::Cache {
            let cache = Arc::new(Cache::new(env, store, &Registry::builtin(), &[]));
            let task = Some(cache.start().await?);
            let reads = Arc::new(CacheDoor(cache.clone()));
            return Ok(Running { cache, server: None, reads, writes: None, task, listening: None });
        }
        let server = ApiServer::builder(store, env.clone()).check_cache_every(Duration::from_secs(30)).start().await?;
        let door = server.transport(Caller::new("admin", &["system:masters"]).with_agent("test/1"));
        let seed = self.random.lock().bits();
        let mut listening = None;
        let reads: Arc<dyn Transport> = match self.layer {
            Layer::Http => Arc::new(InProcess::new(&server, env, Random::new(seed))),
            Layer::Tls => {
                let place = &self.places[number];
                listening = Some(place.serve(&server, env).await);
                place.transport.clone()
            }
            Layer::Cache | Layer::Door => door.clone(),
        };
        let cache = server.cache().clone();
        Ok(Running { cache, server: Some(server), reads, writes: Some(door), task: None, listening })
    }

    /// Ends one of the servers, and begins it again after a while.
    pub async fn restart(&self, random: &mut Random) {
        let number = random.below(self.stores.len() as u64) as usize;
        let Some(running) = self.servers.lock()[number].take() else { return };
        self.end(running).await;
        self.restarts.fetch_add(1, SeqCst);
        self.env.sleep(Duration::from_millis(random.below(1500))).await;
        self.begin(number).await;
        self.restarted.store(self.now_ms(), SeqCst);
    }

    async fn end(&self, running: Running) {
        self.rebuilds.fetch_add(running.cache.rebuilds(), SeqCst);
        running.cache.close();
        if let Some(listening) = running.listening {
            listening.stop().await;
        }
        drop(running.task);
        if let Some(server) = running.server {
            server.shutdown().await;
        }
    }

    /// Ends all of them.
    pub async fn stop(&self) {
        let all: Vec<_> = self.servers.lock().iter_mut().filter_map(Option::take).collect();
        for running in all {
            self.end(running).await;
        }
    }

    /// Lets the caches forget how things were before a revision.
    pub fn forget(&self, before: u64) {
        self.servers.lock().iter().flatten().for_each(|running| running.cache.compact(before));
    }

    /// How often a cache was made anew, and a server restarted.
    pub fn counts(&self) -> (u64, u64) {
        (self.rebuilds.load(SeqCst), self.restarts.load(SeqCst))
    }

    /// Whether a server was restarted during the last so long.
    pub fn is_fresh(&self, within: Duration) -> bool {
        let restarted = self.restarted.load(SeqCst);
        restarted > 0 && self.now_ms() < restarted + within.as_millis() as u64
    }

    fn now_ms(&self) -> u64 {
        self.env.monotonic().as_millis() as u64
    }
}

#[async_trait]
impl Transport for Stack {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let door = {
            let servers = self.servers.lock();
            let number = self.random.lock().below(servers.len() as u64) as usize;
            let running = servers[number].as_ref().ok_or_else(|| ApiError::unavailable("the server is restarting"))?;
            match request.verb {
                Verb::List | Verb::Watch => running.reads.clone(),
                _ => running.writes.clone().ok_or_else(|| ApiError::unavailable("there is a cache only"))?,
            }
        };
        door.call(request).await
    }
}

/// The way to a cache without a server.
struct CacheDoor(Arc<Cache>);

#[async_trait]
impl Transport for CacheDoor {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let kind = self.0.kind(&request.target.resource).ok_or_else(ApiError::no_such_path)?;
        let filter = Filter::new(&request.target, &request.options);
        Ok(ApiResponse::ok(match request.verb {
            Verb::List => ResponseBody::List(self.0.list(&kind, &filter, &request.options).await?),
            _ => ResponseBody::Watch(self.0.watch(&kind, filter, &request.options).await?),
        }))
    }
}
