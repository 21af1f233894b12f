//! What the server says that it can do.

use std::{collections::BTreeMap, fmt};

use http::{Method, Request};
use serde_json::{Map, Value};

use super::round::Asker;

/// All that the OpenAPI documents, version 3, of a server say.
pub struct Documents {
    /// What can be asked.
    pub operations: Vec<Operation>,
    schemas: BTreeMap<String, Value>,
}

/// A method of a path.
#[derive(Clone)]
pub struct Operation {
    /// Its place among all.
    pub index: usize,
    pub method: Method,
    /// With `{name}` and `{namespace}` in it.
    pub path: String,
    /// Names and types of what may stand in the query.
    pub query: Vec<(String, String)>,
    /// Media types of the body; none if it takes none.
    pub media_types: Vec<String>,
    /// The schema of the body, or of the answer where the body is a patch.
    pub schema: Value,
    pub api_version: String,
    pub kind: String,
}

impl Documents {
    /// Reads them all.
    pub async fn read(asker: &mut Asker) -> Self {
        let index = fetch(asker, "/openapi/v3").await;
        let mut documents = Self { operations: Vec::new(), schemas: BTreeMap::new() };
        for (_, place) in index["paths"].as_object().expect("the index has paths") {
            let url = place["serverRelativeURL"].as_str().expect("a URL");
            documents.add(fetch(asker, url).await);
        }
        documents
    }

    fn add(&mut self, mut document: Value) {
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            self.schemas.extend(schemas);
        }
        for (path, item) in document["paths"].as_object().expect("a document has paths") {
            for (method, operation) in item.as_object().expect("an object") {
                let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
                if operation.is_object() && operation["x-kubernetes-action"] != "connect" {
                    self.operations.push(Operation::read(self.operations.len(), method, path, operation));
                }
            }
        }
    }

    /// What makes objects of a collection.
    pub fn creator(&self, collection: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.method == Method::POST && operation.path == collection)
    }

    /// A schema without indirection.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let target = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"));
        let name = target.and_then(Value::as_str).and_then(|text| text.strip_prefix("#/components/schemas/"));
        name.and_then(|name| self.schemas.get(name)).unwrap_or(schema)
    }
}

impl Operation {
    fn read(index: usize, method: Method, path: &str, operation: &Value) -> Self {
        let content = operation["requestBody"]["content"].as_object().cloned().unwrap_or_default();
        let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let own = content.values().next().map(|content| content["schema"].clone());
        let is_patch = method == Method::PATCH;
        let gvk = &operation["x-kubernetes-group-version-kind"];
        let text = |name: &str| gvk[name].as_str().unwrap_or("").to_owned();
        let (group, version) = (text("group"), text("version"));
        Self {
            index,
            method,
            path: path.to_owned(),
            query: operation["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
            media_types: content.keys().cloned().collect(),
            schema: own.filter(|_| !is_patch).unwrap_or_else(|| answer.clone()),
            api_version: if group.is_empty() { version } else { format!("{group}/{version}") },
            kind: text("kind"),
        }
    }

    /// Whether it is about a whole object, not about a collection or something below.
    pub fn is_of_one(&self) -> bool {
        self.path.ends_with("/{name}")
    }

    /// Whether it is about one object, or something below one.
    pub fn is_about_one(&self) -> bool {
        self.path.contains("/{name}")
    }

    /// Whether it is about all objects of a collection that a query chooses.
    pub fn is_list(&self) -> bool {
        self.takes("labelSelector")
    }

    /// Whether this may stand in the query.
    pub fn takes(&self, parameter: &str) -> bool {
        self.query.iter().any(|(name, _)| name == parameter)
    }

    /// What all operations on objects of this kind share.
    pub fn collection(&self) -> &str {
        self.path.split("/{name}").next().unwrap_or(&self.path)
    }

    /// The last part of the collection's path.
    pub fn plural(&self) -> &str {
        self.collection().rsplit('/').next().unwrap_or("")
    }

    /// What below an object it is about; empty for the object itself.
    pub fn subresource(&self) -> &str {
        self.path.split_once("/{name}/").map_or("", |(_, below)| below)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn parameter(of: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or("string").to_owned();
    (text(&of["name"]), text(&of["schema"]["type"]))
}

async fn fetch(asker: &mut Asker, path: &str) -> Value {
    let answer = asker.ask(Request::get(path).body(Vec::new()).expect("a request")).await.expect("an answer");
    serde_json::from_slice(&answer.body).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Nothing known: the schema of anything.
pub fn anything() -> Value {
    Value::Object(Map::new())
}
