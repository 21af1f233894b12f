//! A door that keeps objects in a map, a catalog of a few kinds, and authenticators that know a few names.

use std::{collections::BTreeMap, sync::atomic::AtomicU64, sync::atomic::Ordering::Relaxed};

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_core::{
    doc,
    doc::Doc,
    object::Object,
    registry::{Registry, ResourceInfo, Scope},
    request::{Connection, ObjectList, RequestBody, Target, WatchEvent},
    seam::node::ByteStream,
    status::Status,
};
use k8s_wire::env::System;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tower::ServiceExt;

use super::super::*;
use crate::auth::{Attributes, Credentials, Decision};

/// Opens the backend of a connection.
pub type Dial = Box<dyn Fn(&Target) -> Box<dyn ByteStream> + Send>;

/// What the door saw, what it keeps, and what it says when it is told to fail.
pub struct FakeDoor {
    pub seen: Mutex<Vec<(Caller, ApiRequest)>>,
    pub objects: Mutex<BTreeMap<String, Arc<Object>>>,
    pub fail: Mutex<Option<ApiError>>,
    pub dial: Mutex<Option<Dial>>,
    revision: AtomicU64,
    changes: broadcast::Sender<WatchEvent>,
}

impl FakeDoor {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            objects: Mutex::default(),
            fail: Mutex::default(),
            dial: Mutex::default(),
            revision: AtomicU64::new(10),
            changes: broadcast::channel(64).0,
        })
    }

    pub fn last(&self) -> (Caller, ApiRequest) {
        self.seen.lock().last().cloned().expect("the door was asked")
    }

    fn key(target: &Target, name: &str) -> String {
        format!("{}/{}/{name}", target.resource, target.namespace)
    }

    fn put(&self, target: &Target, mut doc: Doc) -> Arc<Object> {
        let name = doc.str_at(&["metadata", "name"]).to_owned();
        doc.remove_at(&["metadata", "resourceVersion"]);
        if !target.namespace.is_empty() {
            doc.set_at(&["metadata", "namespace"], Doc::from(target.namespace.as_str()));
        }
        doc.set_at(&["metadata", "uid"], Doc::from(format!("uid-{name}")));
        let revision = self.revision.fetch_add(1, Relaxed) + 1;
        let object = Arc::new(Object::from_json(doc.to_json().into(), Some(revision)).unwrap());
        let before = self.objects.lock().insert(Self::key(target, &name), object.clone());
        let event = match before {
            None => WatchEvent::Added(object.clone()),
            Some(_) => WatchEvent::Modified(object.clone()),
        };
        let _ = self.changes.send(event);
        object
    }

    fn find(&self, target: &Target) -> ApiResult<Arc<Object>> {
        let key = Self::key(target, &target.name);
        let of = &target.resource;
        self.objects.lock().get(&key).cloned().ok_or_else(|| ApiError::not_found(&of.plural, &of.group, &target.name))
    }

    fn listed(&self, target: &Target) -> ObjectList {
        let prefix = format!("{}/{}", target.resource, target.namespace);
        let objects = self.objects.lock();
        let items = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone());
        ObjectList { items: items.collect(), revision: self.revision.load(Relaxed), ..ObjectList::default() }
    }
}

#[async_trait]
impl Door for FakeDoor {
    async fn handle(&self, caller: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.seen.lock().push((caller, request.clone()));
        if let Some(error) = self.fail.lock().clone() {
            return Err(error);
        }
        if request.target.name == "panic" {
            panic!("on purpose");
        }
        let target = &request.target;
        Ok(match (request.verb, request.body) {
            (Verb::Create, RequestBody::Doc(doc)) if target.resource.plural.ends_with("reviews") => {
                ApiResponse::created(ResponseBody::Doc(doc))
            }
            (Verb::Create, RequestBody::Doc(doc)) => ApiResponse::created(ResponseBody::Object(self.put(target, doc))),
            (Verb::Update, RequestBody::Doc(doc)) => ApiResponse::ok(ResponseBody::Object(self.put(target, doc))),
            (Verb::Patch, RequestBody::Patch(_, patch)) => {
                let mut doc = self.find(target).map_or_else(|_| patch.clone(), |o| Doc::parse(&o.to_json()).unwrap());
                for (field, value) in patch.as_object().into_iter().flat_map(|fields| fields.iter()) {
                    if field != "metadata" {
                        doc.set_at(&[field], value.clone());
                    }
                }
                ApiResponse::ok(ResponseBody::Object(self.put(target, doc)))
            }
            (Verb::Delete, _) => {
                self.find(target)?;
                self.objects.lock().remove(&Self::key(target, &target.name));
                ApiResponse::ok(ResponseBody::Status(Status::success()))
            }
            (Verb::List, _) => ApiResponse::ok(ResponseBody::List(self.listed(target))),
            (Verb::Watch, _) => {
                let old = self.listed(target).items.into_iter().map(|object| Ok(WatchEvent::Added(object)));
                let old: Vec<ApiResult<WatchEvent>> = old.collect();
                let revision = self.revision.load(Relaxed);
                let end = Ok(WatchEvent::Bookmark { revision, initial_events_end: true });
                let new = futures::stream::unfold(self.changes.subscribe(), |mut changes| async move {
                    Some((Ok(changes.recv().await.ok()?), changes))
                });
                let events = futures::stream::iter(old).chain(futures::stream::iter([end])).chain(new);
                ApiResponse::ok(ResponseBody::Watch(Box::pin(events)))
            }
            (Verb::Connect, _) => {
                let dial = self.dial.lock();
                let stream = dial.as_ref().ok_or_else(|| ApiError::unavailable("no backend"))?(target);
                let below = if target.subresource == "portforward" { "/portforward" } else { "" };
                let path_and_query =
                    format!("/backend{below}{}?{}", request.options.connect_path, request.options.connect_query);
                ApiResponse::ok(ResponseBody::Connection(Connection {
                    stream,
                    host: "node:10250".into(),
                    path_and_query,
                }))
            }
            _ => ApiResponse::ok(ResponseBody::Object(self.find(target)?)),
        })
    }
}

/// The built-in kinds, a custom one, and one that lives in the cluster.
pub struct FakeCatalog(Arc<Registry>);

impl FakeCatalog {
    pub fn new() -> Self {
        let schema = || Schemas::builtin().schema("", "v1", "ConfigMap").unwrap();
        let wheels = ResourceInfo::custom("example.com", "v1", "wheels", "Wheel", schema());
        let roads = ResourceInfo::custom("example.com", "v1", "roads", "Road", schema());
        let roads = ResourceInfo { scope: Scope::Cluster, ..roads };
        Self(Arc::new(Registry::builtin().with(wheels).with(roads)))
    }
}

impl Catalog for FakeCatalog {
    fn registry(&self) -> Arc<Registry> {
        self.0.clone()
    }

    fn written_schema(&self, _: &ResourceInfo) -> Option<Arc<Doc>> {
        Some(Arc::new(doc!({
            "type": "object",
            "description": "Wheels go round.",
            "properties": {"spec": {"type": "object", "properties": {
                "spokes": {"type": "integer", "description": "How many spokes it has."}
            }}}
        })))
    }
}

/// Knows the token `good`, and certificates.
pub struct FakeAuthenticator;

#[async_trait]
impl Authenticator for FakeAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        match credentials.bearer.as_deref() {
            Some("good") => Ok(Some(Caller::new("tester", &["testers"]))),
            _ => Ok(None),
        }
    }
}

/// Lets everyone read `/version` and the health paths, and `tester` everything but impersonation of `root`.
pub struct FakeAuthorizer;

#[async_trait]
impl Authorizer for FakeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let public = matches!(attributes.subject, crate::auth::Subject::Path("/version" | "/livez" | "/readyz"));
        let root = attributes.verb == "impersonate" && attributes.target().is_some_and(|target| target.name == "root");
        if public || attributes.caller.is_in("testers") && !root {
            return Decision::Allow;
        }
        Decision::NoOpinion(String::new())
    }
}

/// The outer service over a fresh door.
pub fn outer() -> (Outer, Arc<FakeDoor>) {
    let door = FakeDoor::new();
    let parts = Parts::new(
        System::current(),
        door.clone(),
        Arc::new(FakeCatalog::new()),
        Arc::new(FakeAuthenticator),
        Arc::new(FakeAuthorizer),
    );
    (Outer::new(parts), door)
}

/// An answer, read whole.
pub struct Got {
    pub code: u16,
    pub head: http::response::Parts,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Doc {
        Doc::parse(self.body.as_bytes()).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Asks as `tester`.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", "Bearer good").header("user-agent", "test/1")
}

pub async fn call(outer: &Outer, request: Request<Body>) -> Got {
    let response: Response<Body> = outer.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Got { code: head.status.as_u16(), head, body: String::from_utf8_lossy(&bytes).into_owned() }
}

pub async fn get(outer: &Outer, path: &str) -> Got {
    call(outer, request("GET", path).body(body::empty()).unwrap()).await
}

pub async fn send(outer: &Outer, method: &str, path: &str, media_type: &str, text: impl Into<bytes::Bytes>) -> Got {
    call(outer, request(method, path).header("content-type", media_type).body(body::full(text)).unwrap()).await
}

pub const JSON: &str = "application/json";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/n/configmaps";

/// A config map's JSON.
pub fn config_map(name: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","labels":{{"a":"}}"}},"creationTimestamp":"2026-11-21T05:00:00Z"}},"data":{{"k":"v"}}}}"#
    )
}
