//! Schemas of custom kinds: any JSON schema makes one, and what it made sound stays as it is.

use k8s_core::{
    defaulting,
    doc::Doc,
    schema::Schema,
    structure::{Mode, check},
};

/// A JSON schema and an object.
pub fn run(input: &[u8]) {
    let parts = crate::parts(input);
    let Ok(written) = Doc::parse(parts[0]) else { return };
    let schema = Schema::from_json_schema(&written);
    let Some(Ok(mut object)) = parts.get(1).map(|text| Doc::parse(text)) else { return };
    let partial = check(&schema, &mut object.clone(), Mode::Partial);
    let whole = check(&schema, &mut object, Mode::Whole);
    assert_eq!(partial.wrong.is_empty(), whole.wrong.is_empty(), "{partial:?} and {whole:?}");
    if !whole.wrong.is_empty() {
        return;
    }
    let kept = object.to_json();
    let again = check(&schema, &mut object, Mode::Whole);
    assert!(again.wrong.is_empty() && again.unknown.is_empty(), "what was pruned is sound: {again:?}");
    assert_eq!(object.to_json(), kept, "what was made canonical is canonical");
    defaulting::default(&schema, &mut object);
    let full = object.to_json();
    defaulting::default(&schema, &mut object);
    assert_eq!(object.to_json(), full, "defaults are set once");
}
