//! One event as JSON, in the order in which upstream writes its fields.

use bytes::Bytes;
use k8s_core::{
    doc::{Doc, Text},
    env::Timestamp,
    request::{Caller, Target},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ongoing::Ongoing, policy::Stage};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[_]>::is_empty")]
    source_ips: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<&'a Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<ResponseStatus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<&'a RawValue>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "map")]
    annotations: Vec<(String, String)>,
}

#[derive(Serialize)]
struct User<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [Text],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "extra")]
    extra: &'a [(Text, Vec<Text>)],
}

#[derive(Serialize)]
struct ResponseStatus<'a> {
    metadata: Empty,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    code: u16,
}

#[derive(Serialize)]
struct Empty {}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    resource: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    namespace: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    name: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    uid: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    api_group: Text,
    api_version: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    resource_version: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    subresource: Text,
}

impl Reference {
    pub fn to(target: &Target) -> Self {
        Self {
            resource: target.resource.plural.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            uid: Text::default(),
            api_group: target.resource.group.clone(),
            api_version: target.resource.version.clone(),
            resource_version: Text::default(),
            subresource: target.subresource.clone(),
        }
    }

    /// Adds what the body says and the path does not.
    pub fn complete(&mut self, body: &Doc) {
        let fields =
            [(&mut self.name, "name"), (&mut self.uid, "uid"), (&mut self.resource_version, "resourceVersion")];
        for (field, name) in fields {
            if field.is_empty() {
                *field = body.str_at(&["metadata", name]).into();
            }
        }
    }
}

/// The event of a stage; one line without its end.
pub(super) fn write(ongoing: &Ongoing, stage: Stage, code: Option<u16>, now: Timestamp) -> Bytes {
    let noted = ongoing.noted.lock();
    let early = stage == Stage::RequestReceived;
    let failed = code.is_some_and(|code| code >= 400);
    let event = Event {
        kind: "Event",
        api_version: "audit.k8s.io/v1",
        level: ongoing.verdict.level.as_str(),
        audit_id: ongoing.audit_id(),
        stage: stage.as_str(),
        request_uri: &ongoing.arrival.uri,
        verb: &ongoing.verb,
        user: user(&ongoing.caller),
        impersonated_user: noted.acting_as.as_ref().map(user),
        source_ips: &ongoing.arrival.source_ips,
        user_agent: &ongoing.caller.agent,
        object_ref: noted.reference.as_ref(),
        response_status: code.filter(|_| !early).map(|code| ResponseStatus {
            metadata: Empty {},
            status: if failed { "Failure" } else { "" },
            message: &noted.message,
            reason: &noted.reason,
            code,
        }),
        request_object: noted.request.as_deref().filter(|_| !early).and_then(raw),
        response_object: noted.response.as_deref().filter(|_| !early).and_then(raw),
        request_received_timestamp: micros(ongoing.received),
        stage_timestamp: micros(now),
        annotations: ongoing.trail.annotations(),
    };
    // Invariant: all keys are strings, so it always serializes.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

fn user(caller: &Caller) -> User<'_> {
    User { username: &caller.name, uid: &caller.uid, groups: &caller.groups, extra: &caller.extra }
}

fn raw(json: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn map<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

fn extra<S: serde::Serializer>(pairs: &[(Text, Vec<Text>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}
