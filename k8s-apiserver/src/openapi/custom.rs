//! The definitions of custom kinds: their own schemas, with what every object has.

use k8s_core::{
    doc,
    doc::{Doc, Map},
    registry::ResourceInfo,
    schema::Gvk,
};

use super::{
    definitions::{IN_MODEL, gvk, gvk_doc},
    operations::Dialect,
};
use crate::discovery::Catalog;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";

/// A kind's own schema. Without one, anything goes.
pub(super) fn object(info: &ResourceInfo, catalog: &dyn Catalog, dialect: Dialect) -> Doc {
    let anything = || doc!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut whole = catalog.written_schema(info).map_or_else(anything, |schema| (*schema).clone());
    if whole.get("type").is_none() {
        whole.set_at(&["type"], Doc::from("object"));
    }
    let is_open = whole.get(PRESERVES).and_then(Doc::as_bool) == Some(true);
    if dialect == Dialect::V2 && is_open && info.custom.is_some() {
        // Clients of version 2 take listed fields for all that there are.
        let description = whole.get("description").cloned();
        whole = doc!({"type": "object"});
        if let Some(description) = description {
            whole.set_at(&["description"], description);
        }
    } else {
        publish(&mut whole, dialect);
        add_type_and_metadata(&mut whole);
    }
    whole.set_at(&["x-kubernetes-group-version-kind"], Doc::Array(vec![gvk_doc(&gvk(info))]));
    whole
}

/// The schema of a kind's lists.
pub(super) fn list(info: &ResourceInfo, item: &str) -> Doc {
    let gvk = Gvk { kind: info.list_kind(), ..gvk(info) };
    doc!({
        "type": "object",
        "description": format!("{} is a list of {}", gvk.kind, info.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference_in_model(LIST_META, "Standard list metadata."),
            "items": {"type": "array", "items": {"$ref": format!("{IN_MODEL}{item}")}}
        },
        "x-kubernetes-group-version-kind": [gvk_doc(&gvk)]
    })
}

fn add_type_and_metadata(schema: &mut Doc) {
    let text = |description: &str| doc!({"type": "string", "description": description});
    schema.set_at(&["properties", "apiVersion"], text("The versioned schema of this object: group and version."));
    schema.set_at(&["properties", "kind"], text("The kind of this object."));
    schema.set_at(&["properties", "metadata"], reference_in_model(OBJECT_META, "Standard object's metadata."));
}

fn reference_in_model(name: &str, description: &str) -> Doc {
    doc!({"$ref": format!("{IN_MODEL}{name}"), "description": description})
}

/// Gives a part of a structural schema the form in which a dialect can say it. What version 2 cannot say is left out, as
/// upstream leaves it out: combinations, what may be null, and what is listed where more is kept.
fn publish(schema: &mut Doc, dialect: Dialect) {
    if dialect == Dialect::V2 {
        simplify(schema);
    }
    let Some(fields) = schema.as_object_mut() else { return };
    for (name, value) in fields.iter_mut() {
        match name {
            "properties" => {
                let properties = value.as_object_mut().into_iter().flat_map(Map::iter_mut);
                properties.for_each(|(_, property)| publish(property, dialect));
            }
            "items" | "additionalProperties" => publish(value, dialect),
            _ => {}
        }
    }
    let is_embedded = schema.get("x-kubernetes-embedded-resource").and_then(Doc::as_bool) == Some(true);
    let is_open = schema.get(PRESERVES).and_then(Doc::as_bool) == Some(true);
    if is_embedded && !(dialect == Dialect::V2 && is_open) {
        add_type_and_metadata(schema);
    }
}

fn simplify(schema: &mut Doc) {
    let flag = |schema: &Doc, name: &str| schema.get(name).and_then(Doc::as_bool) == Some(true);
    let nullable: Vec<String> = schema
        .get("properties")
        .and_then(Doc::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(_, property)| flag(property, "nullable"))
        .map(|(name, _)| name.to_owned())
        .collect();
    let (is_nullable, is_open) = (flag(schema, "nullable"), flag(schema, PRESERVES));
    let is_either = flag(schema, "x-kubernetes-int-or-string");
    let Some(fields) = schema.as_object_mut() else { return };
    for name in ["allOf", "anyOf", "oneOf", "not", "nullable"] {
        fields.remove(name);
    }
    if is_nullable || is_open {
        fields.remove("items");
        fields.remove("properties");
    }
    if is_nullable {
        fields.remove("additionalProperties");
    }
    if is_nullable || is_either {
        fields.remove("type");
    }
    let Some(required) = fields.get_mut("required").and_then(Doc::as_array_mut) else { return };
    required.retain(|name| !nullable.iter().any(|nullable| name.as_str() == Some(nullable)));
    if required.is_empty() {
        fields.remove("required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_two_says_what_it_can() {
        let written = doc!({"type": "object", "required": ["a", "n"], "properties": {
            "a": {"type": "string", "anyOf": [{"minLength": 1}]},
            "n": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}}},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}
        }});
        let mut two = written.clone();
        publish(&mut two, Dialect::V2);
        assert_eq!(two.get("required").unwrap().to_string(), r#"["a"]"#);
        let of = |name: &str| two.at(&["properties", name]).unwrap().to_string();
        assert_eq!(of("a"), r#"{"type":"string"}"#);
        assert_eq!(of("n"), "{}");
        assert_eq!(of("open"), r#"{"type":"object","x-kubernetes-preserve-unknown-fields":true}"#);
        assert_eq!(of("port"), r#"{"x-kubernetes-int-or-string":true}"#);
        assert!(two.at(&["properties", "pod", "properties", "metadata", "$ref"]).is_some());
        let mut three = written.clone();
        publish(&mut three, Dialect::V3);
        assert_eq!(three.at(&["properties", "open"]), written.at(&["properties", "open"]));
        assert!(three.at(&["properties", "a", "anyOf"]).is_some());
    }
}
