//! Defects that no watch shows, each of which real API servers and controllers had.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use k8s_apiserver::ApiServer;
use k8s_core::{
    api::api::core::v1::{ConfigMap, Secret},
    env::{BoxFuture, Env, Environment, Task, Timestamp},
    request::{ApiRequest, ApiResponse, Caller, ResponseBody, Verb},
    resource::{Resource, Stored},
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{Client, Controller, Cx, InformerScope, Next, Reconciler, informer::Delta};
use k8s_store::{
    Memory, Store, Transaction,
    check::{Call, Recorder},
};

use super::proof::{
    clock::paused,
    lagging::Lagging,
    scene::object,
    wanted::{Begin, PREFIX, WANTS, config_maps},
};

/// An environment whose wall clock can be set.
struct Adjusted {
    inner: Env,
    by_seconds: AtomicI64,
}

impl Environment for Adjusted {
    fn now(&self) -> Timestamp {
        let seconds = self.inner.now().as_second() + self.by_seconds.load(SeqCst);
        Timestamp::from_second(seconds).expect("a time that there is")
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        self.inner.spawn(name, future)
    }
}

fn admin() -> Caller {
    Caller::new("admin", &["system:masters"]).with_agent("test/1")
}

async fn put(store: &dyn Store, name: &str, value: &str) -> u64 {
    let text = object("default", name, "yes", value);
    let put = Transaction::new().put(format!("{PREFIX}default/{name}"), text);
    store.commit(put).await.expect("it is written").revision.0
}

/// Kubernetes 96259: watches whose end was reckoned on the wall clock stayed when it was set.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_leaks_no_watch_and_ends_none() {
    for jump in [-30 * 365 * 86_400, 10 * 365 * 86_400] {
        let env = Arc::new(Adjusted { inner: paused(), by_seconds: AtomicI64::new(0) });
        let server = ApiServer::builder(Arc::new(Memory::new(env.clone())), env.clone()).start().await.unwrap();
        let door = server.transport(admin());
        let idle = server.cache().watches();
        let mut watches = Vec::new();
        for wanted in &WANTS {
            let ask = wanted.watch(Begin::After(server.revision()), Some(Duration::from_secs(100)));
            watches.push(door.call(ask).await.unwrap().into_watch().unwrap());
        }
        assert_eq!(server.cache().watches(), idle + WANTS.len());
        env.sleep(Duration::from_secs(50)).await;
        env.by_seconds.store(jump, SeqCst);
        for watch in &mut watches {
            assert!(watch.next().now_or_never().is_none(), "it goes on");
        }
        env.sleep(Duration::from_secs(51)).await;
        for mut watch in watches {
            while let Some(event) = watch.next().now_or_never().expect("its time is up") {
                event.expect("it ends without an error");
            }
        }
        assert_eq!(server.cache().watches(), idle, "who has ended is forgotten");
    }
}

/// Kubernetes 86430, 6770, 65954: after a restart of a server all its clients listed anew, on the store.
#[tokio::test(start_paused = true)]
async fn after_a_restart_nobody_lists_anew_and_the_store_is_read_once() {
    const CLIENTS: usize = 60;
    let env = paused();
    let recorder = Recorder::new(Arc::new(Memory::new(env.clone())));
    let store = recorder.client(0);
    let server = ApiServer::builder(store.clone(), env.clone()).start().await.unwrap();
    put(&*store, "before", "1").await;
    let way = Arc::new(Way { door: parking_lot::Mutex::new(server.transport(admin())), lists: AtomicU64::new(0) });
    let mut informers = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::new(way.clone(), env.clone());
        let informer = client.dynamic_informer(config_maps(), WANTS[number % 2].scope());
        informer.synced().await;
        informers.push((client, informer));
    }
    assert_eq!(way.lists.load(SeqCst), CLIENTS as u64);
    server.shutdown().await;
    put(&*store, "while-away", "1").await;
    recorder.take();
    let again = ApiServer::builder(store.clone(), env.clone()).start().await.unwrap();
    *way.door.lock() = again.transport(admin());
    let last = put(&*store, "after", "1").await;
    for (_, informer) in &informers {
        assert!(informer.caught_up(last, Duration::from_secs(90)).await);
        assert!(informer.len() >= 3, "what happened while there was no server is not missed");
    }
    assert_eq!(way.lists.load(SeqCst), CLIENTS as u64, "every watch resumed where it was");
    let asked = recorder.so_far().operations;
    let reads = asked.iter().filter(|operation| matches!(operation.call, Call::List(..) | Call::Watch(..))).count();
    // One reads the definitions of custom kinds, before the cache knows which kinds there are.
    assert!(reads <= 4, "{reads} lists and watches of the store for {CLIENTS} clients");
}

/// A way to whatever server there is, which counts lists.
struct Way {
    door: parking_lot::Mutex<Arc<dyn Transport>>,
    lists: AtomicU64,
}

#[async_trait]
impl Transport for Way {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.lists.fetch_add(u64::from(request.verb == Verb::List), SeqCst);
        let door = self.door.lock().clone();
        door.call(request).await
    }
}

/// Kubernetes 97294, 59848: a server that is behind answered with what it had; a component that began anew on that list
/// took a deleted pod for alive.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_behind_answers_no_list_from_the_past() {
    let env = paused();
    let memory = Arc::new(Memory::new(env.clone()));
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = stuck.clone();
    let late = move || if is_stuck.load(SeqCst) { Duration::from_secs(3600) } else { Duration::ZERO };
    let late = Lagging { inner: memory.clone(), env: env.clone(), late: Arc::new(late) };
    let server = ApiServer::builder(Arc::new(late), env.clone()).start().await.unwrap();
    let door = server.transport(admin());
    let seen = put(&*memory, "a", "1").await;
    server.cache().wait_for(seen).await.unwrap();
    stuck.store(true, SeqCst);
    let gone = Transaction::new().delete(format!("{PREFIX}default/a"));
    let gone = memory.commit(gone).await.unwrap().revision.0;
    let refused = door.call(WANTS[0].list()).await.expect_err("it does not know the newest state");
    assert_eq!(refused.code(), 504);
    let client = Client::new(door.clone(), env.clone());
    let informer = client.dynamic_informer(config_maps(), InformerScope::all());
    assert!(!informer.caught_up(seen, Duration::from_secs(600)).await, "it begins with nothing rather than the past");
    assert!(informer.is_empty());
    assert!(informer.caught_up(gone, Duration::from_secs(7200)).await);
    assert!(informer.list().iter().all(|object| object.meta.name != "a"), "what was deleted is not seen alive");
}

/// Kubernetes 129795: expectations of what a cache will show expired after five minutes, and everything was made again.
#[tokio::test(start_paused = true)]
async fn a_watch_that_is_late_by_an_hour_makes_nobody_create_anything_twice() {
    let env = paused();
    let server = ApiServer::builder(Arc::new(Memory::new(env.clone())), env.clone()).start().await.unwrap();
    let door = server.transport(admin());
    let late = Arc::new(LateSecrets { inner: door.clone(), env: env.clone() });
    let running = Controller::new("three", Three).owns::<Secret>().start(Client::new(late, env.clone()));
    let others = Client::new(door, env.clone());
    let mut map = ConfigMap::default();
    map.metadata_mut().name = Some("owner".into());
    let maps = others.namespaced::<ConfigMap>("default");
    maps.create(map).await.unwrap();
    for minute in 0..120 {
        running.trigger(k8s_core::object::ObjectKey::new("default", "owner"));
        env.sleep(Duration::from_secs(60)).await;
        let made = others.namespaced::<Secret>("default").list(Default::default()).await.unwrap().len();
        assert!(made <= 3, "{made} after {minute} minutes");
    }
    assert_eq!(others.namespaced::<Secret>("default").list(Default::default()).await.unwrap().len(), 3);
    running.stop().await;
}

/// Handlers that pass over what was there at their start must not pass over what a later list finds.
#[tokio::test(start_paused = true)]
async fn what_a_later_list_finds_is_news() {
    let env = paused();
    let store: Arc<dyn Store> = Arc::new(Memory::new(env.clone()));
    let server = ApiServer::builder(store.clone(), env.clone()).start().await.unwrap();
    put(&*store, "a", "1").await;
    let expiring = Expiring { inner: server.transport(admin()), store, has_expired: AtomicBool::new(false) };
    let informer = Client::new(Arc::new(expiring), env.clone()).dynamic_informer(config_maps(), WANTS[1].scope());
    let told: Arc<parking_lot::Mutex<Vec<(String, bool)>>> = Arc::default();
    let noted = told.clone();
    let _subscription = informer.subscribe(Arc::new(move |delta: &Delta| {
        noted.lock().push((delta.object().meta.name.to_string(), delta.initial));
    }));
    informer.synced().await;
    while informer.len() < 2 {
        env.sleep(Duration::from_secs(1)).await;
    }
    let told = told.lock().clone();
    assert_eq!(told, [("a", true), ("a", false), ("b", false)].map(|(name, initial)| (name.to_owned(), initial)));
}

/// A way to a server on which the first watch is refused: it would miss two changes.
struct Expiring {
    inner: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    has_expired: AtomicBool,
}

#[async_trait]
impl Transport for Expiring {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        if request.verb == Verb::Watch && !self.has_expired.swap(true, SeqCst) {
            put(&*self.store, "a", "2").await;
            put(&*self.store, "b", "1").await;
            return Err(ApiError::expired("too old"));
        }
        self.inner.call(request).await
    }
}

/// Makes secrets until its cache shows three, one at a time.
struct Three;

impl Reconciler for Three {
    type Object = ConfigMap;
    type Error = ApiError;

    async fn reconcile(&self, map: Stored<ConfigMap>, cx: Cx) -> Result<Next, ApiError> {
        if map.name() == "owner" && cx.cached::<Secret>()?.list_in("default").len() < 3 {
            let mut secret = Secret::default();
            secret.metadata_mut().generate_name = Some("made-".into());
            secret.metadata_mut().namespace = Some("default".into());
            cx.create(secret).await?;
        }
        Ok(Next::Done)
    }
}

/// A way to a server on which watches of secrets are late by twenty minutes for each event.
struct LateSecrets {
    inner: Arc<dyn Transport>,
    env: Env,
}

#[async_trait]
impl Transport for LateSecrets {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let is_late = request.target.resource.plural == "secrets";
        let mut answer = self.inner.call(request).await?;
        answer.body = match answer.body {
            ResponseBody::Watch(watch) if is_late => {
                let env = self.env.clone();
                let late = watch.then(move |event| env.sleep(Duration::from_secs(1200)).map(move |()| event));
                ResponseBody::Watch(Box::pin(late))
            }
            other => other,
        };
        Ok(answer)
    }
}
