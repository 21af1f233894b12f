//! Rules and what is said of what breaks them, as data.

use super::*;
use crate::doc;

fn said(schema: &Doc, doc: &Doc) -> Vec<String> {
    Validator::new(schema).validate(doc, None).iter().map(ToString::to_string).collect()
}

#[test]
fn messages_are_upstreams() {
    let schema = doc!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
    "required": ["name"], "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "n": {"type": "integer", "minimum": 1, "maximum": 10},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "list": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "time": {"type": "string", "format": "date-time"},
        "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    }}}});
    let cases = [
        (doc!({}), vec!["spec: Required value"]),
        (doc!({"spec": {}}), vec!["spec.name: Required value"]),
        (
            doc!({"spec": {"name": 1}}),
            vec![r#"spec.name: Invalid value: "integer": spec.name in body must be of type string: "integer""#],
        ),
        (
            doc!({"spec": {"name": "A"}}),
            vec![r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#],
        ),
        (doc!({"spec": {"name": "abcdef"}}), vec!["spec.name: Too long: may not be more than 5 bytes"]),
        (
            doc!({"spec": {"name": "a", "n": 11}}),
            vec!["spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10"],
        ),
        (
            doc!({"spec": {"name": "a", "kind": "c"}}),
            vec![r#"spec.kind: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            doc!({"spec": {"name": "a", "list": ["x", "y", "x"]}}),
            vec!["spec.list: Too many: 3: must have at most 2 items", r#"spec.list[2]: Duplicate value: "x""#],
        ),
        (
            doc!({"spec": {"name": "a", "time": "now"}}),
            vec![r#"spec.time: Invalid value: "now": spec.time in body must be of type date-time: "now""#],
        ),
        (
            doc!({"spec": {"name": "a", "one": {"a": "1", "b": "2"}}}),
            vec![
                r#"spec.one: Invalid value: {"a":"1","b":"2"}: spec.one in body must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (doc!({"spec": {"name": "a", "n": 3.0, "one": {"a": "1"}}}), vec![]),
        (
            doc!({"spec": {"name": null}}),
            vec![r#"spec.name: Invalid value: "null": spec.name in body must be of type string: "null""#],
        ),
    ];
    for (object, expected) in cases {
        assert_eq!(said(&schema, &object), expected, "{object}");
    }
}

#[test]
fn what_did_not_change_is_not_judged_again() {
    let schema = doc!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}}
    }}}});
    let old = doc!({"spec": {"a": "long", "b": "x", "items": [{"k": "1", "v": 5}]}});
    let validator = Validator::new(&schema);
    assert_eq!(validator.validate(&old, Some(&old)), []);
    let new = doc!({"spec": {"a": "long", "b": "yy", "items": [{"k": "0", "v": 1}, {"k": "1", "v": 5}]}});
    let paths: Vec<String> = validator.validate(&new, Some(&old)).into_iter().map(|error| error.path).collect();
    assert_eq!(paths, ["spec.b"]);
}
