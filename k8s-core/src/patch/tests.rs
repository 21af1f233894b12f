//! The three patch types as data: object, patch, outcome.

use super::*;
use crate::schema::Schemas;

fn parse(text: &str) -> Doc {
    Doc::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why:?}"))
}

/// The patched object's JSON, or the error's code.
fn outcome(kind: PatchKind, current: &str, patch: &str) -> String {
    let schema = Schemas::builtin().schema("", "v1", "Pod").unwrap();
    match apply(kind, &parse(patch), &parse(current), Some(&schema)) {
        Ok(doc) => doc.to_string(),
        Err(error) => error.code().to_string(),
    }
}

fn check(kind: PatchKind, cases: &[(&str, &str, &str)]) {
    for (current, patch, expected) in cases {
        assert_eq!(outcome(kind, current, patch), *expected, "{current} patched with {patch}");
    }
}

#[test]
fn json_patch() {
    check(
        PatchKind::Json,
        &[
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/b","value":[2]}]"#, r#"{"a":1,"b":[2]}"#),
            (r#"{"a":[1,3]}"#, r#"[{"op":"add","path":"/a/1","value":2}]"#, r#"{"a":[1,2,3]}"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-","value":2}]"#, r#"{"a":[1,2]}"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/2","value":2}]"#, "422"),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/00","value":2}]"#, "422"),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/b/c","value":2}]"#, "422"),
            (
                r#"{"a/b":1,"m~n":2}"#,
                r#"[{"op":"remove","path":"/a~1b"},{"op":"replace","path":"/m~0n","value":3}]"#,
                r#"{"m~n":3}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"remove","path":"/b"}]"#, "422"),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"/b","value":1}]"#, "422"),
            (
                r#"{"a":1}"#,
                r#"[{"op":"test","path":"/a","value":1.0},{"op":"test","path":"/b","value":null}]"#,
                r#"{"a":1}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#, "422"),
            (r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a/b","path":"/c"}]"#, r#"{"a":{},"c":1}"#),
            (r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a","path":"/a/b"}]"#, "400"),
            (r#"{"a":{"b":1}}"#, r#"[{"op":"copy","from":"/a","path":"/c"}]"#, r#"{"a":{"b":1},"c":{"b":1}}"#),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"a","value":1}]"#, "400"),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/~2","value":1}]"#, "400"),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/a"}]"#, "400"),
            (r#"{"a":1}"#, r#"[{"op":"grow","path":"/a"}]"#, "400"),
            (r#"{"a":1}"#, r#"{"a":2}"#, "400"),
        ],
    );
}

#[test]
fn a_json_patch_cannot_grow_an_object_without_bounds() {
    let many = Doc::Array(vec![doc_op("test", "", "/a"); MAX_OPERATIONS + 1]);
    assert_eq!(apply(PatchKind::Json, &many, &Doc::object(), None).unwrap_err().code(), 413);
    let large = Doc::Object([("a", Doc::from("x".repeat(1 << 20)))].into_iter().collect());
    let copies: Vec<Doc> = ["/b", "/c", "/d", "/e"].map(|path| doc_op("copy", "/a", path)).into();
    assert_eq!(apply(PatchKind::Json, &Doc::Array(copies), &large, None).unwrap_err().code(), 413);
    let nested: Vec<Doc> = (0..20).map(|_| doc_op("copy", "/a", "/a/a")).collect();
    let deep: Vec<Doc> = (0..20)
        .flat_map(|round| {
            let path = format!("/x{round}");
            [doc_op("copy", "/a", &path), doc_op("move", &path, &"/a".repeat((1 << round) + 1))]
        })
        .collect();
    assert!(apply(PatchKind::Json, &Doc::Array(nested), &parse(r#"{"a":{"a":{}}}"#), None).is_ok());
    assert_eq!(apply(PatchKind::Json, &Doc::Array(deep), &parse(r#"{"a":{}}"#), None).unwrap_err().code(), 413);
}

fn doc_op(op: &str, from: &str, path: &str) -> Doc {
    crate::doc!({"op": op, "from": from, "path": path, "value": null})
}

#[test]
fn merge_patch() {
    check(
        PatchKind::Merge,
        &[
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"a":"foo"}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        ],
    );
}

#[test]
fn strategic_merge_patch() {
    check(
        PatchKind::Strategic,
        &[
            // Containers merge by name; new ones go first, as upstream has it.
            (
                r#"{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b","image":"y"},{"name":"c"}]}}"#,
                r#"{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b","image":"y"},{"name":"c"}]}}"#,
            ),
            (
                r#"{"spec":{"containers":[{"name":"a"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b"},{"name":"a"}]}}"#,
            ),
            (
                r#"{"spec":{"containers":[{"name":"a"}]}}"#,
                r#"{"spec":{"$setElementOrder/containers":[{"name":"a"},{"name":"b"}],"containers":[{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
            ),
            (
                r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
                r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b"},{"name":"a"}]}}"#,
            ),
            (
                r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b"}]}}"#,
            ),
            (
                r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"$patch":"replace"},{"name":"c"}]}}"#,
                r#"{"spec":{"containers":[{"name":"c"}]}}"#,
            ),
            (
                r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#,
                r#"{"metadata":{"labels":{"$patch":"replace","c":"3"}}}"#,
                r#"{"metadata":{"labels":{"c":"3"}}}"#,
            ),
            (
                r#"{"metadata":{"labels":{"a":"1"}}}"#,
                r#"{"metadata":{"labels":{"$patch":"delete"}}}"#,
                r#"{"metadata":{"labels":{}}}"#,
            ),
            (
                r#"{"metadata":{"labels":{"a":"1"}}}"#,
                r#"{"metadata":{"labels":{"a":null,"b":"2","c":null}}}"#,
                r#"{"metadata":{"labels":{"b":"2"}}}"#,
            ),
            (
                r#"{"metadata":{"finalizers":["a","b"]}}"#,
                r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":["c"]}}"#,
                r#"{"metadata":{"finalizers":["c","b"]}}"#,
            ),
            // A list without a patch strategy is replaced.
            (
                r#"{"spec":{"containers":[{"name":"a","args":["1","2"]}]}}"#,
                r#"{"spec":{"containers":[{"name":"a","args":["3"]}]}}"#,
                r#"{"spec":{"containers":[{"name":"a","args":["3"]}]}}"#,
            ),
            (
                r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}"#,
                r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}}"#,
                r#"{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}}"#,
            ),
            (
                r#"{"spec":{"volumes":[{"name":"v"}]}}"#,
                r#"{"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"emptyDir":{}}]}}"#,
                "400",
            ),
            (r#"{"spec":{"containers":[{"name":"a"}]}}"#, r#"{"spec":{"containers":[{"image":"x"}]}}"#, "400"),
            (r#"{}"#, r#"{"$patch":"explode"}"#, "400"),
            (
                r#"{}"#,
                r#"{"spec":{"nodeName":null,"nodeSelector":{"a":null,"b":"c"}}}"#,
                r#"{"spec":{"nodeSelector":{"b":"c"}}}"#,
            ),
        ],
    );
}

#[test]
fn a_strategic_patch_needs_a_schema() {
    let error = apply(PatchKind::Strategic, &Doc::object(), &Doc::object(), None).unwrap_err();
    assert_eq!(error.code(), 415);
}
