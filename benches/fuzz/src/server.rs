//! The whole API server: any request is answered, never by a failure of ours, and a dry run leaves no trace.

use std::{cell::OnceCell, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use k8s_apiserver::{
    ApiServer,
    outer::{Outer, Parts},
};
use k8s_store::{Memory, Store};
use k8s_wire::body::{self, Body};
use tower::ServiceExt;

use crate::{body::Anybody, quiet::Quiet};

/// What is there to be read and changed.
const OBJECTS: &[(&str, &str)] = &[
    ("/api/v1/namespaces", r#"{"metadata":{"name":"n"}}"#),
    ("/api/v1/namespaces/n/serviceaccounts", r#"{"metadata":{"name":"default"}}"#),
    ("/api/v1/nodes", r#"{"metadata":{"name":"a"}}"#),
    (
        "/api/v1/namespaces/n/pods",
        r#"{"metadata":{"name":"a","labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
    ),
    ("/api/v1/namespaces/n/configmaps", r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#),
    ("/api/v1/namespaces/n/services", r#"{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}"#),
    (
        "/apis/apps/v1/namespaces/n/deployments",
        r#"{"metadata":{"name":"a"},"spec":{"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
];
/// The headers of an input, in their order.
const HEADERS: [header::HeaderName; 2] = [header::CONTENT_TYPE, header::ACCEPT];
/// How often the next part of an answer is asked for: a watch has no end.
const FRAMES: u32 = 100;

/// Lines with the method and URI, the `Content-Type` and the `Accept`; then the body.
pub fn run(input: &[u8]) {
    thread_local!(static SERVER: OnceCell<Server> = const { OnceCell::new() });
    let Some(request) = request(input) else { return };
    SERVER.with(|server| server.get_or_init(Server::new).check(request));
}

fn request(input: &[u8]) -> Option<Request<Body>> {
    let mut lines = input.splitn(4, |byte| *byte == b'\n');
    let (method, uri) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let is_read = matches!(method, "GET" | "HEAD" | "OPTIONS");
    let uri = match uri.split_once('?') {
        _ if is_read => uri.to_owned(),
        Some((path, query)) => format!("{path}?dryRun=All&{query}&dryRun=All"),
        None => format!("{uri}?dryRun=All"),
    };
    let mut request = Request::builder().method(method).uri(uri).header(header::AUTHORIZATION, "Bearer t");
    for name in HEADERS {
        let value = lines.next().unwrap_or_default();
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request.body(body::full(Bytes::copy_from_slice(lines.next().unwrap_or_default()))).ok()
}

struct Server {
    quiet: Quiet,
    store: Arc<dyn Store>,
    outer: Outer,
}

impl Server {
    fn new() -> Self {
        let quiet = Quiet::new();
        let store: Arc<dyn Store> = Arc::new(Memory::new(quiet.env.clone()));
        let started = quiet.run(ApiServer::builder(store.clone(), quiet.env.clone()).start());
        let api = started.unwrap_or_else(|why| panic!("the server does not start: {why}"));
        let outer = Outer::new(Parts::new(
            quiet.env.clone(),
            Arc::new(api.clone()),
            api.kinds().clone(),
            Arc::new(Anybody),
            Arc::new(Anybody),
        ));
        let server = Self { quiet, store, outer };
        for (uri, object) in OBJECTS {
            let request = Request::post(*uri).header(header::AUTHORIZATION, "Bearer t");
            // Invariant: all of it is written above.
            let response = server.ask(request.body(body::full(*object)).expect("a sound request"));
            assert_eq!(response.0, 201, "{uri}: {}", String::from_utf8_lossy(&response.1));
        }
        server
    }

    fn check(&self, request: Request<Body>) {
        let before = self.head();
        let (code, answer) = self.ask(request);
        // A revision to come is waited for in vain; what is connected to is not there.
        let is_ours = code >= 500 && !matches!(code, 501 | 503 | 504);
        assert!(!is_ours, "{code}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(self.head(), before, "a dry run, or a read, was written");
    }

    fn head(&self) -> k8s_store::Revision {
        self.quiet.run(self.store.head()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn ask(&self, request: Request<Body>) -> (u16, Vec<u8>) {
        self.quiet.run(async {
            let Ok(response) = self.outer.clone().oneshot(request).await;
            (response.status().as_u16(), beginning(response).await)
        })
    }
}

/// What of an answer comes at once.
async fn beginning(response: Response<Body>) -> Vec<u8> {
    let (mut whole, mut body) = (Vec::new(), response.into_body());
    for _ in 0..FRAMES {
        match futures::poll!(body.frame()) {
            std::task::Poll::Ready(Some(Ok(frame))) => whole.extend(frame.into_data().unwrap_or_default()),
            std::task::Poll::Ready(Some(Err(why))) => panic!("the answer broke off: {why}"),
            std::task::Poll::Ready(None) => break,
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    whole
}
