//! The definitions that a document needs: those of its kinds, and whatever they refer to.

use std::{collections::BTreeMap, sync::Arc};

use k8s_core::{
    doc,
    doc::{Doc, Map},
    registry::ResourceInfo,
    schema::Gvk,
};

use super::{custom, operations::Dialect, schemas};
use crate::discovery::{Catalog, body_kind};

pub(super) const IN_MODEL: &str = "#/definitions/";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// The built-in definitions, unpacked. Megabytes: made to build documents, and dropped.
pub(super) struct Definitions {
    by_name: BTreeMap<String, Doc>,
    names: BTreeMap<Gvk, String>,
}

impl Definitions {
    pub(super) fn new() -> Self {
        let (mut by_name, mut names) = (BTreeMap::new(), BTreeMap::new());
        for definition in schemas().definitions() {
            let mut schema = definition.schema;
            if let Some(gvk) = definition.gvk {
                schema.set_at(&["x-kubernetes-group-version-kind"], Doc::Array(vec![gvk_doc(&gvk)]));
                names.insert(gvk, definition.name.clone());
            }
            by_name.insert(definition.name, schema);
        }
        Self { by_name, names }
    }

    /// The name of a kind's definition: the model's, or one made of group, version and kind.
    pub(super) fn name(&self, group: &str, version: &str, kind: &str) -> String {
        let gvk = Gvk { group: group.into(), version: version.into(), kind: kind.into() };
        self.names.get(&gvk).cloned().unwrap_or_else(|| {
            let mut domains: Vec<&str> = group.split('.').collect();
            domains.reverse();
            format!("{}.{version}.{kind}", domains.join("."))
        })
    }

    /// Where a definition stands in a document; of what has none (the options of connections) only that it is an
    /// object is known.
    pub(super) fn reference(&self, of: &ResourceInfo, name: &str, dialect: Dialect) -> Doc {
        if self.by_name.contains_key(name) || !self.is_built_in(of) {
            return doc!({"$ref": format!("{}{name}", place(dialect))});
        }
        doc!({"type": "object"})
    }

    /// Whether the model knows the kind. What it does not know has no strategic merge.
    pub(super) fn is_built_in(&self, info: &ResourceInfo) -> bool {
        self.names.contains_key(&gvk(info))
    }

    /// The definitions of the resources and all that they refer to, in one dialect.
    pub(super) fn reached(&self, shows: &[Arc<ResourceInfo>], catalog: &dyn Catalog, dialect: Dialect) -> Map {
        let mut wanted = vec![DELETE_OPTIONS.to_owned(), STATUS.to_owned()];
        let mut own = BTreeMap::new();
        for info in shows {
            let name = self.name(&info.group, &info.version, &info.kind);
            let list = self.name(&info.group, &info.version, &info.list_kind());
            if !self.is_built_in(info) {
                own.insert(name.clone(), custom::object(info, catalog, dialect));
                own.insert(list.clone(), custom::list(info, &name));
            }
            wanted.extend([name, list]);
            for below in &info.subresources {
                let (group, version, kind) = body_kind(info, below);
                wanted.push(self.name(&group, &version, &kind));
            }
        }
        let mut found = BTreeMap::new();
        while let Some(name) = wanted.pop() {
            if found.contains_key(&name) {
                continue;
            }
            let Some(mut schema) = own.get(&name).or_else(|| self.by_name.get(&name)).cloned() else { continue };
            translate(&mut schema, dialect, &mut wanted);
            found.insert(name, schema);
        }
        let mut schemas = Map::new();
        for (name, schema) in found {
            schemas.insert(name.as_str(), schema);
        }
        schemas
    }
}

/// Group, version and kind.
pub(super) fn gvk(info: &ResourceInfo) -> Gvk {
    Gvk { group: info.group.to_string(), version: info.version.to_string(), kind: info.kind.to_string() }
}

pub(super) fn gvk_doc(gvk: &Gvk) -> Doc {
    doc!({"group": gvk.group.as_str(), "kind": gvk.kind.as_str(), "version": gvk.version.as_str()})
}

fn place(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V2 => IN_MODEL,
        Dialect::V3 => "#/components/schemas/",
    }
}

/// Points every reference to its place in the dialect, and notes what is referred to.
fn translate(schema: &mut Doc, dialect: Dialect, wanted: &mut Vec<String>) {
    match schema {
        Doc::Array(items) => items.iter_mut().for_each(|item| translate(item, dialect, wanted)),
        Doc::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                let name = value.as_str().filter(|_| key == "$ref").and_then(|text| text.strip_prefix(IN_MODEL));
                match name.map(str::to_owned) {
                    Some(name) => {
                        *value = Doc::from(format!("{}{name}", place(dialect)));
                        wanted.push(name);
                    }
                    None => translate(value, dialect, wanted),
                }
            }
            if dialect == Dialect::V3 && fields.len() > 1 && fields.contains("$ref") {
                // Beside a reference nothing counts in version 3, so that the description needs a place of its own.
                if let Some(reference) = fields.remove("$ref") {
                    fields.insert("allOf", Doc::Array(vec![doc!({"$ref": reference})]));
                }
            }
        }
        _ => {}
    }
}
