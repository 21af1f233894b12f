//! The paths of a document: for each resource what can be done, with which kind, body and parameters.
//!
//! Clients look here for a resource's kind, for whether a change can be validated and tried (`fieldValidation`,
//! `dryRun`), and for the patches that it takes.

use std::sync::Arc;

use k8s_core::{
    doc,
    doc::{Doc, Map},
    registry::ResourceInfo,
    request::{PatchKind, Verb},
    schema::Gvk,
};

use super::definitions::{Definitions, gvk_doc};
use crate::discovery::{body_kind, verb_words};

/// The version of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// 2.0, also called Swagger.
    V2,
    /// 3.0.
    V3,
}

const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const APPLY: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: [&str; 4] = ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// One thing that can be done at a path.
struct Operation<'a> {
    /// The verb as discovery names it.
    verb: &'a str,
    /// The kind that it is about.
    gvk: Gvk,
    /// The definition of the body, if it takes one.
    takes: Option<String>,
    /// The definition of the answer.
    answers: String,
    parameters: &'a [&'a str],
}

/// The paths of resources.
pub(super) fn paths(shows: &[Arc<ResourceInfo>], definitions: &Definitions, dialect: Dialect) -> Map {
    let mut paths = Map::new();
    for of in shows {
        let root = if of.group.is_empty() {
            format!("/api/{}", of.version)
        } else {
            format!("/apis/{}/{}", of.group, of.version)
        };
        let place = if of.is_namespaced() { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
        let verbs = verb_words(&of.verbs, "");
        let writer = Writer { of, verbs: &verbs, definitions, dialect };
        let collection = format!("{place}/{}", of.plural);
        if of.is_namespaced() && verbs.contains(&"list") {
            paths.insert(format!("{root}/{}", of.plural), writer.everywhere());
        }
        paths.insert(collection.clone(), writer.collection());
        if verbs.iter().any(|verb| matches!(*verb, "get" | "update" | "patch" | "delete")) {
            paths.insert(format!("{collection}/{{name}}"), writer.item());
        }
        for below in &of.subresources {
            let (group, version, kind) = body_kind(of, below);
            let gvk = Gvk { group: group.into(), version: version.into(), kind: kind.into() };
            let path = format!("{collection}/{{name}}/{}", below.name);
            paths.insert(path, writer.one(&gvk, &verb_words(&below.verbs, &below.name), &below.name));
        }
    }
    paths
}

struct Writer<'a> {
    of: &'a ResourceInfo,
    verbs: &'a [&'static str],
    definitions: &'a Definitions,
    dialect: Dialect,
}

impl Writer<'_> {
    fn gvk(&self) -> Gvk {
        super::definitions::gvk(self.of)
    }

    fn list_definition(&self) -> String {
        let gvk = self.gvk();
        self.definitions.name(&gvk.group, &gvk.version, &self.of.list_kind())
    }

    /// The collection over all namespaces: it can only be listed.
    fn everywhere(&self) -> Doc {
        let list = Operation {
            verb: "list",
            gvk: self.gvk(),
            takes: None,
            answers: self.list_definition(),
            parameters: &LIST,
        };
        let mut path = Map::new();
        path.insert("get", self.write(&list, "ForAllNamespaces"));
        Doc::Object(path)
    }

    fn collection(&self) -> Doc {
        let (gvk, verbs) = (self.gvk(), self.verbs);
        let own = self.definitions.name(&gvk.group, &gvk.version, &gvk.kind);
        let mut path = Map::new();
        if verbs.contains(&"list") {
            let answers = self.list_definition();
            let list = Operation { verb: "list", gvk: gvk.clone(), takes: None, answers, parameters: &LIST };
            path.insert("get", self.write(&list, ""));
        }
        if verbs.contains(&"create") {
            let takes = Some(own.clone());
            let create = Operation { verb: "create", gvk: gvk.clone(), takes, answers: own, parameters: &WRITE };
            path.insert("post", self.write(&create, ""));
        }
        if verbs.contains(&"deletecollection") {
            path.insert("delete", self.write(&self.delete("deletecollection", gvk), ""));
        }
        path.insert("parameters", self.path_parameters(false));
        Doc::Object(path)
    }

    fn item(&self) -> Doc {
        let gvk = self.gvk();
        let verbs: Vec<&'static str> = self.verbs.iter().copied().filter(|verb| *verb != "create").collect();
        self.one(&gvk, &verbs, "")
    }

    /// One object, or what hangs below it.
    fn one(&self, gvk: &Gvk, verbs: &[&'static str], suffix: &str) -> Doc {
        let own = self.definitions.name(&gvk.group, &gvk.version, &gvk.kind);
        let mut path = Map::new();
        let plain = [("get", "get", false, &[][..]), ("put", "update", true, &WRITE), ("patch", "patch", true, &APPLY)];
        for (method, verb, takes, parameters) in plain.into_iter().chain([("post", "create", true, &WRITE[..])]) {
            if verbs.contains(&verb) {
                let takes = takes.then(|| own.clone());
                let operation = Operation { verb, gvk: gvk.clone(), takes, answers: own.clone(), parameters };
                path.insert(method, self.write(&operation, suffix));
            }
        }
        if verbs.contains(&"delete") {
            path.insert("delete", self.write(&self.delete("delete", gvk.clone()), suffix));
        }
        path.insert("parameters", self.path_parameters(true));
        Doc::Object(path)
    }

    fn delete(&self, verb: &'static str, gvk: Gvk) -> Operation<'static> {
        let takes = Some("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_owned());
        let answers = "io.k8s.apimachinery.pkg.apis.meta.v1.Status".to_owned();
        Operation { verb, gvk, takes, answers, parameters: &DELETE }
    }

    fn path_parameters(&self, named: bool) -> Doc {
        let parameter = |name: &str| {
            let mut parameter = doc!({"name": name, "in": "path", "required": true});
            self.typed(&mut parameter, "string");
            parameter
        };
        let mut parameters = Vec::new();
        if named {
            parameters.push(parameter("name"));
        }
        if self.of.is_namespaced() {
            parameters.push(parameter("namespace"));
        }
        Doc::Array(parameters)
    }

    fn write(&self, operation: &Operation<'_>, suffix: &str) -> Doc {
        let parameters: Vec<Doc> = operation.parameters.iter().map(|name| self.query_parameter(name)).collect();
        let named = if self.connects(suffix) { "connect" } else { action(operation.verb) };
        let mut written = doc!({
            "operationId": self.operation_id(operation, suffix),
            "x-kubernetes-action": named,
            "x-kubernetes-group-version-kind": gvk_doc(&operation.gvk),
            "parameters": Doc::Array(parameters),
            "responses": {"200": self.answer(&operation.answers), "401": {"description": "Unauthorized"}}
        });
        match (self.dialect, &operation.takes) {
            (_, None) => {}
            (Dialect::V3, Some(definition)) => {
                let mut content = Map::new();
                for media_type in self.consumed(operation.verb) {
                    content.insert(media_type, doc!({"schema": self.body_schema(operation.verb, definition)}));
                }
                let required = !operation.verb.starts_with("delete");
                written.set_at(&["requestBody"], doc!({"content": Doc::Object(content), "required": required}));
            }
            (Dialect::V2, Some(definition)) => {
                let required = !operation.verb.starts_with("delete");
                let schema = self.body_schema(operation.verb, definition);
                let body = doc!({"name": "body", "in": "body", "required": required, "schema": schema});
                if let Some(parameters) = written.entry_at(&["parameters"]).as_array_mut() {
                    parameters.push(body);
                }
                let consumed = self.consumed(operation.verb).into_iter().map(Doc::from).collect();
                written.set_at(&["consumes"], Doc::Array(consumed));
            }
        }
        written
    }

    /// Whether what hangs below leads on to somebody else, so that it has no end of its own.
    fn connects(&self, suffix: &str) -> bool {
        self.of.subresource(suffix).is_some_and(|below| below.verbs.contains(&Verb::Connect))
    }

    fn consumed(&self, verb: &str) -> Vec<&'static str> {
        if verb != "patch" {
            return vec!["application/json", "application/yaml"];
        }
        let built_in = self.definitions.is_built_in(self.of);
        let kinds = PatchKind::ALL.into_iter().filter(|kind| built_in || *kind != PatchKind::Strategic);
        kinds.map(PatchKind::content_type).collect()
    }

    fn body_schema(&self, verb: &str, definition: &str) -> Doc {
        if verb == "patch" {
            doc!({"type": "object"})
        } else {
            self.definitions.reference(self.of, definition, self.dialect)
        }
    }

    fn answer(&self, definition: &str) -> Doc {
        let schema = self.definitions.reference(self.of, definition, self.dialect);
        match self.dialect {
            Dialect::V2 => doc!({"description": "OK", "schema": schema}),
            Dialect::V3 => doc!({"description": "OK", "content": {"application/json": {"schema": schema}}}),
        }
    }

    fn query_parameter(&self, name: &str) -> Doc {
        let kind = match name {
            "allowWatchBookmarks" | "force" | "orphanDependents" | "sendInitialEvents" | "watch" => "boolean",
            "gracePeriodSeconds" | "limit" | "timeoutSeconds" => "integer",
            _ => "string",
        };
        let mut parameter = doc!({"name": name, "in": "query"});
        self.typed(&mut parameter, kind);
        parameter
    }

    /// Types a parameter: in place in version 2, in a schema in version 3.
    fn typed(&self, parameter: &mut Doc, kind: &str) {
        match self.dialect {
            Dialect::V2 => parameter.set_at(&["type"], Doc::from(kind)),
            Dialect::V3 => parameter.set_at(&["schema"], doc!({"type": kind})),
        }
    }

    /// Unique in a document: the verb, group, version, kind and what it hangs below.
    fn operation_id(&self, operation: &Operation<'_>, suffix: &str) -> String {
        let of = self.of;
        let group = of.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        let scope = if of.is_namespaced() && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let verb = match operation.verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "deleteCollection",
            verb => verb,
        };
        format!("{verb}{}{}{scope}{}{}", capital(group), capital(&of.version), of.kind, capital(suffix))
    }
}

/// What upstream calls a verb in `x-kubernetes-action`.
fn action(verb: &str) -> &str {
    match verb {
        "create" => "post",
        "update" => "put",
        verb => verb,
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
