//! Requests that are mostly of the right shape, and many of them wrong in a place or two.

use http::{Method, Request};
use serde_json::{Map, Value, json};

use super::{
    documents::{Operation, anything},
    forms::{self, CBOR, PROTOBUF},
    maker::{Asked, Maker, escaped},
    words,
};

/// Deeper than this only what is required is made.
const DEEP: usize = 9;

impl<'a> Maker<'a> {
    /// The next one, of whatever operation and wrong in whatever way.
    pub fn wild(&mut self) -> Asked<'a> {
        let operation = self.random.pick(&self.documents.operations);
        let base = self.remembered(operation);
        let name = match base.as_ref().and_then(|base| base["metadata"]["name"].as_str()) {
            Some(name) => name.to_owned(),
            None => self.name(),
        };
        let namespace = if self.random.one_in(15) { self.name() } else { "default".to_owned() };
        // Longer addresses cannot even be asked for; these are longer than the server takes.
        let piece = |text: &str| escaped(text).chars().take(16_500).collect::<String>();
        let path = operation.path.replace("{namespace}", &piece(&namespace)).replace("{name}", &piece(&name));
        let path = format!("{path}{}", self.query(operation));
        let is_dry = path.contains("dryRun");
        let mut request = Request::builder().method(operation.method.clone()).uri(path);
        request =
            request.header("accept", self.accepted()).header("user-agent", *self.random.pick(&["one", "two/1.0"]));
        let body = if operation.media_types.is_empty() {
            Vec::new()
        } else {
            let media_type = match self.random.below(12) {
                0 => PROTOBUF.to_owned(),
                1 => CBOR.to_owned(),
                _ => self.random.pick(&operation.media_types).clone(),
            };
            let body = self.body(operation, &media_type, base, &name);
            let odd_type = self.random.one_in(60);
            request = request.header("content-type", if odd_type { "application/x-odd" } else { media_type.as_str() });
            body
        };
        let request = request.body(body).expect("paths are escaped");
        Asked { operation, name, is_dry, watches: false, request }
    }

    fn remembered(&mut self, operation: &Operation) -> Option<Value> {
        let known = self.known.objects(operation.collection());
        let wanted = !known.is_empty() && operation.method != Method::POST && !self.random.one_in(4);
        wanted.then(|| self.random.pick(known).clone())
    }

    fn name(&mut self) -> String {
        if self.random.one_in(25) {
            words::odd(&mut self.random)
        } else {
            (*self.random.pick(&words::NAMES)).to_owned()
        }
    }

    fn accepted(&mut self) -> &'static str {
        let types = [
            "application/json",
            "application/json",
            "application/json",
            "application/json",
            "application/json",
            "application/json",
            "*/*",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
            "application/vnd.kubernetes.protobuf",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
            "application/cbor",
            "application/yaml",
            "text/odd;q=2,;;,",
        ];
        types[self.random.below(types.len() as u64) as usize]
    }

    fn query(&mut self, operation: &Operation) -> String {
        let mut pairs = Vec::new();
        for (name, kind) in &operation.query {
            let is_dry_run = name == "dryRun";
            // What ends only in its own time is not asked for; what is only tried leaves nothing to go on with.
            if name == "watch" || !self.random.one_in(if is_dry_run { 12 } else { 7 }) {
                continue;
            }
            pairs.push(format!("{name}={}", escaped(&self.parameter(name, kind))));
        }
        if self.random.one_in(30) {
            pairs.push(format!(
                "{}={}",
                escaped(&words::odd(&mut self.random)),
                escaped(&words::odd(&mut self.random))
            ));
        }
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")).chars().take(32_000).collect() }
    }

    fn parameter(&mut self, name: &str, kind: &str) -> String {
        if self.random.one_in(30) {
            return words::odd(&mut self.random);
        }
        let choices: &[&'static str] = match (name, kind) {
            ("continue", _) if !self.random.one_in(4) => return self.token.clone(),
            ("dryRun", _) => &["All", "All", "none"],
            ("fieldManager", _) => &["one", "two", "three"],
            ("fieldValidation", _) => &["Strict", "Warn", "Ignore", "strict"],
            ("labelSelector", _) => &["app=web", "app in (web,db)", "!app", "app!=web,tier", "app notin ("],
            ("fieldSelector", _) => &[
                "metadata.name=a",
                "metadata.namespace!=default",
                "spec.nodeName=node-1",
                "status.phase=Running",
                "x=y",
            ],
            // A version that is not there yet is waited for.
            ("resourceVersion", _) if self.random.one_in(100) => &["18446744073709551615"],
            ("resourceVersion", _) => &["0", "1", "10", "x"],
            ("resourceVersionMatch", _) => &["Exact", "NotOlderThan", "Other"],
            ("propagationPolicy", _) => &["Background", "Foreground", "Orphan", "Other"],
            (_, "boolean") => &["true", "false", "1", "maybe"],
            (_, "integer") => &["0", "1", "2", "500", "-1", "9223372036854775807", "99999999999999999999"],
            _ => &["", "a", "default"],
        };
        (*self.random.pick(choices)).to_owned()
    }

    fn body(&mut self, operation: &Operation, media_type: &str, base: Option<Value>, name: &str) -> Vec<u8> {
        let is_json_patch = media_type.contains("json-patch");
        let mut body = match base.filter(|_| !self.random.one_in(3)) {
            Some(base) if is_json_patch => self.json_patch(&base),
            Some(base) if operation.method == Method::PATCH => self.part(base),
            Some(base) if operation.is_of_one() => base,
            _ if is_json_patch => self.json_patch(&json!({"metadata": {"labels": {}}, "spec": {}})),
            _ => self.whole(operation, name),
        };
        if media_type.contains("apply") {
            for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp"] {
                body["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
            }
        }
        for _ in 0..*self.random.pick(&[0, 0, 0, 1, 1, 3]) {
            self.spoil(&mut body);
        }
        let encoded = forms::encode(&self.schemas, &body, media_type);
        let mut text = encoded.unwrap_or_else(|| serde_json::to_vec(&body).expect("values are JSON"));
        if self.random.one_in(40) {
            self.spoil_text(&mut text);
        }
        text
    }

    /// A whole object of the operation's kind.
    fn whole(&mut self, operation: &Operation, name: &str) -> Value {
        let mut body = self.value(&operation.schema, "", 0);
        if body.is_object() && operation.schema.get("$ref").is_some() && operation.method != Method::DELETE {
            body["apiVersion"] = json!(operation.api_version);
            body["kind"] = json!(operation.kind);
            body["metadata"]["name"] = json!(name);
            if let Some(metadata) = body["metadata"].as_object_mut() {
                let rarely: &[&str] = &["resourceVersion", "uid", "managedFields", "namespace", "ownerReferences"];
                rarely.iter().filter(|_| !self.random.one_in(9)).for_each(|field| drop(metadata.remove(*field)));
            }
        }
        body
    }

    /// What a merge would take: some of an object's fields.
    fn part(&mut self, mut of: Value) -> Value {
        if let Some(fields) = of.as_object_mut() {
            let names: Vec<String> =
                fields.keys().filter(|name| *name != "kind" && *name != "apiVersion").cloned().collect();
            for name in names {
                if self.random.one_in(2) {
                    fields.remove(&name);
                }
            }
        }
        if self.random.one_in(3) {
            let directives = [
                json!({"$patch": "replace"}),
                json!({"$patch": "odd"}),
                json!({"$retainKeys": ["a"]}),
                json!({"$setElementOrder/containers": [{"name": "a"}, 1]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["a", null]}),
                json!({"$setElementOrder/finalizers": "a"}),
            ];
            let directive = self.random.pick(&directives).clone();
            let place = self.place(&of);
            if let (Some(Value::Object(target)), Value::Object(more)) = (of.pointer_mut(&place), directive) {
                target.extend(more);
            }
        }
        of
    }

    fn json_patch(&mut self, of: &Value) -> Value {
        let count = self.random.below(4);
        let steps = (0..count).map(|_| {
            let kind = *self.random.pick(&["add", "remove", "replace", "move", "copy", "test", "odd"]);
            let (path, from) = (self.place(of), self.place(of));
            let path = match self.random.below(6) {
                0 => format!("{path}/-"),
                1 => format!("{path}/odd"),
                2 => format!("{path}/18446744073709551616"),
                _ => path,
            };
            let value = of.pointer(&from).filter(|_| self.random.one_in(2)).cloned();
            let value = value.unwrap_or_else(|| self.odd_value());
            json!({"op": kind, "path": path, "from": from, "value": value})
        });
        Value::Array(steps.collect())
    }

    /// A value of a schema.
    fn value(&mut self, schema: &Value, field: &str, depth: usize) -> Value {
        let schema = self.documents.resolve(schema);
        if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.is_empty()) {
            return self.random.pick(choices).clone();
        }
        let format = schema["format"].as_str().unwrap_or("");
        match schema["type"].as_str() {
            Some("object") => self.object(schema, field, depth),
            Some("array") => {
                let count = if depth > DEEP { 0 } else { *self.random.pick(&[0, 1, 1, 1, 2]) };
                Value::Array((0..count).map(|_| self.value(&schema["items"], field, depth + 1)).collect())
            }
            Some("boolean") => json!(self.random.one_in(2)),
            Some("integer" | "number") => {
                json!(*self.random.pick(&[0, 1, 2, 3, 80, 8080, 420, 3600, -1, 65536, i64::MAX]))
            }
            Some("string") => json!(words::of_field(&mut self.random, field, format)),
            // A quantity, a port by number or name, or what anything may stand for.
            _ => match self.random.below(3) {
                0 => json!(self.random.below(100)),
                1 => json!(words::of_field(&mut self.random, field, "int-or-string")),
                _ => json!(words::of_field(&mut self.random, field, "quantity")),
            },
        }
    }

    fn object(&mut self, schema: &Value, field: &str, depth: usize) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut made = Map::new();
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            // Near the top more is filled in; far below it would never end.
            let is_made = match depth {
                0 => name != "status" || self.random.one_in(4),
                1 => self.random.one_in(3),
                2..=DEEP => self.random.one_in(5),
                _ => false,
            };
            if is_made || required.contains(&name.as_str()) {
                made.insert(name.clone(), self.value(of, name, depth + 1));
            }
        }
        if let Some(of) = schema.get("additionalProperties").filter(|of| of.is_object()) {
            for _ in 0..self.random.below(3) {
                made.insert(words::key(&mut self.random, field), self.value(of, field, depth + 1));
            }
        }
        Value::Object(made)
    }

    /// Changes something somewhere.
    fn spoil(&mut self, body: &mut Value) {
        let place = self.place(body);
        let odd = self.odd_value();
        let Some((above, last)) = place.rsplit_once('/') else {
            *body = odd;
            return;
        };
        let last = last.replace("~1", "/").replace("~0", "~");
        match body.pointer_mut(above) {
            Some(Value::Object(fields)) => match self.random.below(4) {
                0 => drop(fields.remove(&last)),
                1 => drop(fields.insert(format!("{last}x"), odd)),
                _ => drop(fields.insert(last, odd)),
            },
            Some(Value::Array(items)) => match self.random.below(3) {
                0 => items.push(odd),
                1 => items.extend(items.clone()),
                _ => items.clear(),
            },
            _ => {}
        }
    }

    /// Where something is: a JSON pointer.
    fn place(&mut self, of: &Value) -> String {
        let (mut pointer, mut at) = (String::new(), of);
        while !self.random.one_in(4) {
            let (step, next) = match at {
                Value::Object(fields) if !fields.is_empty() => {
                    let index = self.random.below(fields.len() as u64) as usize;
                    let (name, next) = fields.iter().nth(index).expect("the index is below the count");
                    (name.replace('~', "~0").replace('/', "~1"), next)
                }
                Value::Array(items) if !items.is_empty() => {
                    let index = self.random.below(items.len() as u64) as usize;
                    (index.to_string(), &items[index])
                }
                _ => break,
            };
            pointer = format!("{pointer}/{step}");
            at = next;
        }
        pointer
    }

    fn odd_value(&mut self) -> Value {
        match self.random.below(12) {
            0 => Value::Null,
            1 => json!(-1),
            2 => json!(u64::MAX),
            3 => json!(1e300),
            4 => json!(true),
            5 => json!([]),
            6 => json!({}),
            7 => json!([null, {}]),
            8 => json!({"": {"$patch": "delete"}}),
            9 => (0..60).fold(json!(1), |inner, _| json!([inner])),
            10 => self.value(&anything(), "name", 3),
            _ => json!(words::odd(&mut self.random)),
        }
    }

    fn spoil_text(&mut self, text: &mut Vec<u8>) {
        match self.random.below(7) {
            0 => text.truncate(self.random.below(text.len() as u64 + 1) as usize),
            1 => text.extend(b"{}"),
            2 => *text = b"[".repeat(20_000),
            3 => *text = String::from_utf8_lossy(text).replacen('{', "{\"metadata\":{},", 1).into_bytes(),
            4 => *text = String::from_utf8_lossy(text).replacen(":1", ":1e999", 1).into_bytes(),
            5 => *text = Vec::new(),
            _ => {
                if let Some(byte) = text.len().checked_sub(1).map(|last| self.random.below(last as u64 + 1) as usize) {
                    text[byte] = self.random.bits() as u8;
                }
            }
        }
    }
}
