//! The network transport against the outer service: what is asked at one end is what the door sees at the other.

use futures::StreamExt;
use k8s_core::{
    doc::Doc,
    request::{Fence, Options, PatchKind, Propagation, RequestBody, ResourceType, Target, VersionMatch, WatchEvent},
    seam::transport::Transport,
};
use k8s_wire::{
    client::{Config, HttpTransport},
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};

use super::{super::*, fake::*};
use crate::auth::{Chain, x509::ClientCertificates};

struct Ends {
    door: Arc<FakeDoor>,
    transport: HttpTransport,
    _server: k8s_core::env::Task,
}

/// A transport that is `someone` of the group `testers`, by certificate.
async fn ends() -> Ends {
    let env = System::current();
    let authority = Authority::generate("ca", env.now()).unwrap();
    let serving = authority.issue_server("api", &["127.0.0.1".into()], env.now()).unwrap();
    let trusted = authority.identity().certificates().unwrap();
    let tls = tls::server(&env, &serving, Some(&trusted)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = FakeDoor::new();
    let outer = Outer::new(Parts::new(
        env.clone(),
        door.clone(),
        Arc::new(FakeCatalog::new()),
        Arc::new(Chain(vec![Arc::new(ClientCertificates), Arc::new(FakeAuthenticator)])),
        Arc::new(FakeAuthorizer),
    ));
    let server = Server::new(env.clone(), outer);
    let running = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
    let config = Config {
        authorities_pem: Some(authority.certificate_pem().into()),
        identity: Some(authority.issue_client("someone", &["testers"], env.now()).unwrap()),
        ..Config::new(format!("https://{address}"))
    };
    let task = env.spawn("server", Box::pin(running));
    Ends { door, transport: HttpTransport::new(config, env).unwrap(), _server: task }
}

fn config_maps() -> ResourceType {
    ResourceType::new("", "v1", "configmaps")
}

fn one() -> Target {
    Target::one(config_maps(), "n", "a")
}

fn all() -> Target {
    Target::all(config_maps(), "n")
}

fn map() -> Doc {
    Doc::parse(config_map("a").as_bytes()).unwrap()
}

#[tokio::test]
async fn every_question_arrives_as_it_was_asked() {
    let ends = ends().await;
    let fence = Some(Fence { namespace: "kube-system".into(), name: "leader".into(), revision: 7 });
    let manager = Options { field_manager: Some("me".into()), dry_run: true, ..Options::default() };
    let listing = Options {
        label_selector: "a in (b,c),d".parse().unwrap(),
        field_selector: "metadata.name=a".parse().unwrap(),
        resource_version: Some(3),
        resource_version_match: Some(VersionMatch::NotOlderThan),
        limit: Some(2),
        ..Options::default()
    };
    let deletion = Options {
        propagation: Some(Propagation::Orphan),
        precondition_uid: Some("u".into()),
        precondition_version: Some(5),
        grace_period_seconds: Some(1),
        ..Options::default()
    };
    let ask = |verb, target: Target, options: &Options, body| ApiRequest {
        verb,
        target,
        options: options.clone(),
        body,
        ..ApiRequest::default()
    };
    let apply = RequestBody::Patch(PatchKind::Apply, map());
    let other = Caller { name: "other".into(), uid: "u".into(), groups: vec!["g".into()], ..Caller::default() };
    let questions = [
        ApiRequest { fence, ..ask(Verb::Create, all(), &manager, RequestBody::Doc(map())) },
        ask(Verb::Update, one(), &manager, RequestBody::Doc(map())),
        ask(Verb::Patch, one(), &Options { force: true, ..manager.clone() }, apply),
        ApiRequest { caller: Some(other), ..ask(Verb::Get, one(), &Options::default(), RequestBody::None) },
        ask(Verb::List, all(), &listing, RequestBody::None),
        ask(Verb::Delete, one(), &deletion, RequestBody::None),
    ];
    for question in questions {
        let verb = question.verb;
        ends.transport.call(question.clone()).await.unwrap_or_else(|error| panic!("{verb:?}: {error:?}"));
        let (caller, seen) = ends.door.last();
        assert_eq!((caller.name.as_str(), caller.is_in("testers")), ("someone", true));
        assert_eq!((seen.verb, &seen.target, &seen.options), (verb, &question.target, &question.options));
        assert_eq!((&seen.fence, &seen.caller), (&question.fence, &question.caller), "{verb:?}");
        let said = |body: &RequestBody| match body {
            RequestBody::None => String::new(),
            RequestBody::Doc(doc) => doc.to_string(),
            RequestBody::Patch(kind, doc) => format!("{kind:?} {doc}"),
        };
        assert_eq!(said(&seen.body), said(&question.body));
    }
}

#[tokio::test]
async fn answers_arrive_as_they_were_given() {
    let ends = ends().await;
    let body = RequestBody::Doc(map());
    let create = ApiRequest { verb: Verb::Create, target: all(), body, ..ApiRequest::default() };
    let made = ends.transport.call(create).await.unwrap();
    assert_eq!(made.code, 201);
    let made = made.into_object().unwrap();
    let kept = ends.door.objects.lock().values().next().unwrap().clone();
    assert_eq!((made.stored_json(), made.revision()), (kept.stored_json(), kept.revision()));
    let list = ends.transport.call(ApiRequest { verb: Verb::List, target: all(), ..ApiRequest::default() }).await;
    let list = list.unwrap().into_list().unwrap();
    assert_eq!((list.items.len(), list.revision), (1, made.revision()));
    let watch = ends.transport.call(ApiRequest { verb: Verb::Watch, target: all(), ..ApiRequest::default() }).await;
    let mut events = watch.unwrap().into_watch().unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(map))) if map.meta.name == "a"));
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Bookmark { initial_events_end: true, .. }))));
    let missing = Target::one(config_maps(), "n", "missing");
    let error = ends.transport.call(ApiRequest { target: missing, ..ApiRequest::default() }).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "configmaps \"missing\" not found");
    *ends.door.fail.lock() = Some(ApiError::expired("too old"));
    let stale = ApiRequest { verb: Verb::Watch, target: all(), ..ApiRequest::default() };
    let mut events = ends.transport.call(stale).await.unwrap().into_watch().unwrap();
    assert!(matches!(events.next().await, Some(Err(error)) if error.is_expired()));
}
