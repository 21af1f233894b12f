//! The transport against a small server of our own.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use k8s_core::{
    doc,
    env::{Env, Task},
    request::{ApiRequest, Caller, Fence, Options, PatchKind, RequestBody, ResourceType, Target, Verb, WatchEvent},
    seam::transport::Transport,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::{
    body::{self, Body},
    env::System,
    pki::Authority,
    serve::{CancellationToken, Server},
    tls,
};

/// What the server saw: method, path and query, headers as lines, body.
#[derive(Default, Clone)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

struct Fake {
    transport: HttpTransport,
    seen: Arc<Mutex<Seen>>,
    _server: Task,
}

/// A TLS server that answers everything with `code` and `chunks`, and a transport that trusts it.
async fn fake(code: u16, chunks: &'static [&'static str]) -> Fake {
    fake_named("127.0.0.1", code, chunks).await
}

/// The same with a certificate for `name`.
async fn fake_named(name: &str, code: u16, chunks: &'static [&'static str]) -> Fake {
    let env = System::current();
    let authority = Authority::generate("ca", env.now()).unwrap();
    let identity = authority.issue_server("x", &[name.into()], env.now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = seen.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let noted = noted.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body::read(body, 1024 * 1024).await.unwrap();
            *noted.lock() = Seen {
                line: format!("{} {}", head.method, head.uri.path_and_query().unwrap()),
                headers: head.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect(),
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let pieces = futures::stream::iter(chunks.iter().map(|chunk| Ok::<_, String>(Bytes::from(*chunk))));
            let mut response = Response::new(body::stream(pieces));
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
            response.headers_mut().insert(header::WARNING, r#"299 - "say \"hi\"""#.parse().unwrap());
            Ok(response)
        }
    });
    let server = Server::new(env.clone(), service);
    let tls = tls::server(&env, &identity, None).unwrap();
    let serving = async move { server.serve(listener, Some(tls), CancellationToken::new()).await };
    let config = Config {
        authorities_pem: Some(authority.certificate_pem().into()),
        token: Some(Token::Text("secret".into())),
        user_agent: "tester/1".into(),
        ..Config::new(format!("https://{address}/prefix"))
    };
    let task = env.spawn("server", Box::pin(serving));
    Fake { transport: HttpTransport::new(config, env as Env).unwrap(), seen, _server: task }
}

fn pods() -> ResourceType {
    ResourceType::new("", "v1", "pods")
}

const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"n","resourceVersion":"5"}}"#;

#[tokio::test]
async fn a_question_becomes_a_request_with_everything_it_says() {
    let fake = fake(200, &[POD]).await;
    let request = ApiRequest {
        verb: Verb::Patch,
        target: Target::one(pods(), "n", "a").subresource("status"),
        options: Options { field_manager: Some("me".into()), force: true, ..Options::default() },
        body: RequestBody::Patch(PatchKind::Apply, doc!({"kind": "Pod"})),
        caller: Some(Caller::new("someone", &["group"]).with_agent("agent/2")),
        fence: Some(Fence { namespace: "n".into(), name: "lease".into(), revision: 3 }),
        ..ApiRequest::default()
    };
    let response = fake.transport.call(request).await.unwrap();
    assert_eq!(response.warnings, [r#"say "hi""#]);
    assert_eq!(response.into_object().unwrap().revision(), 5);
    let seen = fake.seen.lock().clone();
    assert_eq!(seen.line, "PATCH /prefix/api/v1/namespaces/n/pods/a/status?fieldManager=me&force=true");
    assert_eq!(seen.body, r#"{"kind":"Pod"}"#);
    for expected in [
        "content-type: application/apply-patch+yaml",
        "authorization: Bearer secret",
        "k8s-fence: n/lease@3",
        "impersonate-user: someone",
        "impersonate-group: group",
        "user-agent: agent/2",
    ] {
        assert!(seen.headers.iter().any(|line| line == expected), "{expected} in {:#?}", seen.headers);
    }
    assert!(!seen.headers.iter().any(|line| line.contains("system:authenticated")));
}

#[tokio::test]
async fn a_deletion_carries_its_preconditions() {
    let fake = fake(200, &[r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#]).await;
    let options = Options { precondition_uid: Some("u".into()), ..Options::default() };
    let target = Target::one(pods(), "n", "a");
    fake.transport.call(ApiRequest { verb: Verb::Delete, target, options, ..Default::default() }).await.unwrap();
    let seen = fake.seen.lock().clone();
    assert_eq!(seen.line, "DELETE /prefix/api/v1/namespaces/n/pods/a");
    assert!(seen.body.contains(r#""preconditions":{"uid":"u"}"#), "{}", seen.body);
}

#[tokio::test]
async fn items_of_an_upstream_list_get_their_type() {
    let fake = fake(200, &[
        r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"t","remainingItemCount":4},"#,
        r#""items":[{"metadata":{"name":"a","resourceVersion":"5"}},{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","resourceVersion":"6"}}]}"#,
    ])
    .await;
    let target = Target::all(pods(), "n");
    let request = ApiRequest { verb: Verb::List, target, ..Default::default() };
    let list = fake.transport.call(request).await.unwrap().into_list().unwrap();
    assert_eq!((list.revision, list.continue_token.as_deref(), list.remaining), (9, Some("t"), Some(4)));
    let told: Vec<String> =
        list.items.iter().map(|pod| format!("{} {} {:?}", pod.meta.api_version, pod.meta.kind, pod)).collect();
    assert_eq!(told, ["v1 Pod Pod a@5", "v1 Pod Pod b@6"]);
}

#[tokio::test]
async fn a_watch_yields_events_until_the_server_ends_it() {
    let fake = fake(200, &[r#"{"type":"MODIFIED","object":"#, POD, "}\n"]).await;
    let target = Target::all(pods(), "");
    let request = ApiRequest { verb: Verb::Watch, target, ..Default::default() };
    let mut events = fake.transport.call(request).await.unwrap().into_watch().unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(pod))) if pod.revision() == 5));
    assert!(events.next().await.is_none());
    assert_eq!(fake.seen.lock().line, "GET /prefix/api/v1/pods?watch=true");
}

#[tokio::test]
async fn failures_keep_their_status_and_other_answers_are_shown() {
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"a\" not found","code":404}"#;
    let get = || ApiRequest { target: Target::one(pods(), "n", "a"), ..Default::default() };
    let error = fake(404, Box::leak(Box::new([status]))).await.transport.call(get()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string() == "pods \"a\" not found", "{error:?}");
    let error = fake(502, &["<html>bad gateway"]).await.transport.call(get()).await.unwrap_err();
    assert!(error.code() == 502 && error.to_string().contains("bad gateway"), "{error:?}");
    let error = fake(200, &["no json"]).await.transport.call(get()).await.unwrap_err();
    assert_eq!(error.code(), 500);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let fake = fake(200, &[POD]).await;
    let stranger = Config { authorities_pem: None, ..fake.transport.config().clone() };
    let transport = HttpTransport::new(stranger, System::current()).unwrap();
    let get = || ApiRequest { target: Target::one(pods(), "n", "a"), ..Default::default() };
    let error = transport.call(get()).await.unwrap_err();
    assert_eq!(error.code(), 503);
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(fake.seen.lock().line, "", "nothing was sent");
    let careless = Config { insecure: true, authorities_pem: None, ..fake.transport.config().clone() };
    assert!(HttpTransport::new(careless, System::current()).unwrap().call(get()).await.is_ok());
}

#[tokio::test]
async fn a_certificate_may_be_for_the_name_that_the_kubeconfig_says() {
    let fake = fake_named("kubernetes.example", 200, &[POD]).await;
    let of = |name: &str| Config {
        server_name: (!name.is_empty()).then(|| name.to_owned()),
        token: None,
        ..fake.transport.config().clone()
    };
    let target = || Target::one(pods(), "n", "a");
    let get = || ApiRequest { target: target(), ..Default::default() };
    let connect = || ApiRequest { verb: Verb::Connect, target: target().subresource("exec"), ..Default::default() };
    for wrong in ["", "other.example"] {
        let transport = HttpTransport::new(of(wrong), System::current()).unwrap();
        for request in [get(), connect()] {
            let error = transport.call(request).await.unwrap_err();
            assert!(error.code() == 503 && error.to_string().contains("not valid for name"), "{wrong}: {error}");
        }
    }
    assert_eq!(fake.seen.lock().line, "", "nothing was sent");
    let transport = HttpTransport::new(of("kubernetes.example"), System::current()).unwrap();
    assert_eq!(transport.call(get()).await.unwrap().into_object().unwrap().revision(), 5);
    assert_eq!(fake.seen.lock().line, "GET /prefix/api/v1/namespaces/n/pods/a");
    transport.call(connect()).await.unwrap();
    let error = HttpTransport::new(of("192.0.2.1"), System::current()).err().unwrap();
    assert!(error.to_string().contains("cannot stand for another host"), "{error}");
}
