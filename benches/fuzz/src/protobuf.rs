//! Protobuf: what was read is written as bytes that read as the same.

use k8s_apiserver::outer::protobuf::{Message, decode};
use k8s_core::{
    doc::Doc,
    structure::{Mode, check},
};

use crate::samples::schemas;

/// A body, or the JSON of an object of a built-in kind.
pub fn run(input: &[u8]) {
    match Doc::parse(input) {
        Ok(doc) => from_json(doc),
        Err(_) => {
            if let Ok(read) = decode(input, schemas()) {
                comes_back(&read);
            }
        }
    }
}

fn from_json(mut doc: Doc) {
    let (api_version, kind) = (doc.str_at(&["apiVersion"]).to_owned(), doc.str_at(&["kind"]).to_owned());
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let Some(schema) = schemas().schema(group, version, &kind) else { return };
    if !check(&schema, &mut doc, Mode::Whole).wrong.is_empty() {
        return;
    }
    let Some(message) = Message::of(schemas(), &doc) else { return };
    let bytes = message.object(&doc.to_json()).unwrap_or_else(|why| panic!("{doc} is sound, but {why}"));
    let read = decode(&bytes, schemas()).unwrap_or_else(|why| panic!("{doc} was written, but {why}"));
    comes_back(&read);
}

fn comes_back(read: &Doc) {
    let Some(message) = Message::of(schemas(), read) else { return };
    let Ok(bytes) = message.object(&read.to_json()) else { return };
    let again = decode(&bytes, schemas()).unwrap_or_else(|why| panic!("{read} was written, but {why}"));
    assert_eq!(again, *read, "it reads back as another document");
    assert_eq!(message.object(&again.to_json()).ok(), Some(bytes), "it is written in another way");
}
