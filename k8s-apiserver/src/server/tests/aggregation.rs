//! Another API server behind this one: a real one, over TLS, that believes the front proxy and asks this one whether its
//! callers may.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use k8s_core::{
    doc,
    doc::Doc,
    env::{Env, Task},
    registry::{Registry, ResourceInfo},
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb, WatchEvent},
    schema::Schemas,
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_store::Memory;
use k8s_wire::{
    body::{self, Body},
    client::webhook::HttpWebhookCaller,
    env::System,
    pki::{self, Authority},
    serve::{CancellationToken, Server},
    tls::{self, ClientTrust},
};
use parking_lot::Mutex;
use tower::ServiceExt;

use crate::{
    ApiServer,
    audit::{Audit, AuditSink, Policy},
    auth::{
        Attributes, Authenticator, Authorizer, Chain, Credentials, Decision, Subject,
        front_proxy::{FrontProxy, RequestHeaders},
    },
    outer::{Outer, Parts},
};

const BOXES: &str = "/apis/acme.com/v1/namespaces/default/boxes";
/// How long something that is to become true may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The token is the user's name; `root` is an administrator.
struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        let Some(name) = credentials.bearer.as_deref() else { return Ok(None) };
        let groups: &[&str] = if name == "root" { &["system:masters"] } else { &["devs"] };
        Ok(Some(Caller::new(name, groups)))
    }
}

/// Nobody but whom a front proxy speaks for.
struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _: &Credentials) -> ApiResult<Option<Caller>> {
        Err(ApiError::unauthorized())
    }
}

/// Asks the server in front, and keeps who asked.
struct Delegated {
    front: Arc<dyn Transport>,
    asked: Mutex<Vec<Caller>>,
}

#[async_trait]
impl Authorizer for Delegated {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let caller = attributes.caller;
        self.asked.lock().push(caller.clone());
        let groups: Vec<String> = caller.groups.iter().map(ToString::to_string).collect();
        let mut spec = doc!({"user": caller.name.as_str(), "groups": groups});
        match attributes.subject {
            Subject::Path(path) => {
                spec.set_at(&["nonResourceAttributes"], doc!({"path": path, "verb": attributes.verb}));
            }
            Subject::Resource(target) => {
                let asked = doc!({
                    "namespace": target.namespace.as_str(), "verb": attributes.verb,
                    "group": target.resource.group.as_str(), "resource": target.resource.plural.as_str()
                });
                spec.set_at(&["resourceAttributes"], asked);
            }
        }
        let target = Target::all(ResourceType::new("authorization.k8s.io", "v1", "subjectaccessreviews"), "");
        let body = RequestBody::Doc(doc!({"spec": spec}));
        let review = ApiRequest { verb: Verb::Create, target, body, ..ApiRequest::default() };
        let answer = self.front.call(review).await.and_then(|answer| answer.into_doc());
        match answer.map(|review| review.at(&["status", "allowed"]).and_then(Doc::as_bool)) {
            Ok(Some(true)) => Decision::Allow,
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

/// What the audit log of the server in front was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Doc>>>);

#[async_trait]
impl AuditSink for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    async fn write(&mut self, events: Vec<bytes::Bytes>) -> Result<(), String> {
        self.0.lock().extend(events.iter().map(|event| Doc::parse(event).unwrap()));
        Ok(())
    }
}

struct Scene {
    env: Env,
    front: ApiServer,
    outer: Outer,
    delegated: Arc<Delegated>,
    audit: Arc<Audit>,
    told: Told,
    /// Who vouches for the server behind, PEM.
    authority: String,
    address: SocketAddr,
    _serving: Task,
}

/// An address of this machine that is no loopback: endpoints may not be one.
fn own_address() -> std::net::IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the system only chooses a way.
    socket.connect("192.0.2.1:9").expect("the machine has a network");
    socket.local_addr().unwrap().ip()
}

async fn scene() -> Scene {
    let env = System::current();
    let proxies = Authority::generate("front-proxy-ca", env.now()).unwrap();
    let identity = proxies.issue_client("front-proxy-client", &[], env.now()).unwrap();
    let told = Told::default();
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse, resources: [{group: acme.com}]}, \
                  {level: None}]}";
    let audit = Audit::new(env.clone(), Policy::parse(policy).unwrap(), vec![Box::new(told.clone())]);
    let front = ApiServer::builder(Arc::new(Memory::new(env.clone())), env.clone())
        .front_proxy_identity(identity)
        .webhooks(Arc::new(HttpWebhookCaller::new(env.clone())))
        .audit(audit.clone())
        .start()
        .await
        .unwrap();
    let outer = Outer::new(Parts {
        aggregation: Some(front.aggregation()),
        ..Parts::of(&front, env.clone(), Arc::new(Chain(vec![Arc::new(Names)])))
    });
    let reviewer = Caller::new("box-server", &["system:masters"]);
    let delegated = Arc::new(Delegated { front: front.transport(reviewer), asked: Mutex::default() });
    let (address, authority, _serving) = behind(&env, &proxies, delegated.clone()).await;
    Scene { env, front, outer, delegated, audit, told, authority, address, _serving }
}

/// The server behind, with a kind of its own.
async fn behind(env: &Env, proxies: &Authority, delegated: Arc<Delegated>) -> (SocketAddr, String, Task) {
    let schema = Schemas::builtin().schema("", "v1", "ConfigMap").unwrap();
    let boxes = ResourceInfo::custom("acme.com", "v1", "boxes", "Box", schema);
    let server = ApiServer::builder(Arc::new(Memory::new(env.clone())), env.clone())
        .registry(Registry::builtin().with(boxes))
        .authorization_modes(Vec::new())
        .authorizer(delegated)
        .start()
        .await
        .unwrap();
    let roots = pki::certificates("front proxies", proxies.certificate_pem().as_bytes()).unwrap();
    let front_proxy = FrontProxy {
        trust: ClientTrust::new(env.clone(), &roots).unwrap(),
        allowed_names: vec!["front-proxy-client".into()],
        headers: RequestHeaders::standard(),
    };
    let outer = Outer::new(Parts {
        front_proxy: Some(Arc::new(front_proxy)),
        ..Parts::of(&server, env.clone(), Arc::new(Nobody))
    });
    let authority = Authority::generate("boxes", env.now()).unwrap();
    let serving = authority.issue_server("box-server", &["boxes.default.svc".into()], env.now()).unwrap();
    let tls = tls::server(env, &serving, Some(&roots)).unwrap();
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = Server::new(env.clone(), outer);
    let task =
        env.spawn("boxes", Box::pin(async move { running.serve(listener, Some(tls), CancellationToken::new()).await }));
    (SocketAddr::new(own_address(), port), authority.certificate_pem().to_owned(), task)
}

impl Scene {
    async fn send(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {user}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json").body(body).unwrap();
        self.outer.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, user: &str, method: &str, path: &str, doc: Option<Doc>) -> (u16, Doc) {
        let body = doc.map_or_else(body::empty, |doc| body::full(doc.to_json()));
        read(self.send(user, method, path, body, &[]).await).await
    }

    async fn get(&self, path: &str) -> (u16, Doc) {
        self.ask("root", "GET", path, None).await
    }

    async fn create(&self, path: &str, doc: Doc) {
        let (code, answer) = self.ask("root", "POST", path, Some(doc)).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// Waits until the condition of the APIService has this reason.
    async fn until(&self, reason: &str) -> Doc {
        let admin = self.front.transport(Caller::new("admin", &["system:masters"]));
        let waiting = async {
            let all = Target::all(ResourceType::new("apiregistration.k8s.io", "v1", "apiservices"), "");
            let request = ApiRequest { verb: Verb::Watch, target: all, ..ApiRequest::default() };
            let mut changes = admin.call(request).await.unwrap().into_watch().unwrap();
            while let Some(event) = changes.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event.unwrap() else { continue };
                let service = Doc::parse(&object.to_json()).unwrap();
                let condition = service.at(&["status", "conditions", "0"]).cloned().unwrap_or_default();
                if object.meta.name == "v1.acme.com" && condition.str_at(&["reason"]) == reason {
                    return condition;
                }
            }
            panic!("the watch ended")
        };
        k8s_core::env::timeout(&*self.env, PATIENCE, waiting).await.unwrap_or_else(|| panic!("never {reason}"))
    }

    /// Makes the server behind known.
    async fn register(&self) {
        let service = doc!({"metadata": {"name": "boxes"}, "spec": {"ports": [{"port": 443, "targetPort": self.address.port()}]}});
        self.create("/api/v1/namespaces/default/services", service).await;
        self.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", self.slice()).await;
        let bundle = STANDARD.encode(&self.authority);
        let service = doc!({
            "metadata": {"name": "v1.acme.com"},
            "spec": {"group": "acme.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15,
                "service": {"namespace": "default", "name": "boxes"}, "caBundle": bundle}
        });
        self.create("/apis/apiregistration.k8s.io/v1/apiservices", service).await;
        self.until("Passed").await;
    }

    fn slice(&self) -> Doc {
        doc!({
            "metadata": {"name": "boxes-1", "labels": {"kubernetes.io/service-name": "boxes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [self.address.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "", "port": self.address.port()}]
        })
    }
}

async fn read(response: http::Response<Body>) -> (u16, Doc) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (code, Doc::parse(&bytes).unwrap_or_else(|_| Doc::from(text)))
}

fn named(list: Option<&Doc>, path: &[&str]) -> Vec<String> {
    list.map_or(&[][..], Doc::items).iter().map(|item| item.str_at(path).to_owned()).collect()
}

fn a_box(name: &str) -> Doc {
    doc!({"apiVersion": "acme.com/v1", "kind": "Box", "metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test]
async fn requests_reach_the_server_behind_as_who_asked() {
    let scene = scene().await;
    assert_eq!(scene.get(BOXES).await.0, 404, "nobody answers for it yet");
    scene.register().await;

    let (code, refused) = scene.ask("jane", "POST", BOXES, Some(a_box("one"))).await;
    let said = "boxes.acme.com is forbidden: User \"jane\" cannot create resource \"boxes\" in API group \"acme.com\" \
                in the namespace \"default\"";
    assert_eq!((code, refused.str_at(&["message"])), (403, said));
    let asked_behind = || scene.delegated.asked.lock().iter().filter(|caller| caller.name == "jane").count();
    assert_eq!(asked_behind(), 0, "what is refused in front does not get behind");

    let group = "rbac.authorization.k8s.io";
    let rules = doc!([{"apiGroups": ["acme.com"], "resources": ["boxes"], "verbs": ["create", "get", "watch"]}]);
    scene
        .create("/apis/rbac.authorization.k8s.io/v1/clusterroles", doc!({"metadata": {"name": "b"}, "rules": rules}))
        .await;
    let binding = doc!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "b"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": group}]
    });
    scene.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;

    let watch = scene.send("jane", "GET", &format!("{BOXES}?watch=1"), body::empty(), &[]).await;
    assert_eq!(watch.status().as_u16(), 200);
    let (code, made) = scene.ask("jane", "POST", BOXES, Some(a_box("one"))).await;
    assert_eq!((code, made.str_at(&["data", "a"])), (201, "b"), "{made}");
    let mut events = watch.into_body().into_data_stream();
    let event = k8s_core::env::timeout(&*scene.env, PATIENCE, events.next()).await.expect("an event in time");
    let event = Doc::parse(&event.unwrap().unwrap()).unwrap();
    assert_eq!((event.str_at(&["type"]), event.str_at(&["object", "metadata", "name"])), ("ADDED", "one"));

    let evil = [("x-remote-user", "root"), ("x-remote-group", "system:masters"), ("x-remote-extra-a", "b")];
    let answer = scene.send("jane", "GET", &format!("{BOXES}/one"), body::empty(), &evil).await;
    assert_eq!(answer.status().as_u16(), 200);
    let last = scene.delegated.asked.lock().last().cloned().unwrap();
    assert_eq!((last.name.as_str(), last.extra.len()), ("jane", 0), "headers of clients are not believed");
    assert_eq!(last.groups, ["devs", "system:authenticated"]);
    let answer =
        scene.send("root", "GET", &format!("{BOXES}/one"), body::empty(), &[("impersonate-user", "jane")]).await;
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(scene.delegated.asked.lock().last().unwrap().name, "jane", "acting as somebody goes through");
    drop((events, answer));
    scene.audit.flush().await;
    let told = scene.told.0.lock();
    let lines: Vec<String> = told.iter().map(line).collect();
    let has = |wanted: &str| assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
    has("ResponseComplete create boxes jane 201 allow");
    has("ResponseStarted watch boxes jane 200 allow");
    has("ResponseComplete watch boxes jane 200 allow");
    has("ResponseComplete get boxes root/jane 200 allow");
    assert!(lines.iter().any(|line| line.ends_with("jane 403 forbid")), "{lines:#?}");
}

/// An event in a line: stage, verb, resource, who asked (and as whom), code, and what was decided.
fn line(event: &Doc) -> String {
    let text = |path: &[&str]| event.str_at(path).to_owned();
    let acting_as = text(&["impersonatedUser", "username"]);
    let slash = if acting_as.is_empty() { "" } else { "/" };
    let code = event.at(&["responseStatus", "code"]).and_then(Doc::as_i64).unwrap_or(0);
    format!(
        "{} {} {} {}{slash}{acting_as} {code} {}",
        text(&["stage"]),
        text(&["verb"]),
        text(&["objectRef", "resource"]),
        text(&["user", "username"]),
        text(&["annotations", "authorization.k8s.io/decision"])
    )
}

#[tokio::test]
async fn documents_show_one_api() {
    let scene = scene().await;
    scene.register().await;
    let (_, groups) = scene.get("/apis").await;
    let names = named(groups.get("groups"), &["name"]);
    assert!(names.contains(&"acme.com".into()) && names.contains(&"apps".into()), "{names:?}");
    let (code, group) = scene.get("/apis/acme.com").await;
    assert_eq!((code, group.str_at(&["preferredVersion", "groupVersion"])), (200, "acme.com/v1"));
    let (code, list) = scene.get("/apis/acme.com/v1").await;
    assert_eq!(
        (code, named(list.get("resources"), &["name"])),
        (200, vec!["boxes".to_owned(), "boxes/status".to_owned()])
    );
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let (_, all) = read(scene.send("root", "GET", "/apis", body::empty(), &accept).await).await;
    let items = all.get("items").unwrap().items();
    let ours = items.iter().find(|group| group.str_at(&["metadata", "name"]) == "acme.com").unwrap();
    assert_eq!(ours.str_at(&["versions", "0", "freshness"]), "Current");
    let resource = ours.at(&["versions", "0", "resources", "0"]).unwrap();
    let kind =
        (resource.str_at(&["resource"]), resource.str_at(&["responseKind", "kind"]), resource.str_at(&["scope"]));
    assert_eq!(kind, ("boxes", "Box", "Namespaced"));
    let (_, index) = scene.get("/openapi/v3").await;
    let url = index.str_at(&["paths", "apis/acme.com/v1", "serverRelativeURL"]);
    let (code, document) = scene.get(url).await;
    assert_eq!(code, 200, "{url}");
    assert!(document.at(&["components", "schemas"]).is_some(), "{document}");
    let (_, whole) = scene.get("/openapi/v2").await;
    for path in [BOXES, "/api/v1/namespaces/{namespace}/pods"] {
        let path = path.replace("/default/", "/{namespace}/");
        let reference = whole.str_at(&["paths", &path, "get", "responses", "200", "schema", "$ref"]);
        let name = reference.strip_prefix("#/definitions/").unwrap_or_else(|| panic!("{path}"));
        assert!(whole.at(&["definitions", name]).is_some(), "{name}");
    }

    let (_, services) = scene.get("/apis/apiregistration.k8s.io/v1/apiservices").await;
    let names = named(services.get("items"), &["metadata", "name"]);
    for expected in ["v1.", "v1.apps", "v1.acme.com", "v1.rbac.authorization.k8s.io"] {
        assert!(names.contains(&expected.into()), "{expected}: {names:?}");
    }
    let local =
        services.get("items").unwrap().items().iter().find(|one| one.str_at(&["metadata", "name"]) == "v1.apps");
    let condition = local.unwrap().at(&["status", "conditions", "0"]).unwrap();
    assert_eq!((condition.str_at(&["status"]), condition.str_at(&["reason"])), ("True", "Local"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be_not_there() {
    let scene = scene().await;
    scene.register().await;
    assert_eq!(scene.get(BOXES).await.0, 200);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (code, _) = scene.ask("root", "DELETE", &format!("{slices}/boxes-1"), None).await;
    assert_eq!(code, 200);
    // Without slices the cluster IP would do, where nobody listens; a slice without anybody says that nobody is there.
    let mut empty = scene.slice();
    empty.set_at(&["endpoints"], Doc::Array(Vec::new()));
    scene.create(slices, empty).await;
    let condition = scene.until("MissingEndpoints").await;
    assert_eq!(condition.str_at(&["status"]), "False");
    let (code, refused) = scene.get(BOXES).await;
    assert_eq!((code, refused.str_at(&["reason"])), (503, "ServiceUnavailable"), "{refused}");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let (_, all) = read(scene.send("root", "GET", "/apis", body::empty(), &accept).await).await;
    let items = all.get("items").unwrap().items();
    let ours = items.iter().find(|group| group.str_at(&["metadata", "name"]) == "acme.com").unwrap();
    assert_eq!(ours.str_at(&["versions", "0", "freshness"]), "Stale");

    let one = "/apis/apiregistration.k8s.io/v1/apiservices/v1.acme.com";
    let patch = |bundle: &str| doc!({"spec": {"caBundle": STANDARD.encode(bundle)}});
    let stranger = Authority::generate("stranger", scene.env.now()).unwrap();
    let body = body::full(patch(stranger.certificate_pem()).to_json());
    let request = Request::builder().method("PATCH").uri(one).header("authorization", "Bearer root");
    let request = request.header("content-type", "application/merge-patch+json").body(body).unwrap();
    assert_eq!(scene.outer.clone().oneshot(request).await.unwrap().status().as_u16(), 200);
    let (_, _) = scene.ask("root", "DELETE", &format!("{slices}/boxes-1"), None).await;
    scene.create(slices, scene.slice()).await;
    let condition = scene.until("FailedDiscoveryCheck").await;
    assert!(condition.str_at(&["message"]).contains("UnknownIssuer"), "{condition}");

    assert_eq!(scene.ask("root", "DELETE", one, None).await.0, 200);
    assert_eq!(scene.get(BOXES).await.0, 404);
}
