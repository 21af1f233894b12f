//! Requests, and what the log says of them.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use k8s_core::{
    doc,
    doc::Doc,
    request::{Options, PatchKind, RequestBody, Verb},
    seam::webhook::{WebhookCaller, WebhookEndpoint, WebhookError},
    status::ApiResult,
};
use k8s_wire::body::{self, Body};
use parking_lot::Mutex;
use tower::ServiceExt;

use super::*;
use crate::{
    admission::{Admission, AdmissionRequest},
    auth::{Authenticator, Credentials},
    outer::{Outer, Parts},
    server::tests::{
        clock::paused,
        fixture::{Fixture, built},
    },
};

/// Keeps what it is given, parsed and as it came.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Doc>>>, Arc<Mutex<Vec<Bytes>>>);

#[async_trait]
impl AuditSink for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    async fn write(&mut self, events: Vec<Bytes>) -> Result<(), String> {
        self.0.lock().extend(events.iter().map(|event| Doc::parse(event).unwrap()));
        self.1.lock().extend(events);
        Ok(())
    }
}

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: {rules}}}")).unwrap()
}

struct Scene {
    api: Fixture,
    audit: Arc<Audit>,
    kept: Kept,
}

/// A server that notes what concerns ConfigMaps and paths as the rules say.
async fn scene(rules: &str) -> Scene {
    let kept = Kept::default();
    let audit = Audit::new(paused(), policy(rules), vec![Box::new(kept.clone())]);
    let api = built(|builder| builder.audit(audit.clone()).admission(Arc::new(Panics))).await;
    audit.flush().await;
    kept.0.lock().clear();
    Scene { api, audit, kept }
}

/// Has a defect that the ConfigMap `panic` meets.
struct Panics;

#[async_trait]
impl Admission for Panics {
    fn name(&self) -> &'static str {
        "Panics"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.is_on("", "configmaps")
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        assert_ne!(request.target.name.as_str(), "panic", "on purpose");
        request.annotate("example.com/judged", "yes");
        Ok(())
    }
}

impl Scene {
    async fn events(&self) -> Vec<Doc> {
        self.audit.flush().await;
        std::mem::take(&mut *self.kept.0.lock())
    }

    /// `STAGE VERB CODE` of every event.
    async fn told(&self) -> Vec<String> {
        let code = |event: &Doc| event.at(&["responseStatus", "code"]).and_then(Doc::as_i64).unwrap_or(0);
        let told = |event: &Doc| format!("{} {} {}", event.str_at(&["stage"]), event.str_at(&["verb"]), code(event));
        self.events().await.iter().map(told).collect()
    }

    fn outer(&self) -> Outer {
        Outer::new(Parts::of(&self.api.api, self.api.env.clone(), Arc::new(Admin)))
    }
}

/// Knows the token `admin`, and believes no other.
struct Admin;

#[async_trait]
impl Authenticator for Admin {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        match credentials.bearer.as_deref() {
            Some("admin") => Ok(Some(Caller::new("admin", &["system:masters"]))),
            Some(_) => Err(k8s_core::status::ApiError::unauthorized()),
            None => Ok(None),
        }
    }
}

async fn ask(outer: &Outer, method: &str, path: &str, token: &str, body: Doc) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let request =
        request.header("content-type", "application/json").header("audit-id", "mine").header("user-agent", "test/1");
    let request = request.header("x-forwarded-for", "192.0.2.7, nonsense");
    outer.clone().oneshot(request.body(body::full(body.to_json())).unwrap()).await.unwrap()
}

fn config(name: &str) -> Doc {
    doc!({"metadata": {"name": name}, "data": {"k": "v"}})
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn metadata_says_who_what_and_when() {
    let scene = scene("[{level: Metadata, resources: [{resources: [configmaps]}]}]").await;
    let answer = ask(&scene.outer(), "POST", CONFIGMAPS, "admin", config("a")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["audit-id"].to_str().unwrap()), (201, "mine"));
    let events = scene.events().await;
    let [received, complete] = events.as_slice() else { panic!("{events:?}") };
    for (field, expected) in [
        ("kind", doc!("Event")),
        ("apiVersion", doc!("audit.k8s.io/v1")),
        ("level", doc!("Metadata")),
        ("auditID", doc!("mine")),
        ("stage", doc!("ResponseComplete")),
        ("requestURI", doc!(CONFIGMAPS)),
        ("verb", doc!("create")),
        ("user", doc!({"username": "admin", "groups": ["system:masters", "system:authenticated"]})),
        ("sourceIPs", doc!(["192.0.2.7"])),
        ("userAgent", doc!("test/1")),
        ("objectRef", doc!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})),
        ("responseStatus", doc!({"metadata": {}, "code": 201})),
        ("requestReceivedTimestamp", doc!("2026-01-01T00:00:00.000000Z")),
        ("stageTimestamp", doc!("2026-01-01T00:00:00.000000Z")),
        (
            "annotations",
            doc!({
                "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "", "example.com/judged": "yes"
            }),
        ),
    ] {
        assert_eq!(complete.get(field), Some(&expected), "{field}");
    }
    assert_eq!((complete.get("requestObject"), complete.get("responseObject")), (None, None));
    assert_eq!((received.str_at(&["stage"]), received.get("responseStatus")), ("RequestReceived", None));
    assert_eq!(received.get("annotations"), None);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_noted_as_far_as_the_level_says() {
    let rules = "[{level: RequestResponse, verbs: [create], omitManagedFields: true, omitStages: [RequestReceived]}, \
                  {level: Request, verbs: [patch], omitStages: [RequestReceived]}]";
    let scene = scene(rules).await;
    scene.api.create("configmaps", "default", config("a")).await.unwrap();
    scene.api.get("configmaps/a", "default").await.unwrap();
    let patch = doc!({"data": {"k": "w"}});
    scene.api.patch("configmaps/a", "default", PatchKind::Merge, patch.clone()).await.unwrap();
    scene.api.create("configmaps", "default", config("a")).await.unwrap_err();
    let events = scene.events().await;
    let [created, patched, refused] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(created.str_at(&["requestObject", "data", "k"]), "v");
    assert_eq!(created.str_at(&["responseObject", "kind"]), "ConfigMap");
    assert_eq!(created.at(&["responseObject", "metadata", "managedFields"]), None);
    assert_eq!(created.str_at(&["requestURI"]), CONFIGMAPS, "also of a request that came over no network");
    assert_eq!((patched.get("requestObject"), patched.get("responseObject")), (Some(&patch), None));
    assert_eq!(refused.str_at(&["responseObject", "reason"]), "AlreadyExists");
    assert_eq!(refused.str_at(&["responseStatus", "reason"]), "AlreadyExists");
}

#[tokio::test(start_paused = true)]
async fn every_end_is_a_stage() {
    let scene = scene(
        "[{level: Metadata, resources: [{resources: [configmaps]}]}, {level: Metadata, nonResourceURLs: [\"*\"]}]",
    )
    .await;
    let outer = scene.outer();
    ask(&outer, "GET", "/version", "admin", doc!({})).await;
    assert_eq!(scene.told().await, ["RequestReceived get 0", "ResponseComplete get 200"]);
    ask(&outer, "GET", "/version", "stranger", doc!({})).await;
    assert_eq!(scene.told().await, ["RequestReceived get 0", "ResponseComplete get 401"]);
    ask(&outer, "PUT", &format!("{CONFIGMAPS}/none"), "admin", config("none")).await;
    assert_eq!(scene.told().await, ["RequestReceived update 0", "ResponseComplete update 404"]);
    let answer = ask(&outer, "POST", CONFIGMAPS, "admin", config("panic")).await;
    assert_eq!(answer.status().as_u16(), 500);
    assert_eq!(scene.told().await, ["RequestReceived create 0", "Panic create 500"]);

    let watch = ask(&outer, "GET", &format!("{CONFIGMAPS}?watch=1"), "admin", doc!({})).await;
    assert_eq!(scene.told().await, ["RequestReceived watch 0", "ResponseStarted watch 200"]);
    drop(watch);
    assert_eq!(scene.told().await, ["ResponseComplete watch 200"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_noted_leaves_no_trace() {
    let scene = scene("[{level: None, users: [admin]}, {level: Metadata}]").await;
    scene.api.create("configmaps", "default", config("a")).await.unwrap();
    ask(&scene.outer(), "GET", "/version", "admin", doc!({})).await;
    assert_eq!(scene.told().await, Vec::<String>::new());
    let other = scene.api.acting(Caller::new("other", &[]));
    let refused = other.call(Verb::Get, "configmaps/a", "default", Options::default(), RequestBody::None).await;
    assert_eq!(refused.unwrap_err().code(), 403);
    let events = scene.events().await;
    let [_, complete] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(complete.str_at(&["annotations", "authorization.k8s.io/decision"]), "forbid");
}

#[tokio::test(start_paused = true)]
async fn a_strange_name_stays_on_its_line() {
    let scene = scene("[{level: Metadata, omitStages: [RequestReceived]}]").await;
    let name = "mallory\n{\"kind\":\"Event\"}\r\n\u{2028}\0";
    let strange = scene.api.acting(Caller::new(name, &["a\nb"]).with_agent("x\ny/1"));
    let asked = strange.call(Verb::Get, "configmaps/a", "default", Options::default(), RequestBody::None).await;
    assert_eq!(asked.unwrap_err().code(), 403);
    let events = scene.events().await;
    assert!(!scene.kept.1.lock().is_empty());
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.str_at(&["user", "username"]), event.str_at(&["userAgent"])), (name, "x\ny/1"));
    assert!(!scene.kept.1.lock().iter().any(|line| line.contains(&b'\n')), "the line of an event has no other");
}

/// Never done.
struct Stuck;

#[async_trait]
impl AuditSink for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    async fn write(&mut self, _: Vec<Bytes>) -> Result<(), String> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stands_still_stops_nobody_and_what_is_lost_is_counted() {
    let kept = Kept::default();
    let sinks: Vec<Box<dyn AuditSink>> = vec![Box::new(Stuck), Box::new(kept.clone())];
    let audit = Audit::new(paused(), policy("[{level: Metadata}]"), sinks);
    tokio::task::yield_now().await;
    let count = MAX_QUEUED + MAX_BATCH + 7;
    for number in 0..count {
        audit.note(Bytes::from(format!("{{\"n\":{number}}}")));
        if number % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let lost = |sink: &str| {
        let samples = audit.samples();
        let line = samples.lines().find(|line| line.contains(&format!("plugin=\"{sink}\""))).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    // The stuck sink holds one batch in its hands, and how many that are depends on when it took them.
    assert!((7..7 + MAX_BATCH).contains(&lost("stuck")), "{}", audit.samples());
    assert_eq!(lost("kept"), 0);
    audit.queues[1].flushed().await;
    assert_eq!(kept.0.lock().len(), count);
}

#[tokio::test(start_paused = true)]
async fn files_are_put_aside_by_size_and_kept_by_number_and_age() {
    let (env, directory) = (paused(), tempfile::tempdir().unwrap());
    let path = directory.path().join("audit.log");
    let settings =
        LogSettings { path: path.clone(), max_bytes: 100, max_backups: 2, max_age: Some(Duration::from_secs(3600)) };
    let mut file = LogFile::open(env.clone(), settings).await.unwrap();
    let line = |number: usize| Bytes::from(format!("{number:039}"));
    let names = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    file.write((0..2).map(line).collect()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    file.write((2..4).map(line).collect()).await.unwrap();
    assert_eq!(names(), ["audit-2026-01-01T00-00-00.000.log", "audit.log"]);
    file.write((4..10).map(line).collect()).await.unwrap();
    assert_eq!(names(), ["audit-2026-01-01T00-00-00.002.log", "audit-2026-01-01T00-00-00.003.log", "audit.log"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2, "a batch is split between files");
    env.sleep(Duration::from_secs(7200)).await;
    file.write((10..12).map(line).collect()).await.unwrap();
    assert_eq!(names(), ["audit-2026-01-01T02-00-00.000.log", "audit.log"]);
    drop(file);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Takes nothing the first two times.
#[derive(Default)]
struct Shy(Mutex<Vec<Doc>>);

#[async_trait]
impl WebhookCaller for Shy {
    async fn post(&self, endpoint: &WebhookEndpoint, _: Duration, body: Bytes) -> Result<Bytes, WebhookError> {
        let mut seen = self.0.lock();
        seen.push(Doc::parse(&body).unwrap());
        match seen.len() {
            1 | 2 => Err(WebhookError::TimedOut { url: endpoint.url.clone() }),
            _ => Ok(Bytes::new()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_gets_lists_and_gets_them_again() {
    let (env, caller) = (paused(), Arc::new(Shy::default()));
    let sink = WebhookSink {
        env: env.clone(),
        caller: caller.clone(),
        endpoint: Box::new(|| Ok(WebhookEndpoint { url: "https://audit".into(), ..WebhookEndpoint::default() })),
        backoff: Duration::from_secs(10),
    };
    let audit = Audit::new(env.clone(), policy("[{level: Metadata}]"), vec![Box::new(sink)]);
    audit.note(Bytes::from_static(b"{\"n\":1}"));
    audit.note(Bytes::from_static(b"{\"n\":2}"));
    audit.flush().await;
    let seen = caller.0.lock().clone();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[2].str_at(&["kind"]), seen[2].at(&["items"]).unwrap().items().len()), ("EventList", 2));
    assert_eq!(env.monotonic(), Duration::from_secs(25), "ten seconds, then fifteen");
}
