//! Bodies in every media type, through the HTTP service: what was read is answered in a form that reads as the same.

use std::{cell::OnceCell, sync::Arc};

use async_trait::async_trait;
use http::{Request, header};
use http_body_util::BodyExt;
use k8s_apiserver::{
    auth::{Attributes, Authenticator, Authorizer, Credentials, Decision},
    outer::{Door, Outer, Parts},
};
use k8s_core::{
    doc::Doc,
    registry::Registry,
    request::{ApiRequest, ApiResponse, Caller, RequestBody, ResponseBody, Verb},
    status::{ApiResult, Status},
};
use k8s_wire::body;
use tower::ServiceExt;

use crate::quiet::Quiet;

const YAML: &str = "application/yaml";
const JSON: &str = "application/json";

/// A letter chooses the media type, then comes the body.
pub fn run(input: &[u8]) {
    thread_local!(static ECHO: OnceCell<Echo> = const { OnceCell::new() });
    let [how, bytes @ ..] = input else { return };
    ECHO.with(|echo| echo.get_or_init(Echo::new).check(*how, bytes));
}

/// A service that answers what it was sent.
struct Echo {
    quiet: Quiet,
    outer: Outer,
}

impl Echo {
    fn new() -> Self {
        let quiet = Quiet::new();
        let outer = Outer::new(Parts::new(
            quiet.env.clone(),
            Arc::new(Mirror),
            Arc::new(Arc::new(Registry::builtin())),
            Arc::new(Anybody),
            Arc::new(Anybody),
        ));
        Self { quiet, outer }
    }

    fn check(&self, how: u8, bytes: &[u8]) {
        match how {
            b'y' => self.echoed("POST", YAML, bytes),
            b'Y' => self.echoed("PATCH", "application/apply-patch+yaml", bytes),
            b'j' => self.echoed("POST", JSON, bytes),
            b's' => self.echoed("PATCH", "application/strategic-merge-patch+json", bytes),
            b'p' => self.echoed("POST", "application/vnd.kubernetes.protobuf", bytes),
            b'd' => drop(self.ask("DELETE", YAML, JSON, bytes)),
            _ => drop(self.ask("DELETE", "application/vnd.kubernetes.protobuf", JSON, bytes)),
        }
    }

    fn echoed(&self, method: &str, media_type: &str, bytes: &[u8]) {
        let (code, answer) = self.ask(method, media_type, JSON, bytes);
        if code >= 300 {
            return;
        }
        let read = Doc::parse(&answer).unwrap_or_else(|why| panic!("the answer is no JSON: {why}"));
        if read.as_object().is_none() {
            // A patch may be a list, which is no body of an object.
            return;
        }
        let (code, yaml) = self.ask(method, media_type, YAML, bytes);
        assert!(code < 300, "as JSON it was answered, as YAML with {code}");
        let (code, again) = self.ask("POST", YAML, JSON, &yaml);
        let shown = String::from_utf8_lossy(&yaml);
        assert!(code < 300, "{}: we do not read what we wrote: {shown}", String::from_utf8_lossy(&again));
        let again = Doc::parse(&again).unwrap_or_else(|why| panic!("the answer is no JSON: {why}"));
        assert_eq!(again, read, "our YAML says something else: {shown}");
    }

    fn ask(&self, method: &str, content_type: &str, accept: &str, bytes: &[u8]) -> (u16, Vec<u8>) {
        let name = if method == "POST" { "" } else { "/a" };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/namespaces/n/configmaps{name}?fieldValidation=Strict&fieldManager=m"))
            .header(header::AUTHORIZATION, "Bearer t")
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, accept)
            .body(body::full(bytes.to_vec()));
        // Invariant: everything in it is written above.
        let request = request.expect("a sound head");
        self.quiet.run(async {
            let Ok(response) = self.outer.clone().oneshot(request).await;
            let code = response.status().as_u16();
            let whole = response.into_body().collect().await.map(|body| body.to_bytes().to_vec());
            let whole = whole.unwrap_or_else(|why| panic!("the answer broke off: {why}"));
            assert!(code < 500, "{code}: {}", String::from_utf8_lossy(&whole));
            (code, whole)
        })
    }
}

struct Mirror;

#[async_trait]
impl Door for Mirror {
    async fn handle(&self, _: Caller, request: ApiRequest) -> ApiResult<ApiResponse> {
        assert!(request.verb != Verb::Create || matches!(request.body, RequestBody::Doc(_)));
        Ok(ApiResponse::ok(match request.body {
            RequestBody::Doc(doc) | RequestBody::Patch(_, doc) => ResponseBody::Doc(doc),
            RequestBody::None => ResponseBody::Status(Status::success()),
        }))
    }
}

/// Knows everybody, and lets them do everything.
pub struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, _: &Credentials) -> ApiResult<Option<Caller>> {
        Ok(Some(Caller::new("tester", &["system:masters"])))
    }
}

#[async_trait]
impl Authorizer for Anybody {
    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}
