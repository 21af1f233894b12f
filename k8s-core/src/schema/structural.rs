//! Lowers the structural schema of a CustomResourceDefinition's version.
//!
//! What decides about pruning, defaulting, ownership and merging becomes the arena's; what restricts values is the
//! business of [`crate::custom::Validator`].

use crate::doc::{Doc, Text};

use super::{ArenaBuilder, Field, IntFormat, ListType, NodeDef, Schema, Schemas, Shape, StructDef, StructId};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl Schema {
    /// The schema of objects that this structural schema describes. `apiVersion`, `kind` and `metadata` are every
    /// object's, whatever it says of them.
    pub fn structural(schema: &Doc) -> Self {
        let schemas = Schemas::builtin();
        let builder = ArenaBuilder::new(Some(schemas.arena().clone()));
        let mut lowering = Lowering { builder, meta: schemas.id(OBJECT_META) };
        let def = lowering.object(schema);
        let root = lowering.embedded(def);
        Self::new(lowering.builder.finish(), root)
    }
}

struct Lowering {
    builder: ArenaBuilder,
    meta: Option<StructId>,
}

impl Lowering {
    fn node(&mut self, schema: &Doc) -> NodeDef {
        let mut made: NodeDef = match schema.str_at(&["type"]) {
            _ if flag(schema, "x-kubernetes-int-or-string") => Shape::IntOrString.into(),
            "object" => self.object_node(schema),
            "array" => {
                let items = schema.get("items").map_or(Shape::Any.into(), |items| self.node(items));
                Shape::List(Box::new(items)).into()
            }
            "string" => Shape::String.into(),
            "integer" => Shape::Integer(IntFormat::Whole).into(),
            "number" => Shape::Number.into(),
            "boolean" => Shape::Boolean.into(),
            _ => Shape::Any.into(),
        };
        let rules = made.rules_mut();
        rules.nullable = flag(schema, "nullable");
        rules.default = schema.get("default").filter(|value| !value.is_null()).cloned();
        rules.atomic = schema.str_at(&["x-kubernetes-map-type"]) == "atomic";
        rules.list = match schema.str_at(&["x-kubernetes-list-type"]) {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        };
        let keys = schema.get("x-kubernetes-list-map-keys").map_or(&[][..], Doc::items);
        rules.keys = keys.iter().filter_map(|key| key.as_str().map(Text::from)).collect();
        // These bound what expressions over the place may cost, and say what they take it for.
        let longest = ["maxLength", "maxItems", "maxProperties"].into_iter().find_map(|name| schema.get(name));
        rules.max_length = longest.and_then(Doc::as_u64);
        rules.format = schema.get("format").and_then(Doc::as_str).map(Text::from);
        rules.allowed = schema.get("enum").map_or(&[][..], Doc::items).to_vec();
        made
    }

    fn object_node(&mut self, schema: &Doc) -> NodeDef {
        if flag(schema, "x-kubernetes-embedded-resource") {
            let mut def = self.object(schema);
            def.embedded_resource = true;
            return Shape::Struct(self.embedded(def)).into();
        }
        match schema.get("additionalProperties") {
            Some(values @ Doc::Object(_)) => Shape::Map(Box::new(self.node(values))).into(),
            Some(Doc::Bool(true)) => Shape::AnyObject.into(),
            _ => {
                let def = self.object(schema);
                Shape::Struct(self.builder.add(def)).into()
            }
        }
    }

    /// The fields that are listed, and whether others are kept.
    fn object(&mut self, schema: &Doc) -> StructDef {
        let properties = schema.get("properties").and_then(Doc::as_object);
        let mut fields = Vec::new();
        let required = schema.get("required").map_or(&[][..], Doc::items);
        for (name, property) in properties.into_iter().flat_map(|map| map.iter()) {
            let required = required.iter().any(|required| required.as_str() == Some(name));
            fields.push(Field { required, ..field(name, self.node(property)) });
        }
        let preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
        StructDef { fields, preserve_unknown, ..StructDef::default() }
    }

    /// A struct with the type and metadata of a whole object. The last of two fields of one name is kept.
    fn embedded(&mut self, mut def: StructDef) -> StructId {
        def.fields.extend(["apiVersion", "kind"].map(|name| field(name, Shape::String.into())));
        if let Some(meta) = self.meta {
            def.fields.push(field("metadata", Shape::Struct(meta).into()));
        }
        self.builder.add(def)
    }
}

fn field(name: &str, node: NodeDef) -> Field {
    Field { name: name.into(), node, required: false, proto: 0, proto_inside: Box::default() }
}

fn flag(schema: &Doc, name: &str) -> bool {
    schema.get(name).and_then(Doc::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use crate::{
        defaulting, doc,
        schema::Schema,
        structure::{Mode, check},
    };

    #[test]
    fn unknown_fields_go_but_where_they_are_kept() {
        let schema = Schema::structural(&doc!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"type": "integer", "default": 1},
                "empty": {"type": "object"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true},
                "labels": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true}
            }}
        }}));
        let mut doc = doc!({"apiVersion": "e/v1", "kind": "X", "metadata": {"name": "x", "bogus": 1}, "more": 1,
            "spec": {"empty": {"x": 1}, "free": {"x": {"y": 1}}, "port": "a", "labels": {"k": {"a": "1", "b": 2}},
                "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n", "bogus": 1}, "spec": {"x": 1}}}});
        let report = check(&schema, &mut doc, Mode::Whole);
        assert_eq!(
            report.unknown,
            ["metadata.bogus", "more", "spec.empty.x", "spec.labels.k.b", "spec.template.metadata.bogus"]
        );
        assert!(report.wrong.is_empty(), "{:?}", report.wrong);
        defaulting::default(&schema, &mut doc);
        assert_eq!(
            doc,
            doc!({"apiVersion": "e/v1", "kind": "X", "metadata": {"name": "x"},
                "spec": {"empty": {}, "free": {"x": {"y": 1}}, "port": "a", "labels": {"k": {"a": "1"}}, "size": 1,
                    "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n"}, "spec": {"x": 1}}}})
        );
    }

    #[test]
    fn null_counts_as_absent_where_there_is_a_default() {
        let schema = Schema::structural(&doc!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "b": {"type": "string", "default": "x", "nullable": true},
            "c": {"type": "array", "items": {"type": "string"}}
        }}));
        let mut doc = doc!({"a": null, "b": null, "c": [null]});
        let report = check(&schema, &mut doc, Mode::Whole);
        defaulting::default(&schema, &mut doc);
        assert_eq!(doc, doc!({"a": "x", "b": null, "c": [null]}));
        assert!(report.wrong.iter().all(|wrong| !wrong.is_typed), "{report:?}");
    }
}
