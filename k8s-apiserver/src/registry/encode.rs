//! The last step of a write: the document as the bytes that are stored and served, and its metadata beside them.

use bytes::Bytes;
use k8s_core::{
    doc::{Doc, Text},
    env::Timestamp,
    object::{Meta, Owner, is_routed_by_node},
    status::{ApiError, ApiResult},
};

/// The largest object that is stored, in bytes of its JSON: what etcd takes by default.
pub const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// An encoded object, but for its revision.
pub struct Encoded {
    /// The JSON without `metadata.resourceVersion`.
    pub json: Bytes,
    /// The offset right after the opening brace of `metadata`.
    pub splice: usize,
    /// What the metadata says.
    pub meta: Meta,
}

/// Encodes a document that has metadata. `metadata.resourceVersion` is left out. 413 beyond [`MAX_OBJECT_BYTES`].
pub fn encode(doc: &Doc) -> ApiResult<Encoded> {
    let without_metadata = || ApiError::internal("an object without metadata cannot be stored");
    let fields = doc.as_object().ok_or_else(without_metadata)?;
    let mut json = Vec::with_capacity(1024);
    let mut splice = None;
    json.push(b'{');
    for (name, value) in fields.iter() {
        if json.len() > 1 {
            json.push(b',');
        }
        write_name(name, &mut json);
        match value.as_object() {
            Some(metadata) if name == "metadata" => {
                json.push(b'{');
                splice = Some(json.len());
                for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
                    if !json.ends_with(b"{") {
                        json.push(b',');
                    }
                    write_name(name, &mut json);
                    value.write_json(&mut json);
                }
                json.push(b'}');
            }
            _ => value.write_json(&mut json),
        }
    }
    json.push(b'}');
    if json.len() > MAX_OBJECT_BYTES {
        let message = format!("the object has {} bytes; the limit is {MAX_OBJECT_BYTES}", json.len());
        return Err(ApiError::too_large(message));
    }
    let splice = splice.ok_or_else(without_metadata)?;
    Ok(Encoded { json: json.into(), splice, meta: meta(doc) })
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    Doc::String(name.into()).write_json(out);
    out.push(b':');
}

fn meta(doc: &Doc) -> Meta {
    let text = |path: &[&str]| Text::from(doc.str_at(path));
    let time = |field| doc.str_at(&["metadata", field]).parse::<Timestamp>().ok();
    let kind = text(&["kind"]);
    Meta {
        api_version: text(&["apiVersion"]),
        name: text(&["metadata", "name"]),
        namespace: text(&["metadata", "namespace"]),
        uid: text(&["metadata", "uid"]),
        generation: doc.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0),
        labels: labels(doc),
        owners: doc.at(&["metadata", "ownerReferences"]).map_or(&[][..], Doc::items).iter().map(owner).collect(),
        finalizers: strings(doc.at(&["metadata", "finalizers"])),
        created: time("creationTimestamp"),
        deleted: time("deletionTimestamp"),
        node_name: if is_routed_by_node(&kind) { text(&["spec", "nodeName"]) } else { Text::default() },
        kind,
    }
}

fn labels(doc: &Doc) -> Box<[(Text, Text)]> {
    let Some(labels) = doc.at(&["metadata", "labels"]).and_then(Doc::as_object) else { return Box::default() };
    let mut pairs: Vec<(Text, Text)> =
        labels.iter().map(|(key, value)| (key.into(), value.as_str().unwrap_or("").into())).collect();
    pairs.sort();
    pairs.into()
}

fn strings(list: Option<&Doc>) -> Box<[Text]> {
    list.map_or(&[][..], Doc::items).iter().filter_map(|item| item.as_str().map(Text::from)).collect()
}

fn owner(doc: &Doc) -> Owner {
    let flag = |name| doc.get(name).and_then(Doc::as_bool).unwrap_or(false);
    Owner {
        api_version: doc.str_at(&["apiVersion"]).into(),
        kind: doc.str_at(&["kind"]).into(),
        name: doc.str_at(&["name"]).into(),
        uid: doc.str_at(&["uid"]).into(),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::{doc, object::Object};

    use super::*;

    #[test]
    fn what_is_encoded_reads_back_the_same() {
        let doc = doc!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "resourceVersion": "3", "name": "a\"b", "namespace": "n", "uid": "u", "labels": {"z": "1", "a": "2"},
                "creationTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["x/y"], "generation": 2,
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "p", "controller": true}]
            },
            "spec": {"nodeName": "one"}
        });
        let Encoded { json, splice, meta } = encode(&doc).unwrap();
        let object = Object::from_parts(json.clone(), splice, 7, meta.clone());
        let decoded = Object::from_json(json, Some(7)).unwrap();
        assert_eq!(meta, *decoded.meta);
        assert_eq!(object.to_json(), decoded.to_json());
        assert!(String::from_utf8(object.to_json()).unwrap().contains(r#""metadata":{"resourceVersion":"7","name""#));
    }

    #[test]
    fn objects_that_are_too_large_are_refused() {
        let doc = doc!({"metadata": {"name": "x"}, "data": "y".repeat(MAX_OBJECT_BYTES)});
        assert_eq!(encode(&doc).err().map(|error| error.code()), Some(413));
    }
}
