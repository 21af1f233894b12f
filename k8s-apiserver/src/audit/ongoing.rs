//! One request on its way, as the audit log sees it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
};

use bytes::Bytes;
use k8s_core::{
    doc::Doc,
    env::Timestamp,
    request::{ApiResponse, Caller, RequestBody, ResponseBody},
    status::ApiError,
};
use parking_lot::Mutex;

use super::{
    Audit,
    event::{self, Reference},
    policy::{Asked, AskedFor, Level, Stage, Verdict},
};
use crate::admission::Trail;

/// How a request came.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// What tells it from every other one; empty: it gets one.
    pub audit_id: String,
    /// The path and query.
    pub uri: String,
    /// Where it came from, nearest last.
    pub source_ips: Vec<String>,
}

/// A request that is being noted. When the last one who holds it lets go, the request is over: that is the stage
/// `ResponseComplete`, or `Panic` if it was let go by a panic.
pub struct Ongoing {
    /// What is noted beside.
    pub trail: Trail,
    pub(super) verdict: Verdict,
    pub(super) caller: Caller,
    pub(super) verb: Box<str>,
    pub(super) arrival: Arrival,
    pub(super) received: Timestamp,
    pub(super) noted: Mutex<Noted>,
    audit: Arc<Audit>,
    code: AtomicU16,
    streams: AtomicBool,
}

/// What becomes known of a request on its way.
#[derive(Default)]
pub(super) struct Noted {
    pub reference: Option<Reference>,
    pub acting_as: Option<Caller>,
    pub request: Option<Bytes>,
    pub response: Option<Bytes>,
    pub message: String,
    pub reason: String,
}

impl Ongoing {
    pub(super) fn new(
        audit: Arc<Audit>,
        verdict: Verdict,
        caller: &Caller,
        asked: &Asked<'_>,
        mut arrival: Arrival,
    ) -> Self {
        if arrival.audit_id.is_empty() {
            arrival.audit_id = audit.env.uuid();
        }
        let reference = match asked.subject {
            AskedFor::Resource(target) => Some(Reference::to(target)),
            AskedFor::Path(_) => None,
        };
        Self {
            trail: Trail::default(),
            verdict,
            caller: caller.clone(),
            verb: asked.verb.into(),
            arrival,
            received: audit.env.now(),
            noted: Mutex::new(Noted { reference, ..Noted::default() }),
            audit,
            code: AtomicU16::new(0),
            streams: AtomicBool::new(false),
        }
    }

    /// What tells the request from every other one.
    pub fn audit_id(&self) -> &str {
        &self.arrival.audit_id
    }

    /// The caller acts as somebody else.
    pub fn acts_as(&self, other: &Caller) {
        self.noted.lock().acting_as = Some(other.clone());
    }

    /// What was sent. It also says what an object is called that the path does not name.
    pub fn sent(&self, body: &RequestBody) {
        let doc = match body {
            RequestBody::None => return,
            RequestBody::Doc(doc) => doc,
            RequestBody::Patch(_, patch) => {
                self.keep_request(patch);
                return;
            }
        };
        if let Some(reference) = &mut self.noted.lock().reference {
            reference.complete(doc);
        }
        self.keep_request(doc);
    }

    fn keep_request(&self, doc: &Doc) {
        if self.verdict.level >= Level::Request {
            self.noted.lock().request = Some(self.json(doc));
        }
    }

    /// What was answered.
    pub fn answered(&self, response: &Result<ApiResponse, ApiError>) {
        match response {
            Ok(response) => {
                self.code.store(response.code, Relaxed);
                if self.verdict.level == Level::RequestResponse {
                    self.noted.lock().response = self.answer(&response.body);
                }
            }
            Err(error) => self.failed(error),
        }
    }

    /// It was refused, here or before anybody looked at it.
    pub fn failed(&self, error: &ApiError) {
        let status = error.status();
        self.code.store(status.code, Relaxed);
        let mut noted = self.noted.lock();
        noted.message.clone_from(&status.message);
        noted.reason = status.reason.map(|reason| format!("{reason:?}")).unwrap_or_default();
        if self.verdict.level == Level::RequestResponse {
            noted.response = Some(status.to_json().into());
        }
    }

    /// The answer has this code, whatever it holds.
    pub fn answered_with(&self, code: u16) {
        self.code.store(code, Relaxed);
    }

    /// The head of an answer that goes on and on was sent.
    pub fn streams(&self, code: u16) {
        self.code.store(code, Relaxed);
        if !self.streams.swap(true, Relaxed) {
            self.stage(Stage::ResponseStarted, Some(code));
        }
    }

    /// Notes that the request has reached a stage.
    pub(super) fn stage(&self, stage: Stage, code: Option<u16>) {
        if !self.verdict.omit_stages.contains(&stage) {
            self.audit.note(event::write(self, stage, code, self.audit.env.now()));
        }
    }

    fn answer(&self, body: &ResponseBody) -> Option<Bytes> {
        match body {
            ResponseBody::Object(object) if !self.verdict.omit_managed_fields => Some(object.to_json().into()),
            ResponseBody::Object(object) => Doc::parse(&object.to_json()).ok().map(|doc| self.json(&doc)),
            ResponseBody::Doc(doc) => Some(self.json(doc)),
            ResponseBody::Status(status) => Some(status.to_json().into()),
            ResponseBody::List(list) => {
                let mut json = b"{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[".to_vec();
                for (place, object) in list.items.iter().enumerate() {
                    if place > 0 {
                        json.push(b',');
                    }
                    object.write_json(&mut json);
                }
                json.extend_from_slice(b"]}");
                Some(json.into())
            }
            ResponseBody::Watch(_) | ResponseBody::Connection(_) => None,
        }
    }

    fn json(&self, doc: &Doc) -> Bytes {
        if !self.verdict.omit_managed_fields || doc.at(&["metadata", "managedFields"]).is_none() {
            return doc.to_json().into();
        }
        let mut doc = doc.clone();
        doc.remove_at(&["metadata", "managedFields"]);
        doc.to_json().into()
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let code = Some(self.code.load(Relaxed)).filter(|code| *code > 0);
        match std::thread::panicking() {
            true => self.stage(Stage::Panic, Some(500)),
            false => self.stage(Stage::ResponseComplete, code),
        }
    }
}
