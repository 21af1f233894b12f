//! What the tree promises, by example and by property.

use proptest::prelude::*;

use super::*;

fn parsed(json: &str) -> Doc {
    Doc::parse(json.as_bytes()).unwrap_or_else(|why| panic!("{json}: {why}"))
}

#[test]
fn keeps_order_and_number_text() {
    let text = r#"{"z":1e400,"a":123456789012345678901234567890,"m":[1.50,-0,true,false,null,"x\"\\\n"]}"#;
    assert_eq!(parsed(text).to_string(), text);
}

#[test]
fn refuses_what_is_not_json() {
    let deep = "[".repeat(300) + &"]".repeat(300);
    let cases: &[(&[u8], &str)] = &[
        (b"", "line 1 column 1: expected a value, found the end"),
        (b"{} x", "line 1 column 4: expected the end of the document, found 'x'"),
        (b"\xef\xbb\xbf{}", "line 1 column 1: expected a value, found a byte order mark"),
        (b"{\n \"a\" 1}", "line 2 column 6: expected ':', found '1'"),
        (b"[1,]", "line 1 column 4: expected a value, found ']'"),
        (b"{\"a\":1,}", "line 1 column 8: expected a field name in quotes, found '}'"),
        (b"01", "line 1 column 2: expected the end of the document, found '1'"),
        (b"-", "line 1 column 2: expected a digit, found the end"),
        (b"1.", "line 1 column 3: expected a digit, found the end"),
        (b"1e+", "line 1 column 4: expected a digit, found the end"),
        (b"+1", "line 1 column 1: expected a value, found '+'"),
        (b".5", "line 1 column 1: expected a value, found '.'"),
        (b"NaN", "line 1 column 1: expected a value, found 'N'"),
        (b"nul", "line 1 column 1: expected null, found 'n'"),
        (b"\"\\ud800\"", "line 1 column 2: lone surrogate in a string"),
        (b"\"\\udc00\\ud800\"", "line 1 column 2: lone surrogate in a string"),
        (b"\"\\ud800\\u0041\"", "line 1 column 2: lone surrogate in a string"),
        (b"\"a\x00b\"", "line 1 column 3: control character in a string; it must be escaped"),
        (b"\"0123456789\x1f\"", "line 1 column 12: control character in a string; it must be escaped"),
        (b"\"\xff\"", "line 1 column 2: invalid UTF-8"),
        (b"\"abc", "line 1 column 5: expected '\"', found the end"),
        (b"\"\\x\"", "line 1 column 3: expected one of \"\\/bfnrtu after the backslash, found 'x'"),
        (deep.as_bytes(), "line 1 column 257: nested deeper than 256 levels"),
    ];
    for (json, expected) in cases {
        let found = Doc::parse(json).map_err(|why| why.to_string());
        assert_eq!(found, Err((*expected).to_owned()), "{}", String::from_utf8_lossy(json));
    }
}

#[test]
fn accepts_the_deepest_and_every_escape() {
    let deep = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
    assert_eq!(parsed(&deep).to_string(), deep);
    assert_eq!(parsed(r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000""#), Doc::from("\"\\/\u{8}\u{c}\n\r\té😀\0"));
}

#[test]
fn reports_duplicates_with_their_paths() {
    let mut found = Vec::new();
    let text = r#"{"kind":"A","spec":{"x":1,"c":[{"n":1},{"n":1,"n":2,"n":3}],"x":{"y":1}},"kind":"B"}"#;
    let doc = Doc::parse_with(text.as_bytes(), &mut found).unwrap();
    assert_eq!(doc.to_string(), r#"{"kind":"B","spec":{"x":{"y":1},"c":[{"n":1},{"n":3}]}}"#);
    let said: Vec<String> = found.iter().map(Duplicate::to_string).collect();
    assert_eq!(said, [r#"duplicate field "spec.c[1].n""#, r#"duplicate field "spec.x""#, r#"duplicate field "kind""#]);
}

#[test]
fn equality_is_semantic() {
    assert_eq!(parsed(r#"{"a":1,"b":[1,2]}"#), parsed(r#"{"b":[1.0,2e0],"a":1}"#));
    assert_ne!(parsed("[1,2]"), parsed("[2,1]"));
    assert_ne!(parsed("123456789012345678901234567890"), parsed("123456789012345678901234567891"));
    assert_ne!(parsed(r#"{"a":null}"#), parsed(r#"{"b":null}"#));
}

#[test]
fn a_large_object_is_not_quadratic() {
    let fields: Vec<String> = (0..200_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let mut doc = parsed(&format!("{{{}}}", fields.join(",")));
    assert_eq!(doc.get("k199999").and_then(Doc::as_i64), Some(199_999));
    let Doc::Object(map) = &mut doc else { panic!("an object") };
    map.remove("k0");
    map.retain(|key, _| key.len() > 3);
    assert_eq!((map.get("k5"), map.get("k77777").and_then(Doc::as_i64)), (None, Some(77_777)));
    assert_eq!(map.insert("k77777", Doc::Null), Some(Doc::from(77_777)));
}

#[test]
fn paths_reach_create_and_remove() {
    let mut doc = doc!({"spec": {"list": [{"a": 1}]}});
    doc.set_at(&["metadata", "labels", "app"], "x".into());
    doc.set_at(&["spec", "list", "0", "b"], true.into());
    assert_eq!(doc, doc!({"spec": {"list": [{"a": 1, "b": true}]}, "metadata": {"labels": {"app": "x"}}}));
    assert_eq!(doc.remove_at(&["spec", "list", "0", "a"]), Some(1.into()));
    assert_eq!(doc.remove_at(&["spec", "list", "1"]), None);
    assert_eq!(doc.str_at(&["metadata", "labels", "app"]), "x");
}

#[test]
fn converts_to_and_from_types() {
    use crate::api::api::core::v1::Pod;
    let doc = doc!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}}, "ports": [{"containerPort": 80}]}]}});
    let pod: Pod = doc.deserialize().unwrap();
    assert_eq!(pod.spec.as_ref().map(|spec| spec.containers.len()), Some(1));
    assert_eq!(Doc::from_serialize(&pod).unwrap(), doc);
    let wrong = doc!({"metadata": {}, "spec": {"containers": [{"name": 5}]}});
    assert!(wrong.deserialize::<Pod>().is_err());
}

fn any_doc() -> impl Strategy<Value = Doc> {
    let leaf = prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::from),
        any::<i64>().prop_map(Doc::from),
        any::<f64>().prop_map(Doc::from),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?"
            .prop_map(|text| Number::from_text(&text).map_or(Doc::Null, Doc::Number)),
        any::<String>().prop_map(Doc::from),
    ];
    leaf.prop_recursive(5, 200, 40, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Doc::Array),
            proptest::collection::vec((any::<String>(), inner), 0..40)
                .prop_map(|fields| Doc::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(doc in any_doc()) {
        let text = doc.to_json();
        let back = Doc::parse(&text).unwrap();
        prop_assert_eq!(&back, &doc);
        prop_assert_eq!(back.to_json(), text);
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Doc::parse(&bytes);
    }

    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}:, 0-9.eE+\"ntrufalse\\\\-]{0,24}|\\{\"[a-c]\":[0-9\\[\\]\\{\\}\",:a]{0,9}\\}") {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (Doc::parse(text.as_bytes()), theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.deserialize::<serde_json::Value>().unwrap(), theirs),
            (Err(_), Err(_)) => {}
            // Its numbers have a range, ours do not.
            (Ok(_), Err(why)) if why.to_string().contains("out of range") => {}
            (ours, theirs) => prop_assert!(false, "{:?}: {:?} against {:?}", text, ours, theirs),
        }
    }
}
