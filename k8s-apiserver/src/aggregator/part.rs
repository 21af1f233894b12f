//! What another server's OpenAPI document of version 2 says of one version of a group, and how it becomes a part of the
//! one document that clients see.

use std::collections::BTreeMap;

use k8s_core::doc::{Doc, Map};

use super::Entry;

const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

/// Paths, and the definitions that they reach.
#[derive(Debug)]
pub(crate) struct Part {
    paths: Map,
    definitions: Map,
}

impl Part {
    /// What a document says of the group and version of an entry; what else it has is nobody's to say there.
    pub fn of(entry: &Entry, document: &Doc) -> Option<Self> {
        let own = format!("/apis/{}", entry.group_version());
        let is_own = |path: &str| path.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let (mut paths, mut reached) = (Map::new(), Vec::new());
        for (path, item) in document.get("paths")?.as_object()?.iter().filter(|(path, _)| is_own(path)) {
            let mut item = item.clone();
            inline_parameters(&mut item, document.get("parameters"));
            references(&item, &mut reached);
            paths.insert(path, item);
        }
        let mut definitions = Map::new();
        let all = document.get("definitions").and_then(Doc::as_object);
        while let Some(name) = reached.pop() {
            let found = all.and_then(|all| all.get(&name)).filter(|_| !definitions.contains(&name));
            if let Some(definition) = found {
                references(definition, &mut reached);
                definitions.insert(name, definition.clone());
            }
        }
        (!paths.is_empty()).then_some(Self { paths, definitions })
    }

    /// Adds it to a document. Where two definitions of one name differ, this one's gets another: `NAME_v2`, as upstream
    /// does it.
    pub fn add_to(&self, document: &mut Doc) {
        let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
        let there = document.entry_at(&["definitions"]).make_object();
        for (name, definition) in self.definitions.iter() {
            let is_free = |name: &str| there.get(name).is_none_or(|other| other == definition);
            if !is_free(name) {
                let other = (2..).map(|number| format!("{name}_v{number}")).find(|name| is_free(name));
                renamed.insert(name, other.unwrap_or_default());
            }
        }
        for (name, definition) in self.definitions.iter() {
            let mut definition = definition.clone();
            rename(&mut definition, &renamed);
            there.insert(renamed.get(name).map_or(name, String::as_str).to_owned(), definition);
        }
        let there = document.entry_at(&["paths"]).make_object();
        for (path, item) in self.paths.iter().filter(|(path, _)| !there.contains(path)).collect::<Vec<_>>() {
            let mut item = item.clone();
            rename(&mut item, &renamed);
            there.insert(path.to_owned(), item);
        }
    }
}

/// Puts what a document says once for many operations where it is used.
fn inline_parameters(item: &mut Doc, shared: Option<&Doc>) {
    let Some(fields) = item.as_object_mut() else { return };
    for (name, value) in fields.iter_mut() {
        if name != "parameters" {
            inline_parameters(value, shared);
            continue;
        }
        for parameter in value.items_mut() {
            let found =
                parameter.str_at(&["$ref"]).strip_prefix(PARAMETERS).and_then(|name| shared?.get(name)).cloned();
            if let Some(found) = found {
                *parameter = found;
            }
        }
    }
}

/// The names of the definitions that something refers to.
fn references(doc: &Doc, found: &mut Vec<String>) {
    match doc {
        Doc::Array(items) => items.iter().for_each(|item| references(item, found)),
        Doc::Object(fields) => {
            for (name, value) in fields.iter() {
                match value.as_str().filter(|_| name == "$ref").and_then(|text| text.strip_prefix(DEFINITIONS)) {
                    Some(definition) => found.push(definition.to_owned()),
                    None => references(value, found),
                }
            }
        }
        _ => {}
    }
}

fn rename(doc: &mut Doc, renamed: &BTreeMap<&str, String>) {
    if renamed.is_empty() {
        return;
    }
    match doc {
        Doc::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        Doc::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let referred =
                    value.as_str().filter(|_| name == "$ref").and_then(|text| text.strip_prefix(DEFINITIONS));
                match referred.map(|definition| renamed.get(definition)) {
                    Some(Some(other)) => *value = format!("{DEFINITIONS}{other}").into(),
                    Some(None) => {}
                    None => rename(value, renamed),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::{doc, env::Env};
    use k8s_wire::env::System;

    use super::*;

    fn entry() -> Entry {
        let env: Env = System::current();
        let service = doc!({"metadata": {"name": "v1.acme.com"}, "spec": {"group": "acme.com", "version": "v1",
            "service": {"namespace": "n", "name": "s"}}});
        Entry::read(&service, None, &env, None)
    }

    fn answer(definition: &str) -> Doc {
        doc!({"get": {"parameters": [{"$ref": "#/parameters/p"}],
            "responses": {"200": {"schema": {"$ref": format!("{DEFINITIONS}{definition}")}}}}})
    }

    fn theirs() -> Doc {
        doc!({
            "paths": {"/apis/acme.com/v1/boxes": answer("Box"), "/apis/acme.com/v10/boxes": answer("Other"),
                "/api/v1/pods": answer("Other")},
            "parameters": {"p": {"name": "pretty", "in": "query"}},
            "definitions": {"Box": {"properties": {"metadata": {"$ref": "#/definitions/Meta"}}},
                "Meta": {"properties": {"owner": {"$ref": "#/definitions/Meta"}}}, "Other": {}}
        })
    }

    #[tokio::test]
    async fn a_part_is_what_its_paths_reach_and_nothing_else() {
        let part = Part::of(&entry(), &theirs()).unwrap();
        let mut whole = doc!({"swagger": "2.0", "paths": {"/version": {}}});
        part.add_to(&mut whole);
        let names = |field: &str| {
            let mut names: Vec<String> =
                whole.get(field).unwrap().as_object().unwrap().iter().map(|(name, _)| name.to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names("paths"), ["/apis/acme.com/v1/boxes", "/version"]);
        assert_eq!(names("definitions"), ["Box", "Meta"]);
        let operation = whole.at(&["paths", "/apis/acme.com/v1/boxes", "get"]).unwrap();
        assert_eq!(operation.str_at(&["parameters", "0", "name"]), "pretty");
        assert!(Part::of(&entry(), &doc!({"paths": {"/apis/other.com/v1/boxes": {}}})).is_none());
        assert!(Part::of(&entry(), &doc!("no document")).is_none());
    }

    #[tokio::test]
    async fn definitions_that_say_something_else_get_another_name() {
        let part = Part::of(&entry(), &theirs()).unwrap();
        let mut whole =
            doc!({"definitions": {"Meta": {"description": "ours"}, "Meta_v2": {"description": "another's"}}});
        part.add_to(&mut whole);
        assert_eq!(whole.str_at(&["definitions", "Meta", "description"]), "ours");
        let renamed = format!("{DEFINITIONS}Meta_v3");
        for path in [
            ["definitions", "Box", "properties", "metadata", "$ref"],
            ["definitions", "Meta_v3", "properties", "owner", "$ref"],
        ] {
            assert_eq!(whole.str_at(&path), renamed, "{path:?}");
        }
    }
}
