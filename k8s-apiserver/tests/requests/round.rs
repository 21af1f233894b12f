//! A server, and a round of requests to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use k8s_apiserver::{
    ApiServer,
    auth::{
        token::{ServiceAccountTokens, SigningKey},
        x509::ClientCertificates,
    },
    outer::{Insider, Outer, Parts},
};
use k8s_core::request::Caller;
use k8s_store::Memory;
use k8s_wire::env::System;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{documents::Documents, forms::JSON, maker::Maker};

/// The longest that an answer may take. Answers take milliseconds, but machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the accounts of a namespace are.
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
/// How long more of a watch is waited for, and how many pieces of it are read.
const MOMENT: Duration = Duration::from_millis(1);
const PIECES: usize = 20;

/// What a round saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often each code was answered.
    pub codes: BTreeMap<u16, u64>,
    /// How often each operation was answered well.
    pub succeeded: BTreeMap<String, u64>,
    /// The operations that there are.
    pub operations: BTreeSet<String>,
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

    /// Does what the service account controller does, without which there are no pods: the namespace `default` has its
    /// account, whoever deletes it.
    pub async fn give_account(&mut self) -> Result<Answer, String> {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let request = Request::post(ACCOUNTS).header("content-type", JSON);
        self.ask(request.body(account.to_string().into_bytes()).expect("a request")).await
    }

    /// Asks, reads what comes at once, and hangs up.
    pub async fn watch(&mut self, request: Request<Vec<u8>>) -> Result<Answer, String> {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answering = tokio::time::timeout(PATIENCE, self.0.clone().oneshot(request)).await;
        let answer = answering.map_err(|_| "no answer")?.unwrap_or_else(|never| match never {});
        let (head, mut body) = answer.into_parts();
        let mut read = Vec::new();
        for _ in 0..PIECES {
            let Ok(Some(piece)) = tokio::time::timeout(MOMENT, body.frame()).await else { break };
            let piece = piece.map_err(|why| format!("the watch breaks: {why}"))?;
            read.extend(piece.into_data().unwrap_or_default());
        }
        Ok(Answer { code: head.status.as_u16(), body: read.into() })
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
    let key = SigningKey::generate().expect("a key");
    let tokens = ServiceAccountTokens::new(env.clone(), &key, "https://issuer.example.com").expect("an issuer");
    let builder = ApiServer::builder(store, env.clone()).tokens(Arc::new(tokens));
    let server = builder.start().await.expect("it starts");
    let outer = Outer::new(Parts::of(&server, env, Arc::new(ClientCertificates)));
    let mut asker = Asker(outer.as_caller(Caller::new("somebody", &["system:masters"])));
    asker.give_account().await.expect("an answer");
    (server, asker)
}

async fn ask_all(asker: &mut Asker, documents: &Documents, seed: u64, count: u64) -> Result<Report, String> {
    let mut maker = Maker::new(documents, seed);
    let mut report = Report { operations: names(documents), ..Report::default() };
    for number in 0..count {
        // What is wild may shut doors: the first third finds them open.
        let asked = if number < count / 3 || number % 4 == 0 { maker.sound() } else { maker.wild() };
        let watches = asked.watches;
        let (subject, request) = asked.split();
        let told = format!("request {number}: {}", described(&request));
        let is_json = request.headers()["accept"] == JSON;
        let answer = if watches { asker.watch(request).await } else { asker.ask(request).await };
        let answer = answer.map_err(|why| format!("{why}; {told}"))?;
        *report.codes.entry(answer.code).or_default() += 1;
        if answer.code == 500 {
            return Err(format!("{} {}; {told}", answer.code, String::from_utf8_lossy(&answer.body)));
        }
        if watches && is_json && answer.code == 200 {
            are_events(&answer.body).map_err(|why| format!("{why}; {told}"))?;
        }
        if answer.code < 300 {
            *report.succeeded.entry(subject.operation.to_string()).or_default() += 1;
            maker.learn(&subject, &answer.body);
            if subject.operation.method == Method::DELETE && subject.operation.plural() == "serviceaccounts" {
                asker.give_account().await?;
            }
            continue;
        }
        if answer.code == 404 {
            maker.miss(&subject);
        }
        if is_json {
            is_a_status(&answer).map_err(|why| format!("{why}; {told}"))?;
        }
    }
    Ok(report)
}

fn names(documents: &Documents) -> BTreeSet<String> {
    documents.operations.iter().map(ToString::to_string).collect()
}

/// A refusal says so in its body, too.
fn is_a_status(answer: &Answer) -> Result<(), String> {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    let status: Value = serde_json::from_slice(&answer.body).map_err(|why| format!("{why}: {}", text()))?;
    let is_right = status["kind"] == "Status" && status["code"] == answer.code;
    if is_right { Ok(()) } else { Err(format!("{} is answered with {}", answer.code, text())) }
}

/// The whole lines of a watch are events; the last one may go on.
fn are_events(read: &[u8]) -> Result<(), String> {
    let mut lines: Vec<&[u8]> = read.split(|byte| *byte == b'\n').collect();
    lines.pop();
    for line in lines {
        let text = || String::from_utf8_lossy(line).into_owned();
        let event: Value = serde_json::from_slice(line).map_err(|why| format!("{why}: {}", text()))?;
        let kinds = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"];
        let is_event = kinds.iter().any(|kind| event["type"] == *kind) && event["object"]["kind"].is_string();
        if !is_event {
            return Err(format!("no event of a watch: {}", text()));
        }
    }
    Ok(())
}

fn described(request: &Request<Vec<u8>>) -> String {
    let body: String = String::from_utf8_lossy(request.body()).chars().take(4000).collect();
    format!("{} {} {:?}\n{body}", request.method(), request.uri(), request.headers())
}
