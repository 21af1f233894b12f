//! JSON documents: what is printed reads back as the same, and another parser agrees on what is JSON.

use k8s_core::doc::Doc;
use serde_json::Value;

pub fn run(input: &[u8]) {
    let mut duplicates = Vec::new();
    let parsed = Doc::parse_with(input, &mut duplicates);
    assert_eq!(parsed, Doc::parse(input), "duplicates are only reported");
    let theirs = serde_json::from_slice::<Value>(input);
    let doc = match parsed {
        Ok(doc) => doc,
        Err(why) => {
            assert!(theirs.is_err(), "refused ({why}), but another parser takes it");
            return;
        }
    };
    let text = doc.to_json();
    assert_eq!(Doc::parse(&text).as_ref(), Ok(&doc), "it reads back as another document");
    assert_eq!(doc.clone().to_json(), text, "a copy is printed in another way");
    match theirs {
        Ok(value) => {
            assert_eq!(serde_json::from_slice::<Value>(&text).ok(), Some(value.clone()), "printing changed the value");
            // The other parser has a zero with a sign.
            if !input.windows(2).any(|pair| pair == b"-0") {
                assert_eq!(doc.deserialize::<Value>().ok(), Some(value), "the tree says something else");
            }
        }
        Err(why) => {
            let limit = ["number out of range", "recursion limit exceeded"];
            assert!(limit.iter().any(|limit| why.to_string().contains(limit)), "taken, but {why}");
        }
    }
}
