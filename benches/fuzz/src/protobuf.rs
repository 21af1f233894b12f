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
    if check(&schema, &mut doc, Mode::Whole).wrong.is_empty() {
        let written = comes_back(&doc);
        assert!(written, "{doc} is sound, but is not written");
    }
}

/// Whether a document can be written. If so, what is read from that is written as the same bytes, and read as the same
/// document. (The first one may lack what Go writes although it is empty.)
fn comes_back(doc: &Doc) -> bool {
    let Some(message) = Message::of(schemas(), doc) else { return false };
    let Ok(bytes) = message.object(&doc.to_json()) else { return false };
    let read = decode(&bytes, schemas()).unwrap_or_else(|why| panic!("{doc} was written, but {why}"));
    assert_eq!(message.object(&read.to_json()).ok().as_ref(), Some(&bytes), "it is written in another way");
    let again = decode(&bytes, schemas());
    assert_eq!(again.as_ref(), Ok(&read), "it reads back as another document");
    true
}
