//! Objects: without a schema, and with one.

use super::{check_with, dynamic, outcome_of};
use crate::{
    cel::{Activation, Budget, Declarations, EvalError, Fields, Program, Type, Value, escape},
    doc,
    doc::Doc,
    schema::{Schema, Schemas},
};

#[test]
fn documents_are_read_as_they_are() {
    let object = doc!({"metadata": {"name": "a", "labels": {"app": "x", "k8s.io/y": "z"}},
        "spec": {"replicas": 3, "ratio": 0.5, "items": [{"n": 1}, {"n": 2}], "none": null}});
    let declared = dynamic(&["object", "oldObject"]);
    let table = [
        ("object.spec.replicas", "3"),
        ("object.spec.replicas == 3.0", "true"),
        ("type(object.spec.ratio)", "double"),
        ("object.spec.items.all(i, i.n > 0)", "true"),
        ("object.spec.items.map(i, i.n).sum()", "3"),
        ("object.metadata.labels['k8s.io/y']", "z"),
        ("object.metadata.labels.exists(k, k.startsWith('k8s'))", "true"),
        ("'app' in object.metadata.labels", "true"),
        ("has(object.metadata.annotations)", "false"),
        ("has(object.metadata.labels.app)", "true"),
        ("has(object.spec.none)", "true"),
        ("object.spec.none == null", "true"),
        ("object.metadata.annotations", "error: no such key: annotations"),
        ("object.metadata.?annotations.orValue({}).size()", "0"),
        ("object.spec.?items[?5].?n.orValue(9)", "9"),
        ("object.spec.?items[?1].?n.orValue(9)", "2"),
        ("object.spec.replicas.size()", "error: no such overload"),
        ("object.spec == object.spec", "true"),
        ("oldObject == null", "true"),
        ("object.metadata.name + '-x'", "a-x"),
        ("object.spec.replicas + 'x'", "error: no such overload"),
        ("object.spec.items[0]", "{n: 1}"),
        ("object.spec.items + [{'n': 3}]", "[{n: 1}, {n: 2}, {n: 3}]"),
    ];
    let old = doc::Doc::Null;
    check_with(&table, |source| outcome_of(source, &declared, &[("object", &object), ("oldObject", &old)]));
}

fn widgets() -> Schema {
    Schema::from_json_schema(&doc!({"type": "object", "properties": {"spec": {"type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "replicas": {"type": "integer"},
        "ratio": {"type": "number"},
        "a-b": {"type": "string"},
        "namespace": {"type": "string"},
        "maybe": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {}
    }}}}))
}

#[test]
fn schemas_say_types_and_fields() {
    let schema = widgets();
    let object = doc!({"metadata": {"name": "w"}, "spec": {"name": "n", "replicas": 3.0, "ratio": 2, "a-b": "dash",
        "namespace": "ns", "maybe": null, "tags": ["x"], "labels": {"k": "v"}, "any": {"deep": 1}}});
    let table = [
        ("self.spec.replicas", "3"),
        ("self.spec.replicas / 2", "1"),
        ("self.spec.ratio / 4.0", "0.5"),
        ("self.spec.a__dash__b", "dash"),
        ("self.spec.__namespace__", "ns"),
        ("has(self.spec.a__dash__b)", "true"),
        ("self.spec.maybe == null", "true"),
        ("self.spec.tags.all(t, t.startsWith('x'))", "true"),
        ("self.spec.labels.k", "v"),
        ("self.spec.any.deep", "1"),
        ("self.metadata.name", "w"),
        ("has(self.status)", "false"),
        ("self.spec.nope", "compile: undefined field 'nope'"),
        ("self.spec.replicas == 'x'", "compile: found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.spec.name > 3", "compile: found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.spec.tags.all(t, t > 3)", "compile: found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.spec.name.first", "compile: type 'string' does not support field selection"),
        ("self.spec.replicas == null", "compile: found no matching overload for '_==_' applied to '(int, null)'"),
        ("self.spec == null", "false"),
    ];
    check_object(&table, &schema, &object);
}

#[test]
fn sets_and_maps_are_added_to_and_compared_as_their_schemas_say() {
    let list = |kind: &str, items: Doc| doc!({"type": "array", "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"], "items": items});
    let pair = || doc!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}});
    let text = || doc!({"type": "string"});
    let schema = Schema::structural(&doc!({"type": "object", "properties": {
        "set": list("set", text()), "same": list("set", text()), "plain": list("atomic", text()),
        "map": list("map", pair()), "other": list("map", pair())}}));
    let object = doc!({"set": ["a", "b"], "same": ["b", "a"], "plain": ["b", "a"],
        "map": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "other": [{"k": "b", "v": 2}, {"k": "a", "v": 1}]});
    let table = [
        ("self.set == self.same", "true"),
        ("self.set == ['b', 'a']", "true"),
        ("['b', 'a'] == self.set", "false"),
        ("self.plain == ['a', 'b']", "false"),
        ("self.set == ['a', 'c']", "false"),
        ("self.set + ['c', 'a']", "[a, b, c]"),
        ("self.set + ['b'] == self.same", "true"),
        ("self.plain + ['b']", "[b, a, b]"),
        ("(self.set + ['c']).size()", "3"),
        // Objects of two places are of two types.
        ("self.map == dyn(self.other)", "true"),
        ("self.map + dyn(self.other) == self.map", "true"),
        ("(self.map + dyn(self.other.filter(x, x.k == 'b'))).size()", "2"),
        ("self.map + dyn([{'k': 'b', 'v': 7}])", "[{k: a, v: 1}, {k: b, v: 7}]"),
        ("self.map != dyn(self.other.filter(x, x.k == 'b'))", "true"),
    ];
    check_object(&table, &schema, &object);
}

#[test]
fn built_in_kinds_are_typed_too() {
    let schema = Schemas::builtin().schema("apps", "v1", "Deployment").unwrap();
    let declared = Declarations::new().variable_of("object", Type::of_schema(&schema));
    let ok = [
        "object.spec.replicas > 1",
        "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
        "object.spec.template.spec.containers.all(c, c.image.contains('/'))",
    ];
    for source in ok {
        assert!(Program::compile(source, &declared).is_ok(), "{source}");
    }
    let refused = Program::compile("object.spec.replicas > '1'", &declared).unwrap_err();
    assert!(refused.to_string().contains("applied to '(int, string)'"), "{refused}");
    let refused = Program::compile("object.spec.replica > 1", &declared).unwrap_err();
    assert!(refused.to_string().contains("undefined field 'replica'"), "{refused}");
}

struct Counted(std::cell::Cell<u32>);

impl<'a> Fields<'a> for Counted {
    fn field(&self, name: &str, _: &mut Budget) -> Option<Result<Value<'a>, EvalError>> {
        self.0.set(self.0.get() + 1);
        (name == "x").then_some(Ok(Value::Int(4)))
    }

    fn type_name(&self) -> &str {
        "variables"
    }
}

#[test]
fn fields_are_found_when_asked() {
    let declared = Declarations::new().variable_of("variables", Type::record("variables", [("x", Type::Int)]));
    let program = Program::compile("false && variables.x > 3 || variables.x == 4", &declared).unwrap();
    let fields = std::rc::Rc::new(Counted(0.into()));
    let variables = Activation::new().bind("variables", Value::Fields(fields.clone()));
    assert_eq!(program.evaluate(&variables, &mut Budget::new(100)).unwrap().as_bool(), Some(true));
    assert_eq!(fields.0.get(), 1);
    let refused = Program::compile("variables.y", &declared).unwrap_err();
    assert!(refused.to_string().contains("undefined field 'y'"));
}

#[test]
fn names_are_escaped() {
    for (name, escaped) in [
        ("a", Some("a")),
        ("a-b", Some("a__dash__b")),
        ("a.b/c", Some("a__dot__b__slash__c")),
        ("a__b", Some("a__underscores__b")),
        ("namespace", Some("__namespace__")),
        ("1a", None),
        ("a b", None),
    ] {
        assert_eq!(escape(name).as_deref(), escaped, "{name}");
        if let Some(escaped) = escaped {
            assert_eq!(crate::cel::escape::unescape(escaped).as_deref(), Some(name));
        }
    }
}

/// The expressions about an object as its schema has it, and what each comes to.
fn check_object(table: &[(&str, &str)], schema: &Schema, object: &Doc) {
    let declared = Declarations::new().variable_of("self", Type::of_schema(schema));
    check_with(table, |source| {
        let program = match Program::compile(source, &declared) {
            Ok(program) => program,
            Err(why) => return format!("compile: {}", why.issues()[0].message),
        };
        let variables = Activation::new().bind("self", Value::of_node(object, schema.root()));
        super::shown(program.evaluate(&variables, &mut Budget::new(1_000_000)))
    });
}
