//! A server, and a round of requests to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use k8s_apiserver::{
    ApiServer,
    auth::x509::ClientCertificates,
    outer::{Answers, Insider, Outer, Parts, REQUEST_TIMEOUT},
};
use k8s_core::request::Caller;
use k8s_store::Memory;
use k8s_wire::env::System;
use serde_json::Value;
use tower::ServiceExt;

use super::{documents::Documents, making::Maker};

/// The longest that an answer may take. Answers take milliseconds, but machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a round saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often each code was answered.
    pub codes: BTreeMap<u16, u64>,
    /// How often each operation was answered well.
    pub succeeded: BTreeMap<String, u64>,
    /// How many operations there are.
    pub operations: usize,
}

/// Asks the server.
pub struct Asker(Insider);

/// A whole answer.
pub struct Answer {
    pub code: u16,
    pub body: Bytes,
}

impl Asker {
    /// Asks, and reads the answer to its end.
    pub async fn ask(&mut self, request: Request<Vec<u8>>) -> Result<Answer, String> {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answering = async {
            let answer = self.0.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|why| format!("the answer ends early: {why}"))?;
            Ok(Answer { code: head.status.as_u16(), body: body.to_bytes() })
        };
        tokio::time::timeout(PATIENCE, answering).await.unwrap_or_else(|_| Err("no answer".into()))
    }
}

/// Asks `count` requests that follow from `seed`.
///
/// # Errors
///
/// The request that the server fails at, and how.
pub fn round(seed: u64, count: u64) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (server, mut asker) = start().await;
        let documents = Documents::read(&mut asker).await;
        let report = ask_all(&mut asker, &documents, seed, count).await;
        server.shutdown().await;
        report
    })
}

async fn start() -> (ApiServer, Asker) {
    let env = System::current();
    let store = Arc::new(Memory::new(env.clone()));
    let server = ApiServer::builder(store, env.clone()).start().await.expect("it starts");
    let outer = Outer::new(Parts {
        env,
        inner: Arc::new(server.clone()),
        catalog: Arc::new(server.registry().clone()),
        authenticator: Arc::new(ClientCertificates),
        front_proxy: None,
        anonymous: Default::default(),
        aggregation: None,
        authorizer: server.authorizer().clone(),
        answers: Answers::default(),
        request_timeout: REQUEST_TIMEOUT,
    });
    let asker = Asker(outer.as_caller(Caller::new("somebody", &["system:masters"])));
    (server, asker)
}

async fn ask_all(asker: &mut Asker, documents: &Documents, seed: u64, count: u64) -> Result<Report, String> {
    let mut maker = Maker::new(documents, seed);
    let mut report = Report { operations: documents.operations.len(), ..Report::default() };
    for number in 0..count {
        let (operation, request) = maker.make();
        let told = || format!("request {number}: {}", described(&request));
        let (asked, is_json) = (told(), request.headers()["accept"] == "application/json");
        let answer = asker.ask(request).await.map_err(|why| format!("{why}; {asked}"))?;
        *report.codes.entry(answer.code).or_default() += 1;
        if answer.code == 500 {
            return Err(format!("{} {}; {asked}", answer.code, String::from_utf8_lossy(&answer.body)));
        }
        if answer.code < 300 {
            *report.succeeded.entry(format!("{} {}", operation.method, operation.path)).or_default() += 1;
            maker.learn(operation, &answer.body);
        } else if is_json {
            is_a_status(&answer).map_err(|why| format!("{why}; {asked}"))?;
        }
    }
    Ok(report)
}

/// A refusal says so in its body, too.
fn is_a_status(answer: &Answer) -> Result<(), String> {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    let status: Value = serde_json::from_slice(&answer.body).map_err(|why| format!("{why}: {}", text()))?;
    let is_right = status["kind"] == "Status" && status["code"] == answer.code;
    if is_right { Ok(()) } else { Err(format!("{} is answered with {}", answer.code, text())) }
}

fn described(request: &Request<Vec<u8>>) -> String {
    let body: String = String::from_utf8_lossy(request.body()).chars().take(4000).collect();
    format!("{} {} {:?}\n{body}", request.method(), request.uri(), request.headers())
}
