//! Protobuf as a client reads it: envelopes, lists, and the frames of a watch.

use k8s_apiserver::outer::protobuf::{Message, decode};
use k8s_core::{doc::Doc, schema::Schemas};
use serde_json::{Value, json};

const MAGIC: &[u8] = b"k8s\0";

/// An object as a body.
pub fn encode(object: &Value) -> Vec<u8> {
    let text = object.to_string();
    let doc = Doc::parse(text.as_bytes()).expect("JSON");
    let message = Message::of(&Schemas::builtin(), &doc).unwrap_or_else(|| panic!("no built-in kind: {text}"));
    message.object(text.as_bytes()).expect("it can be written")
}

/// An object or a list.
pub fn read(bytes: &[u8]) -> Value {
    let body = bytes.strip_prefix(MAGIC).expect("the magic bytes");
    let (mut api_version, mut kind) = (String::new(), String::new());
    for (number, value) in fields(part(body, 1)) {
        match number {
            1 => api_version = text(value),
            2 => kind = text(value),
            _ => {}
        }
    }
    match kind.strip_suffix("List") {
        Some(item) if !item.is_empty() => list(&api_version, item, part(body, 2)),
        _ => value(&decode(bytes, &Schemas::builtin()).expect("it can be read")),
    }
}

/// One frame of a watch, if it is whole: what it says, and how long it is.
pub fn event(bytes: &[u8]) -> Option<((String, Value), usize)> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let frame = bytes.get(4..4 + length)?;
    Some(((text(part(frame, 1)), read(part(part(frame, 2), 1))), 4 + length))
}

fn list(api_version: &str, kind: &str, body: &[u8]) -> Value {
    let mut meta = json!({});
    for (number, value) in fields(part(body, 1)) {
        match number {
            2 => meta["resourceVersion"] = text(value).into(),
            3 if !value.is_empty() => meta["continue"] = text(value).into(),
            4 => meta["remainingItemCount"] = varint(&mut &*value).into(),
            _ => {}
        }
    }
    let items = fields(body).into_iter().filter(|(number, _)| *number == 2).map(|(_, item)| {
        let mut object = read(&enveloped(api_version, kind, item));
        // Items of lists do not name their kind.
        let fields = object.as_object_mut().expect("an object");
        fields.remove("kind");
        fields.remove("apiVersion");
        object
    });
    let items: Vec<Value> = items.collect();
    json!({"apiVersion": api_version, "kind": format!("{kind}List"), "metadata": meta, "items": items})
}

fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    put(&mut kinds, 1, api_version.as_bytes());
    put(&mut kinds, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put(&mut out, 1, &kinds);
    put(&mut out, 2, raw);
    out
}

fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// The first field of a number; nothing if there is none.
fn part(bytes: &[u8], number: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(found, _)| *found == number).map_or(&[], |(_, value)| value)
}

/// The fields of a message. Of a number, the value is its bytes as they came.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => {
                let before = bytes;
                varint(&mut bytes);
                &before[..before.len() - bytes.len()]
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            return value;
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn value(doc: &Doc) -> Value {
    serde_json::from_slice(&doc.to_json()).expect("JSON")
}
