//! The cache over a store that does as it is told, without a server around it.
//!
//! Among them are the defects that real caches had: an event lost at an empty window, at a rebuild, or for good; a
//! corrupt key that takes everything down; a reader that is woken for what it does not want.

mod comparison;
mod slow;
mod work;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, Stream, StreamExt};
use k8s_core::{
    object::ObjectKey,
    registry::Registry,
    request::{Options, ResourceType, Target, WatchStream},
};
use k8s_store::{
    Committed, Digest, Key, LeaseId, Listing, Memory, Page, Statistics, Store, StoreError, Transaction,
    WatchStream as StoreWatch,
};
use parking_lot::Mutex;

use super::*;
use crate::server::tests::clock::paused;

/// A memory store whose watches can be cut, that can hide a change from them, and that counts how it is read.
struct Faulty {
    store: Memory,
    /// How often something was read out of it; asking for the head is not counted.
    reads: AtomicUsize,
    /// Whether lists fail.
    silent: AtomicBool,
    cut: Arc<AtomicBool>,
    hide: Arc<Mutex<Option<u64>>>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Faulty {
    fn new(env: Env) -> Arc<Self> {
        let (reads, silent, cut, hide, wakers) = Default::default();
        Arc::new(Self { store: Memory::new(env), reads, silent, cut, hide, wakers })
    }

    /// Fails every open watch once.
    fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.wakers.lock().drain(..).for_each(Waker::wake);
    }

    async fn put(&self, name: &str, value: &str) -> u64 {
        let json = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"n"}},"data":{{"v":"{value}"}}}}"#
        );
        self.raw(name, json).await
    }

    async fn raw(&self, name: &str, text: String) -> u64 {
        let key = format!("/registry/configmaps/n/{name}");
        self.store.commit(Transaction::new().put(key, text)).await.unwrap().revision.0
    }

    async fn delete(&self, name: &str) -> u64 {
        let key = format!("/registry/configmaps/n/{name}");
        self.store.commit(Transaction::new().delete(key)).await.unwrap().revision.0
    }
}

struct FaultyWatch {
    inner: StoreWatch,
    cut: Arc<AtomicBool>,
    hide: Arc<Mutex<Option<u64>>>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Stream for FaultyWatch {
    type Item = Result<k8s_store::WatchItem, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.cut.swap(false, Relaxed) {
            return Poll::Ready(Some(Err(StoreError::Unavailable("cut".into()))));
        }
        self.wakers.lock().push(cx.waker().clone());
        loop {
            let item = std::task::ready!(self.inner.as_mut().poll_next(cx));
            let hidden = *self.hide.lock();
            match &item {
                Some(Ok(k8s_store::WatchItem::Change(change))) if Some(change.revision.0) == hidden => {}
                _ => return Poll::Ready(item),
            }
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.store.head().await
    }
    async fn get(&self, key: &Key) -> Result<Option<k8s_store::Entry>, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        self.store.get(key).await
    }
    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        if self.silent.load(Relaxed) {
            return Err(StoreError::Unavailable("silent".into()));
        }
        self.store.list(prefix, page).await
    }
    async fn watch(&self, prefix: &str, from: Revision) -> Result<StoreWatch, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        let inner = self.store.watch(prefix, from).await?;
        let (cut, hide, wakers) = (self.cut.clone(), self.hide.clone(), self.wakers.clone());
        Ok(Box::pin(FaultyWatch { inner, cut, hide, wakers }))
    }
    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        self.store.commit(transaction).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
    async fn progress(&self) -> Result<Revision, StoreError> {
        self.store.progress().await
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.store.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }
    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.store.statistics().await
    }
    async fn digest(&self) -> Result<Digest, StoreError> {
        self.store.digest().await
    }
}

fn config_maps() -> ResourceType {
    ResourceType::new("", "v1", "configmaps")
}

async fn cache_over(store: &Arc<Faulty>, env: Env) -> (Arc<Cache>, Task) {
    let cache = Arc::new(Cache::new(env, store.clone(), &Registry::builtin(), &[]));
    let task = cache.start().await.unwrap();
    (cache, task)
}

async fn watch(cache: &Arc<Cache>, name: &str, from: Option<u64>) -> ApiResult<WatchStream> {
    let kind = &cache.kind(&config_maps()).unwrap();
    let options = Options { resource_version: from, ..Options::default() };
    let target = Target::one(config_maps(), "n", name);
    cache.watch(kind, Filter::new(&target, &options), &options).await
}

async fn names(cache: &Arc<Cache>) -> Vec<String> {
    let kind = &cache.kind(&config_maps()).unwrap();
    let list = cache.list(kind, &Filter::default(), &Options::default()).await.unwrap();
    list.items.iter().map(|object| object.meta.name.to_string()).collect()
}

async fn next(watch: &mut WatchStream) -> String {
    match watch.next().await {
        Some(Ok(event)) => event.object().map_or("BOOKMARK".into(), |object| object.meta.name.to_string()),
        Some(Err(error)) => error.code().to_string(),
        None => "END".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_event_after_an_empty_start_is_seen() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let mut from_start = watch(&cache, "", Some(cache.revision())).await.unwrap();
    let mut initial = watch(&cache, "", None).await.unwrap();
    store.put("a", "1").await;
    assert_eq!((next(&mut from_start).await, next(&mut initial).await), ("a".into(), "a".into()));
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_of_the_store_loses_nothing_and_nobody_lists_anew() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    store.put("a", "1").await;
    let mut watch = watch(&cache, "", None).await.unwrap();
    assert_eq!(next(&mut watch).await, "a");
    store.cut();
    store.put("b", "1").await;
    store.delete("a").await;
    assert_eq!(next(&mut watch).await, "b");
    assert_eq!(next(&mut watch).await, "a");
    assert_eq!((names(&cache).await, cache.rebuilds()), (vec!["b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_missed_a_change_notices_makes_itself_anew_and_tells_its_watchers() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let first = store.put("a", "1").await;
    cache.wait_for(first).await.unwrap();
    let mut behind = watch(&cache, "", Some(first)).await.unwrap();
    *store.hide.lock() = Some(first + 1);
    store.delete("a").await;
    store.put("a", "2").await;
    // The cache held `a` at its first revision, where the store says that nothing was before.
    assert_eq!(next(&mut behind).await, "410", "it cannot be told what it missed");
    assert_eq!((names(&cache).await, cache.rebuilds()), (vec!["a".to_owned()], 1));
    let mut anew = watch(&cache, "", None).await.unwrap();
    assert_eq!(next(&mut anew).await, "a");
    store.delete("a").await;
    assert_eq!(next(&mut anew).await, "a");
    assert_eq!(cache.rebuilds(), 1, "and is true from then on");
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_object_costs_itself_and_nothing_else() {
    let env = paused();
    let store = Faulty::new(env.clone());
    store.raw("before", "not JSON".into()).await;
    let (cache, _task) = cache_over(&store, env).await;
    store.put("a", "1").await;
    assert_eq!(names(&cache).await, ["a"]);
    let mut watch = watch(&cache, "", Some(store.put("after", "1").await)).await.unwrap();
    store.raw("after", "{".into()).await;
    assert_eq!(next(&mut watch).await, "after", "it is told as gone");
    store.put("b", "1").await;
    assert_eq!(names(&cache).await, ["a", "b"]);
    store.delete("after").await;
    store.put("before", "mended").await;
    assert_eq!(names(&cache).await, ["a", "b", "before"]);
    store.put("after", "mended").await;
    assert_eq!(names(&cache).await, ["a", "after", "b", "before"]);
    assert_eq!(cache.rebuilds(), 0, "nobody has to start anew");
}

/// It once made the cache anew at each of its changes, because the list and the changes put it in different places.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_where_it_says_costs_itself_and_nothing_else() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let elsewhere = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
    store.raw("lost", elsewhere.into()).await;
    let (cache, _task) = cache_over(&store, env).await;
    let mut watch = watch(&cache, "", None).await.unwrap();
    store.raw("lost", elsewhere.into()).await;
    store.put("b", "1").await;
    assert_eq!(next(&mut watch).await, "b");
    store.put("lost", "found").await;
    assert_eq!(next(&mut watch).await, "lost");
    assert_eq!((names(&cache).await, cache.rebuilds()), (vec!["b".to_owned(), "lost".to_owned()], 0));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_woken_for_what_it_wants_and_nothing_else() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    let mut one = watch(&cache, "wanted", None).await.unwrap();
    assert!(one.poll_next_unpin(&mut cx).is_pending());
    for n in 0..500 {
        store.put(&format!("other-{n}"), "1").await;
    }
    let last = store.put("other", "1").await;
    cache.wait_for(last).await.unwrap();
    assert_eq!(count.0.load(Relaxed), 0);
    let wanted = store.put("wanted", "1").await;
    cache.wait_for(wanted).await.unwrap();
    assert_eq!(count.0.load(Relaxed), 1);
    assert!(one.poll_next_unpin(&mut cx).is_ready());
}

/// A watch of a namespace is found by the namespace; so must it still be when a watch of one of its objects has ended.
#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_takes_no_other_along() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let mut staying = watch(&cache, "", None).await.unwrap();
    let ending = watch(&cache, "a", None).await.unwrap();
    assert!(staying.next().now_or_never().is_none());
    drop(ending);
    store.put("b", "1").await;
    assert_eq!(next(&mut staying).await, "b");
    drop(staying);
    assert_eq!(cache.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_state_is_as_it_was() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let mut moments = Vec::new();
    for n in 0..60 {
        let name = format!("c{}", n * 7 % 11);
        let revision = if n % 3 == 2 { store.delete(&name).await } else { store.put(&name, &n.to_string()).await };
        cache.wait_for(revision).await.unwrap();
        moments.push((revision, cache.kind(&config_maps()).unwrap().state()));
    }
    let kind = &cache.kind(&config_maps()).unwrap();
    let shown = |state: &State| -> Vec<(ObjectKey, u64)> {
        state.iter().map(|(key, object)| (key.clone(), object.revision())).collect()
    };
    for (revision, then) in moments.iter().rev().chain(&moments) {
        let again = kind.state_at(*revision).unwrap();
        assert_eq!(shown(&again), shown(then), "at {revision}");
        assert_eq!(again.count("n"), then.iter().count() as u64);
    }
}
