//! Requests that ought to succeed: about objects that are there, in forms that the server reads, mostly of operations
//! that have not succeeded yet.

use http::{Method, Request};
use serde_json::{Value, json};

use super::{
    documents::Operation,
    forms::{self, CBOR, JSON, PROTOBUF},
    maker::{Asked, Maker, escaped},
    seeds,
};

/// Answers that any object can be given in.
const ACCEPTED: [&str; 12] = [
    JSON,
    JSON,
    JSON,
    JSON,
    "*/*",
    "application/yaml",
    PROTOBUF,
    CBOR,
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/cbor;as=Table;v=v1;g=meta.k8s.io",
];

/// The same of lists of objects.
const LISTS: [&str; 4] = [
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    JSON,
];

/// The same of watches.
const WATCHES: [&str; 7] = [
    JSON,
    JSON,
    "application/vnd.kubernetes.protobuf;stream=watch",
    CBOR,
    "application/cbor-seq",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
];

impl<'a> Maker<'a> {
    /// The next one.
    pub fn sound(&mut self) -> Asked<'a> {
        let wanted = self.wanted();
        self.number += 1;
        let subject = self.subject(wanted);
        // What is to be asked about comes first.
        let creator = wanted.is_about_one() && subject.is_none();
        let operation = self.documents.creator(wanted.collection()).filter(|_| creator).unwrap_or(wanted);
        self.about(operation, subject)
    }

    fn wanted(&mut self) -> &'a Operation {
        let operations = &self.documents.operations;
        let left: Vec<&'a Operation> =
            operations.iter().filter(|operation| !self.succeeded.contains(&operation.index)).collect();
        let among = if left.is_empty() || self.random.one_in(4) { operations.iter().collect() } else { left };
        among[self.random.below(among.len() as u64) as usize]
    }

    /// An object that is there and that the operation can be about.
    fn subject(&mut self, operation: &Operation) -> Option<Value> {
        let known = match operation.collection() {
            // These bind pods.
            "/api/v1/namespaces/{namespace}/bindings" => "/api/v1/namespaces/{namespace}/pods",
            own => own,
        };
        let is_new = operation.method == Method::POST && !operation.is_about_one() && known == operation.collection();
        let objects = self.known.objects(known);
        (!is_new && !objects.is_empty()).then(|| self.random.pick(objects).clone())
    }

    fn about(&mut self, operation: &'a Operation, subject: Option<Value>) -> Asked<'a> {
        let known = subject.as_ref().and_then(|subject| subject["metadata"]["name"].as_str());
        let name = known.map_or_else(|| seeds::name(operation.plural(), self.number), str::to_owned);
        let media_type = self.media_type(operation);
        let (query, watches) = self.sound_query(operation, &media_type);
        let path = operation.path.replace("{namespace}", "default").replace("{name}", &escaped(&name));
        let accepted = self.sound_accept(operation, watches);
        let mut request = Request::builder().method(operation.method.clone()).uri(format!("{path}{query}"));
        request = request.header("accept", accepted).header("user-agent", "sound/1.0");
        let mut body = Vec::new();
        if !media_type.is_empty() {
            let value = self.sound_body(operation, &media_type, subject, &name);
            let encoded = forms::encode(&self.schemas, &value, &media_type);
            // What has no other form is sent as JSON.
            let sent_as = if encoded.is_some() { media_type.as_str() } else { JSON };
            request = request.header("content-type", sent_as);
            body = encoded.unwrap_or_else(|| value.to_string().into_bytes());
        }
        let request = request.body(body).expect("paths are escaped");
        Asked { operation, name, is_dry: query.contains("dryRun"), watches, request }
    }

    fn media_type(&mut self, operation: &Operation) -> String {
        match operation.media_types.as_slice() {
            [] => String::new(),
            offered if operation.method == Method::PATCH => self.random.pick(offered).clone(),
            // The documents name two of the four that there are.
            offered => match self.random.below(8) {
                0 => PROTOBUF.to_owned(),
                1 => CBOR.to_owned(),
                2 => self.random.pick(offered).clone(),
                _ => JSON.to_owned(),
            },
        }
    }

    fn sound_accept(&mut self, operation: &Operation, watches: bool) -> &'static str {
        let choices: &[&'static str] = match operation.method {
            _ if operation.kind.is_empty() => &[JSON],
            _ if watches => &WATCHES,
            Method::GET if operation.is_list() && self.random.one_in(4) => &LISTS,
            Method::GET => &ACCEPTED,
            _ if self.random.one_in(4) => &ACCEPTED,
            _ => &[JSON],
        };
        choices[self.random.below(choices.len() as u64) as usize]
    }

    /// What fits together; and whether it asks for a watch.
    fn sound_query(&mut self, operation: &Operation, media_type: &str) -> (String, bool) {
        let mut pairs: Vec<String> = Vec::new();
        let mut watches = false;
        if media_type.contains("apply") {
            pairs.push("fieldManager=one&force=true".into());
        } else if operation.takes("fieldManager") && self.random.one_in(4) {
            pairs.push("fieldManager=two".into());
        }
        if operation.is_list() {
            let (listed, watched) = self.list_query(operation);
            pairs.extend(listed);
            watches = watched;
        }
        let choices = [
            ("pretty", "true", 6),
            ("dryRun", "All", 12),
            ("fieldValidation", "Strict", 9),
            ("fieldValidation", "Warn", 9),
            ("gracePeriodSeconds", "0", 3),
            ("propagationPolicy", "Background", 6),
        ];
        for (name, value, times) in choices {
            let is_there = pairs.iter().any(|pair| pair.starts_with(name));
            if operation.takes(name) && !is_there && self.random.one_in(times) {
                pairs.push(format!("{name}={value}"));
            }
        }
        (if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }, watches)
    }

    fn list_query(&mut self, operation: &Operation) -> (Option<String>, bool) {
        let is_read = operation.method == Method::GET;
        let listed = match self.random.below(12) {
            0 => "limit=1".to_owned(),
            1 => match self.known.take_token(&operation.path).filter(|_| is_read) {
                Some(token) => format!("limit=2&continue={}", escaped(&token)),
                None => "limit=500".to_owned(),
            },
            2 => "labelSelector=app%3Dweb".to_owned(),
            3 => "labelSelector=app%20in%20(web,db),!tier".to_owned(),
            4 => format!("fieldSelector=metadata.name%3D{}", escaped(&seeds::name(operation.plural(), 1))),
            5 => "timeoutSeconds=20".to_owned(),
            6 if is_read => "resourceVersion=0".to_owned(),
            7 if is_read => "resourceVersion=1&resourceVersionMatch=NotOlderThan".to_owned(),
            8 if is_read => return (Some("watch=true".to_owned()), true),
            9 if is_read => {
                let initial = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true\
                               &resourceVersionMatch=NotOlderThan&labelSelector=app";
                return (Some(initial.to_owned()), true);
            }
            _ => return (None, false),
        };
        (Some(listed), false)
    }

    fn sound_body(&mut self, operation: &Operation, media_type: &str, subject: Option<Value>, name: &str) -> Value {
        let subresource = operation.subresource();
        let mut body = match operation.method {
            Method::DELETE => return json!({"apiVersion": "v1", "kind": "DeleteOptions"}),
            Method::PATCH => return self.sound_patch(operation, media_type, subject, name),
            Method::POST if subresource.is_empty() => {
                seeds::object(&operation.api_version, operation.plural(), self.number)
            }
            Method::POST => seeds::below(subresource),
            _ if subresource == "scale" => json!({"spec": {"replicas": self.random.below(3)}}),
            _ => self.changed(subject.unwrap_or_else(|| json!({})), subresource),
        };
        body["apiVersion"] = json!(operation.api_version);
        body["kind"] = json!(operation.kind);
        body["metadata"]["name"] = json!(name);
        body
    }

    /// An object with a change that is allowed.
    fn changed(&mut self, mut object: Value, subresource: &str) -> Value {
        if let Some(metadata) = object["metadata"].as_object_mut()
            && self.random.one_in(2)
        {
            metadata.remove("resourceVersion");
        }
        object["metadata"]["annotations"]["round"] = json!(self.number.to_string());
        match subresource {
            "approval" => object["status"]["conditions"] = approved(),
            "ephemeralcontainers" => object["spec"]["ephemeralContainers"] = self.ephemeral(&object),
            _ => {}
        }
        object
    }

    /// The containers that are there, and a further one.
    fn ephemeral(&self, object: &Value) -> Value {
        let mut containers = object["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
        containers.push(json!({"name": format!("e{}", self.number), "image": "i"}));
        Value::Array(containers)
    }

    fn sound_patch(&mut self, operation: &Operation, media_type: &str, subject: Option<Value>, name: &str) -> Value {
        let round = json!(self.number.to_string());
        let subject = subject.unwrap_or_default();
        let (field, value) = match operation.subresource() {
            "scale" => ("/spec/replicas", json!(self.random.below(3))),
            "approval" => ("/status/conditions", approved()),
            "ephemeralcontainers" => ("/spec/ephemeralContainers", self.ephemeral(&subject)),
            _ => ("/metadata/annotations", json!({"round": round})),
        };
        if media_type.contains("json-patch") {
            return json!([{"op": "add", "path": field, "value": value}]);
        }
        let mut steps = field.trim_start_matches('/').rsplit('/');
        let mut patch = steps.by_ref().fold(value, |inner, step| json!({step: inner}));
        if media_type.contains("apply") {
            patch["apiVersion"] = json!(operation.api_version);
            patch["kind"] = json!(operation.kind);
            patch["metadata"]["name"] = json!(name);
        }
        patch
    }
}

fn approved() -> Value {
    json!([{"type": "Approved", "status": "True", "reason": "Round", "message": "asked for",
        "lastUpdateTime": "2026-01-02T03:04:05Z"}])
}
