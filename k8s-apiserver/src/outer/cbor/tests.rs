//! Bytes of RFC 8949's own examples, round trips, and what must be refused.

use k8s_core::{doc, doc::Doc};
use proptest::prelude::*;

use super::{decode, encode, event};

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn read(hex: &str) -> String {
    decode(&bytes(hex)).map_or_else(|why| format!("refused: {why}"), |doc| doc.to_string())
}

#[test]
fn the_standards_examples_read_as_they_say() {
    for (hex, expected) in [
        ("00", "0"),
        ("1818", "24"),
        ("1a000f4240", "1000000"),
        ("1b000000e8d4a51000", "1000000000000"),
        ("20", "-1"),
        ("3903e7", "-1000"),
        ("f93c00", "1"),
        ("f93e00", "1.5"),
        ("f90001", "5.960464477539063e-8"),
        ("fa47c35000", "100000"),
        ("fb3ff199999999999a", "1.1"),
        ("f4", "false"),
        ("f6", "null"),
        ("c074323031332d30332d32315432303a30343a30305a", r#""2013-03-21T20:04:00Z""#),
        ("d64401020304", r#""AQIDBA==""#),
        ("d74401020304", r#""01020304""#),
        ("62c3bc", r#""ü""#),
        ("8301820203820405", "[1,[2,3],[4,5]]"),
        ("a26161016162820203", r#"{"a":1,"b":[2,3]}"#),
        ("7f657374726561646d696e67ff", r#""streaming""#),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", r#"{"a":1,"b":[2,3]}"#),
        ("d9d9f7a0", "{}"),
    ] {
        assert_eq!(read(hex), expected, "{hex}");
    }
}

#[test]
fn what_json_cannot_say_is_refused() {
    for (hex, why) in [
        ("", "ends too early"),
        ("1b", "ends too early"),
        ("5bffffffffffffffff00", "ends too early"),
        ("9bffffffffffffffff00", "ends too early"),
        ("bbffffffffffffffff", "ends too early"),
        ("1bffffffffffffffff", "64 bits"),
        ("3bffffffffffffffff", "64 bits"),
        ("f97e00", "not finite"),
        ("fb7ff0000000000000", "not finite"),
        ("f7", "simple value"),
        ("f820", "simple value"),
        ("1c", "means nothing"),
        ("ff", "a break"),
        ("0000", "more than one"),
        ("a10101", "no string"),
        ("a2616101616102", "twice"),
        ("61ff", "UTF-8"),
        ("5f6161ff", "another type"),
        ("c101", "a tag"),
        ("d661ff", "a tag"),
    ] {
        assert!(read(hex).contains(why), "{hex}: {}", read(hex));
    }
    let deep = "81".repeat(300) + "00";
    assert!(read(&deep).contains("too deep"));
    let tags = "d9d9f7".repeat(300) + "00";
    assert!(read(&tags).contains("too deep"));
    let wide = [&bytes("9a001e8480")[..], &[0; 2_000_000]].concat();
    assert!(decode(&wide).unwrap_err().to_string().contains("too many values"));
}

#[test]
fn equal_documents_are_equal_bytes() {
    let one = doc!({"kind": "X", "apiVersion": "v1", "b": -1, "a": 1.5});
    let two = doc!({"a": 1.5, "b": -1, "apiVersion": "v1", "kind": "X"});
    assert_eq!(encode(&one), encode(&two));
    let expected =
        "d9d9f7a441 61fb3ff8000000000000 41 6220 44 6b696e64 4158 4a 61706956657273696f6e 42 7631".replace(' ', "");
    assert_eq!(encode(&one), bytes(&expected));
    let told = decode(&event("ADDED", &one)).unwrap();
    assert_eq!((told.str_at(&["type"]), told.get("object")), ("ADDED", Some(&two)));
}

fn any_doc() -> impl Strategy<Value = Doc> {
    let leaf = prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::from),
        any::<i64>().prop_map(Doc::from),
        any::<f64>().prop_filter_map("finite", |value| k8s_core::doc::Number::from_f64(value).map(Doc::Number)),
        ".{0,40}".prop_map(Doc::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Doc::Array),
            prop::collection::btree_map(".{0,30}", inner, 0..8).prop_map(|fields| {
                let mut doc = Doc::object();
                fields.into_iter().for_each(|(name, value)| doc.set_at(&[name.as_str()], value));
                doc
            }),
        ]
    })
}

proptest! {
    #[test]
    fn documents_come_back(doc in any_doc()) {
        prop_assert_eq!(decode(&encode(&doc)), Ok(doc));
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(doc) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&doc)), Ok(doc));
        }
    }
}
