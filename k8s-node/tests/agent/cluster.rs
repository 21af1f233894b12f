//! A cluster of one map: just enough of an API server for an agent, and a clock that jumps when nobody works.
#![allow(clippy::disallowed_methods)] // This is the environment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use k8s_core::{
    api::api::core::v1::{Event, Pod},
    doc::Doc,
    env::{BoxFuture, Env, Environment, Task, Timestamp},
    object::{Object, ObjectKey},
    request::{
        ApiRequest, ApiResponse, ObjectList, Options, PatchKind, RequestBody, ResourceType, ResponseBody, Target, Verb,
        WatchEvent,
    },
    resource::Resource,
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_wire::env::task;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The clock and the tasks of a tokio runtime whose time is paused.
pub struct Clock {
    start: tokio::time::Instant,
    random: Mutex<u64>,
}

impl Clock {
    pub fn env() -> Env {
        Arc::new(Self { start: tokio::time::Instant::now(), random: Mutex::new(1) })
    }
}

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_767_225_600).unwrap().checked_add(self.monotonic()).unwrap()
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
    fn random(&self) -> u64 {
        let mut state = self.random.lock();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state ^ (*state >> 33)
    }
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        task(tokio::spawn(future))
    }
}

type Key = (ResourceType, ObjectKey);

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    log: Vec<(Key, WatchEvent)>,
    uids: u64,
    /// Refuse so many writes with a conflict.
    conflicts: u32,
}

/// The map.
pub struct Cluster {
    env: Env,
    state: Mutex<State>,
    changed: Notify,
}

impl Cluster {
    pub fn new(env: Env) -> Arc<Self> {
        Arc::new(Self { env, state: Mutex::default(), changed: Notify::new() })
    }

    pub fn conflict(&self, times: u32) {
        self.state.lock().conflicts = times;
    }

    /// Puts an object there as a user would.
    pub fn create<K: Resource>(&self, value: Value) -> K {
        let mut value = value;
        value["apiVersion"] = json!(K::api_version());
        value["kind"] = json!(K::kind());
        let typed: K = serde_json::from_value(value.clone()).unwrap();
        let target = Target::all(K::resource(), typed.metadata().namespace.clone().unwrap_or_default());
        let object = self.make(&target, value).unwrap();
        (*object.typed::<K>().unwrap()).clone()
    }

    pub fn replace<K: Resource>(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = (K::resource(), ObjectKey::new(namespace, name));
        let old = self.state.lock().objects.get(&key).cloned().unwrap();
        let mut value: Value = serde_json::from_slice(&old.to_json()).unwrap();
        change(&mut value);
        self.put(key, value, WatchEvent::Modified);
    }

    pub fn get<K: Resource>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (K::resource(), ObjectKey::new(namespace, name));
        let found = self.state.lock().objects.get(&key).cloned();
        found.map(|object| object.typed::<K>().unwrap())
    }

    pub fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.get::<Pod>("default", name)
    }

    /// Deletes a pod as a user would.
    pub fn delete(&self, name: &str, grace: i64) {
        let options = Options { grace_period_seconds: Some(grace), ..Options::default() };
        self.remove(&Target::one(Pod::resource(), "default", name), &options).unwrap();
    }

    /// Waits until something holds; the clock runs meanwhile.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1000), wait).await.is_err() {
            let pods: Vec<String> = self.all::<Pod>().iter().map(|pod| serde_json::to_string(pod).unwrap()).collect();
            panic!("never: {what}\n{}\n{:#?}", pods.join("\n"), self.events());
        }
    }

    pub async fn until_pod(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        self.until(what, |cluster| cluster.pod(name).is_some_and(|pod| holds(&pod))).await;
        self.pod(name).unwrap()
    }

    fn all<K: Resource>(&self) -> Vec<Arc<K>> {
        let state = self.state.lock();
        let all = state.objects.iter().filter(|((resource, _), _)| *resource == K::resource());
        all.map(|(_, object)| object.typed::<K>().unwrap()).collect()
    }

    /// Reason and message of every event, oldest first.
    pub fn events(&self) -> Vec<String> {
        let mut all = self.all::<Event>();
        all.sort_by_key(|event| event.metadata.resource_version.clone().map(|v| (v.len(), v)));
        let text = |event: &Event| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} {}", part(&event.reason), part(&event.message))
        };
        all.iter().map(|event| text(event)).collect()
    }

    /// How often an object of a kind was written.
    pub fn writes<K: Resource>(&self, name: &str) -> usize {
        let state = self.state.lock();
        state.log.iter().filter(|((resource, key), _)| *resource == K::resource() && key.name == name).count()
    }

    fn put(&self, key: Key, mut value: Value, event: fn(Arc<Object>) -> WatchEvent) -> Arc<Object> {
        let mut state = self.state.lock();
        state.revision += 1;
        value["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let object = Object::from_json(serde_json::to_vec(&value).unwrap().into(), Some(state.revision)).unwrap();
        let object = Arc::new(object);
        state.objects.insert(key.clone(), object.clone());
        state.log.push((key, event(object.clone())));
        drop(state);
        self.changed.notify_waiters();
        object
    }

    fn make(&self, target: &Target, mut value: Value) -> ApiResult<Arc<Object>> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (target.resource.clone(), ObjectKey::new(target.namespace.clone(), name.as_str()));
        if self.state.lock().objects.contains_key(&key) {
            let message = format!("{name} already exists");
            return Err(ApiError::new(409, k8s_core::status::Reason::AlreadyExists, message));
        }
        let number = {
            let mut state = self.state.lock();
            state.uids += 1;
            state.uids
        };
        let meta = value["metadata"].as_object_mut().unwrap();
        meta.insert("uid".into(), json!(format!("00000000-0000-4000-8000-{number:012}")));
        meta.insert("creationTimestamp".into(), json!(self.env.now()));
        meta.insert("generation".into(), json!(1));
        Ok(self.put(key, value, WatchEvent::Added))
    }

    fn remove(&self, target: &Target, options: &Options) -> ApiResult<()> {
        let key = (target.resource.clone(), ObjectKey::new(target.namespace.clone(), target.name.clone()));
        let found = self.state.lock().objects.get(&key).cloned();
        let found = found.ok_or_else(|| ApiError::not_found(&target.resource.plural, "", &target.name))?;
        if options.precondition_uid.as_ref().is_some_and(|uid| *uid != found.meta.uid) {
            return Err(stale("pods", "", &target.name));
        }
        if target.resource == Pod::resource() && options.grace_period_seconds != Some(0) {
            let mut value: Value = serde_json::from_slice(&found.to_json()).unwrap();
            let grace = options.grace_period_seconds.unwrap_or(30);
            let at = self.env.now().checked_add(Duration::from_secs(grace.unsigned_abs())).unwrap();
            value["metadata"]["deletionTimestamp"] = json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            self.put(key, value, WatchEvent::Modified);
            return Ok(());
        }
        let mut state = self.state.lock();
        state.revision += 1;
        state.objects.remove(&key);
        let gone = Arc::new(found.at_revision(state.revision));
        state.log.push((key, WatchEvent::Deleted(gone)));
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    fn update(&self, target: &Target, new: Value) -> ApiResult<Arc<Object>> {
        let key = (target.resource.clone(), ObjectKey::new(target.namespace.clone(), target.name.clone()));
        let old = {
            let mut state = self.state.lock();
            if state.conflicts > 0 && target.resource == Pod::resource() {
                state.conflicts -= 1;
                return Err(stale("pods", "", &target.name));
            }
            state.objects.get(&key).cloned()
        };
        let old = old.ok_or_else(|| ApiError::not_found(&target.resource.plural, "", &target.name))?;
        let base = new["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if base.is_some_and(|base| base != old.revision().to_string()) {
            return Err(stale(&target.resource.plural, "", &target.name));
        }
        let before: Value = serde_json::from_slice(&old.to_json()).unwrap();
        let mut value = before.clone();
        match target.subresource.as_str() {
            "status" => value["status"] = new["status"].clone(),
            _ => value = new,
        }
        if value == before {
            return Ok(old);
        }
        Ok(self.put(key, value, WatchEvent::Modified))
    }

    fn read(&self, target: &Target) -> ApiResult<Arc<Object>> {
        let key = (target.resource.clone(), ObjectKey::new(target.namespace.clone(), target.name.clone()));
        let found = self.state.lock().objects.get(&key).cloned();
        found.ok_or_else(|| ApiError::not_found(&target.resource.plural, "", &target.name))
    }
}

fn stale(resource: &str, group: &str, name: &str) -> ApiError {
    ApiError::conflict(resource, group, name, "the object has been modified")
}

fn selected(key: &Key, object: &Object, target: &Target, options: &Options) -> bool {
    let namespace = target.namespace.is_empty() || key.1.namespace == target.namespace;
    key.0 == target.resource
        && namespace
        && options.field_selector.matches(|path| match path {
            "metadata.name" => Some(object.meta.name.as_str()),
            "spec.nodeName" => Some(object.meta.node_name.as_str()),
            _ => None,
        })
}

fn value(doc: &Doc) -> Value {
    serde_json::from_slice(&doc.to_json()).unwrap()
}

/// The map as a transport.
pub struct Wire(pub Arc<Cluster>);

#[async_trait]
impl Transport for Wire {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        tokio::task::yield_now().await;
        let ApiRequest { verb, target, options, body, .. } = request;
        let cluster = &self.0;
        let object = |object| Ok(ApiResponse::ok(ResponseBody::Object(object)));
        match (verb, body) {
            (Verb::Get, _) => object(cluster.read(&target)?),
            (Verb::Create, RequestBody::Doc(doc)) if target.subresource == "token" => {
                let mut answer = value(&doc);
                let expires = cluster.env.now().checked_add(Duration::from_secs(3600)).unwrap();
                let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let token = format!("token-{}-{}", target.name, expires);
                answer["status"] = json!({"token": token, "expirationTimestamp": expires});
                Ok(ApiResponse::ok(ResponseBody::Doc(Doc::from_serialize(&answer).unwrap())))
            }
            (Verb::Create, RequestBody::Doc(doc)) => object(cluster.make(&target, value(&doc))?),
            (Verb::Update, RequestBody::Doc(doc)) => object(cluster.update(&target, value(&doc))?),
            (Verb::Patch, RequestBody::Patch(PatchKind::Merge, doc)) => {
                let mut new: Value = serde_json::from_slice(&cluster.read(&target)?.to_json()).unwrap();
                for (field, change) in value(&doc).as_object().unwrap() {
                    new[field] = change.clone();
                }
                object(cluster.update(&target, new)?)
            }
            (Verb::Delete, _) => {
                cluster.remove(&target, &options)?;
                Ok(ApiResponse::ok(ResponseBody::Status(k8s_core::status::Status::success())))
            }
            (Verb::List, _) => {
                let state = cluster.state.lock();
                let all = state.objects.iter().filter(|(key, object)| selected(key, object, &target, &options));
                let items = all.map(|(_, object)| object.clone()).collect();
                Ok(ApiResponse::ok(ResponseBody::List(ObjectList {
                    items,
                    revision: state.revision,
                    ..Default::default()
                })))
            }
            (Verb::Watch, _) => {
                Ok(ApiResponse::ok(ResponseBody::Watch(Box::pin(watch(cluster.clone(), target, options)))))
            }
            (verb, body) => panic!("the test cluster cannot {verb:?} with {body:?}"),
        }
    }
}

fn watch(
    cluster: Arc<Cluster>,
    target: Target,
    options: Options,
) -> impl futures::Stream<Item = ApiResult<WatchEvent>> + Send {
    let from = options.resource_version.unwrap_or(0);
    stream::unfold((cluster, 0usize), |(cluster, at)| async move {
        loop {
            let next = {
                let changed = cluster.changed.notified();
                let next = cluster.state.lock().log.get(at).cloned();
                if next.is_none() {
                    changed.await;
                }
                next
            };
            if let Some(entry) = next {
                return Some((entry, (cluster, at + 1)));
            }
        }
    })
    .filter_map(move |(key, event)| {
        let object = event.object().unwrap().clone();
        let wanted = event.revision() > from && selected(&key, &object, &target, &options);
        std::future::ready(wanted.then_some(Ok(event)))
    })
}
