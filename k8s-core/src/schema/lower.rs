//! Lowers a JSON schema, such as `schemars` derives for a Rust type, to the schema of a custom kind.

use crate::doc::{Doc, Text};

use super::{ArenaBuilder, Field, IntFormat, NodeDef, Schema, Schemas, Shape, StructDef};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl Schema {
    /// The schema of a kind whose objects this JSON schema describes. `apiVersion`, `kind` and `metadata` are every
    /// object's. What the lowering does not know (`oneOf` and the like) is kept unchecked, never refused.
    pub fn from_json_schema(schema: &Doc) -> Self {
        let schemas = Schemas::builtin();
        let mut builder = ArenaBuilder::new(Some(schemas.arena().clone()));
        let mut root = fields_of(schema, &mut builder);
        root.fields.retain(|field| !matches!(field.name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        root.fields.extend(["apiVersion", "kind"].map(|name| field(name, Shape::String, false)));
        if let Some(meta) = schemas.id(OBJECT_META) {
            root.fields.push(field("metadata", Shape::Struct(meta), false));
        }
        let status =
            schema.at(&["properties", "status"]).map_or(Shape::Any.into(), |status| node(status, &mut builder));
        root.fields.push(Field { node: status, ..field("status", Shape::Any, false) });
        let root = builder.add(root);
        Self::new(builder.finish(), root)
    }
}

fn field(name: &str, shape: Shape, required: bool) -> Field {
    Field { name: name.into(), node: shape.into(), required, proto: 0, proto_inside: Box::default() }
}

fn fields_of(schema: &Doc, builder: &mut ArenaBuilder) -> StructDef {
    let required: Vec<&str> =
        schema.get("required").map(Doc::items).unwrap_or_default().iter().filter_map(Doc::as_str).collect();
    let properties = schema.get("properties").and_then(Doc::as_object);
    let mut fields = Vec::new();
    for (name, property) in properties.into_iter().flat_map(|map| map.iter()) {
        let node = node(property, builder);
        fields.push(Field { node, ..field(name, Shape::Any, required.contains(&name)) });
    }
    let additional = schema.get("additionalProperties").filter(|value| value.as_object().is_some());
    let additional = additional.map(|value| node(value, builder));
    StructDef { fields, additional, ..StructDef::default() }
}

fn node(schema: &Doc, builder: &mut ArenaBuilder) -> NodeDef {
    let (kinds, nullable) = kinds(schema);
    let mut made: NodeDef = match kinds.as_slice() {
        ["object"] => object(schema, builder),
        ["array"] => {
            let items = schema.get("items").map_or(Shape::Any.into(), |items| node(items, builder));
            Shape::List(Box::new(items)).into()
        }
        ["string"] => Shape::String.into(),
        ["integer"] => Shape::Integer(IntFormat::Whole).into(),
        ["number"] => Shape::Number.into(),
        ["boolean"] => Shape::Boolean.into(),
        _ => Shape::Any.into(),
    };
    let rules = made.rules_mut();
    rules.nullable = nullable;
    rules.allowed = schema.get("enum").map(Doc::items).unwrap_or_default().to_vec();
    rules.default = schema.get("default").filter(|value| !value.is_null()).cloned();
    rules.min = schema.get("minimum").and_then(Doc::as_f64);
    rules.max = schema.get("maximum").and_then(Doc::as_f64);
    rules.min_length = schema.get("minLength").and_then(Doc::as_u64);
    rules.max_length = schema.get("maxLength").and_then(Doc::as_u64);
    rules.pattern = schema.get("pattern").and_then(Doc::as_str).map(Text::from);
    made
}

fn object(schema: &Doc, builder: &mut ArenaBuilder) -> NodeDef {
    let def = fields_of(schema, builder);
    match (def.fields.is_empty(), def.additional) {
        (true, Some(values)) => Shape::Map(Box::new(values)).into(),
        (true, None) => Shape::AnyObject.into(),
        (false, additional) => Shape::Struct(builder.add(StructDef { additional, ..def })).into(),
    }
}

/// The types that a schema allows, without `null`, and whether that is allowed too.
fn kinds(schema: &Doc) -> (Vec<&str>, bool) {
    let listed: Vec<&str> = match schema.get("type") {
        Some(Doc::String(one)) => vec![one.as_str()],
        Some(several) => several.items().iter().filter_map(Doc::as_str).collect(),
        None => Vec::new(),
    };
    let nullable = listed.contains(&"null");
    (listed.into_iter().filter(|kind| *kind != "null").collect(), nullable)
}

#[cfg(test)]
mod tests {
    use crate::{
        doc,
        schema::Schema,
        structure::{Mode, check},
    };

    #[test]
    fn a_lowered_schema_prunes_and_judges() {
        let schema = Schema::from_json_schema(&doc!({"type": "object", "properties": {
            "metadata": true,
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer"},
                "names": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "note": {"type": ["string", "null"]}
            }}
        }}));
        let mut good = doc!({"apiVersion": "e/v1", "kind": "X", "metadata": {"name": "x", "bogus": 1},
            "spec": {"size": 3, "names": ["a"], "labels": {"k": "v"}, "note": null, "other": 1}});
        let report = check(&schema, &mut good, Mode::Whole);
        assert_eq!(report.unknown, ["metadata.bogus", "spec.other"]);
        assert!(report.wrong.is_empty(), "{:?}", report.wrong);
        let mut bad = doc!({"metadata": {"name": "x"}, "spec": {"size": "three", "names": "a"}});
        assert_eq!(check(&schema, &mut bad, Mode::Whole).wrong.len(), 2);
    }
}
