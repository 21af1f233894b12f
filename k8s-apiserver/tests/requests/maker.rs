//! What makes one request after the other, and what it learns from the answers.

use std::collections::BTreeSet;

use http::{Method, Request};
use k8s_core::schema::Schemas;
use k8s_store::check::Random;
use serde_json::Value;

use super::{
    documents::{Documents, Operation},
    known::Known,
};

/// Makes one request after the other.
pub struct Maker<'a> {
    pub(super) documents: &'a Documents,
    pub(super) schemas: Schemas,
    pub(super) random: Random,
    pub(super) known: Known,
    /// The operations that have succeeded.
    pub(super) succeeded: BTreeSet<usize>,
    /// How many sound requests have been made.
    pub(super) number: u64,
    /// The last page's token, of whatever collection.
    pub(super) token: String,
}

/// A request, and what it is about.
pub struct Asked<'a> {
    pub operation: &'a Operation,
    /// The object's name.
    pub name: String,
    /// Whether nothing comes of it.
    pub is_dry: bool,
    /// Whether its answer does not end by itself.
    pub watches: bool,
    pub request: Request<Vec<u8>>,
}

/// What an answer was to.
pub struct Subject<'a> {
    pub operation: &'a Operation,
    pub name: String,
    pub is_dry: bool,
}

impl<'a> Asked<'a> {
    /// The request alone, and what its answer will be about.
    pub fn split(self) -> (Subject<'a>, Request<Vec<u8>>) {
        (Subject { operation: self.operation, name: self.name, is_dry: self.is_dry }, self.request)
    }
}

impl<'a> Maker<'a> {
    /// The requests that follow from `seed`.
    pub fn new(documents: &'a Documents, seed: u64) -> Self {
        Self {
            documents,
            schemas: Schemas::builtin(),
            random: Random::new(seed),
            known: Known::default(),
            succeeded: BTreeSet::new(),
            number: 0,
            token: String::new(),
        }
    }

    /// Notes what the server answered to a good request.
    pub fn learn(&mut self, asked: &Subject<'_>, answer: &[u8]) {
        let operation = asked.operation;
        self.succeeded.insert(operation.index);
        let collection = operation.collection();
        if operation.method == Method::DELETE && !asked.is_dry {
            self.known.forget(collection, operation.is_about_one().then_some(asked.name.as_str()));
            return;
        }
        if operation.subresource() == "eviction" {
            self.known.forget(collection, Some(&asked.name));
        }
        let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return };
        if let Some(token) = answer["metadata"]["continue"].as_str() {
            self.known.note_token(&operation.path, token);
            self.token = token.to_owned();
        }
        let metadata = &answer["metadata"];
        let is_object = metadata["uid"].is_string() && answer["kind"] == operation.kind.as_str();
        let is_whole = !matches!(operation.subresource(), "scale" | "token" | "binding" | "eviction");
        let is_here = metadata["namespace"].as_str().is_none_or(|namespace| namespace == "default");
        if is_object && is_whole && is_here && !asked.is_dry && metadata["deletionTimestamp"].is_null() {
            self.known.note(collection, answer);
        }
    }

    /// Notes that an object is not there.
    pub fn miss(&mut self, asked: &Subject<'_>) {
        self.known.forget(asked.operation.collection(), Some(&asked.name));
    }
}

/// As a piece of a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let piece = |byte: u8| if is_plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(piece).collect()
}
