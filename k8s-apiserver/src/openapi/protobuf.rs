//! The version 2 document in protobuf: what `kubectl` asks for where version 3 does not say enough.
//!
//! Numbers are those of gnostic's `openapi.v2`. Each message is a table; what a document of ours never holds has no row.

use k8s_core::doc::Doc;

/// What clients name this form in `Accept`: the second spelling is for those that allow no `@` in a media type.
pub(super) const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// A message: its fields by their names in JSON, and the number of the list that takes the `x-` fields, if it has one.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: Option<u32>,
}

/// How a JSON value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Bool,
    /// Any JSON, as text.
    Any,
    Anys,
    One(&'static Message),
    /// A JSON object whose keys are names: a message of pairs, in the field with this number.
    Named(u32, &'static Message),
    /// A message around the value, as this number of it.
    Within(u32, &'static Form),
    /// A schema, or a yes or no.
    SchemaOrBool,
    /// A list of parameters, each of a kind of its own by where it stands.
    Parameters,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::Named(2, &PATH)),
        ("definitions", 9, Form::Named(1, &SCHEMA)),
    ],
    extensions: Some(16),
};
static INFO: Message = Message { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extensions: Some(7) };
static PATH: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("options", 6, Form::One(&OPERATION)),
        ("head", 7, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: Some(10),
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Named(1, &RESPONSE_VALUE)),
        ("deprecated", 11, Form::Bool),
    ],
    extensions: Some(13),
};
/// A response stands in a wrapper of its own: `$ref` never occurs here.
static RESPONSE_VALUE: Message = Message { fields: &[("", 1, Form::One(&RESPONSE))], extensions: None };
static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::Within(1, &Form::One(&SCHEMA)))],
    extensions: Some(5),
};
static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Bool),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    extensions: Some(6),
};
static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Bool),
    ],
    extensions: Some(23),
};
/// Header and path parameters have the same numbers.
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Bool),
    ],
    extensions: Some(22),
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("pattern", 13, Form::Text),
        ("uniqueItems", 16, Form::Bool),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBool),
        ("type", 22, Form::Within(1, &Form::Texts)),
        ("items", 23, Form::Within(1, &Form::One(&SCHEMA))),
        ("properties", 25, Form::Named(1, &SCHEMA)),
        ("readOnly", 27, Form::Bool),
    ],
    extensions: Some(31),
};

/// The document in protobuf.
pub(super) fn encode(document: &Doc) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn message(of: &Message, value: &Doc) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, number, form) in of.fields {
        // A wrapper's one field is the value itself.
        let field = if name.is_empty() { Some(value) } else { value.get(name) };
        if let Some(field) = field {
            write(&mut out, *number, *form, field);
        }
    }
    if let (Some(number), Some(fields)) = (of.extensions, value.as_object()) {
        for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
            bytes(&mut out, number, &named(name, &any(value)));
        }
    }
    out
}

fn write(out: &mut Vec<u8>, number: u32, form: Form, value: &Doc) {
    match form {
        Form::Text => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Form::Texts => match value.as_str() {
            Some(text) => bytes(out, number, text.as_bytes()),
            None => value.items().iter().for_each(|item| write(out, number, Form::Text, item)),
        },
        Form::Bool => boolean(out, number, value),
        Form::Any => bytes(out, number, &any(value)),
        Form::Anys => value.items().iter().for_each(|item| bytes(out, number, &any(item))),
        Form::One(of) => bytes(out, number, &message(of, value)),
        Form::Named(inner, of) => {
            let mut pairs = Vec::new();
            for (name, value) in value.as_object().into_iter().flat_map(|fields| fields.iter()) {
                bytes(&mut pairs, inner, &named(name, &message(of, value)));
            }
            bytes(out, number, &pairs);
        }
        Form::Within(inner, form) => {
            let mut within = Vec::new();
            write(&mut within, inner, *form, value);
            bytes(out, number, &within);
        }
        Form::SchemaOrBool => {
            let mut item = Vec::new();
            match value.as_bool() {
                Some(_) => boolean(&mut item, 2, value),
                None => bytes(&mut item, 1, &message(&SCHEMA, value)),
            }
            bytes(out, number, &item);
        }
        Form::Parameters => value.items().iter().for_each(|item| bytes(out, number, &parameter(item))),
    }
}

/// A parameter in its wrappers: parameter or reference, body or not, and where it stands.
fn parameter(value: &Doc) -> Vec<u8> {
    let (mut place, mut kind, mut item) = (Vec::new(), Vec::new(), Vec::new());
    match value.str_at(&["in"]) {
        "body" => bytes(&mut kind, 1, &message(&BODY_PARAMETER, value)),
        "query" => bytes(&mut place, 3, &message(&QUERY_PARAMETER, value)),
        "header" => bytes(&mut place, 1, &message(&PATH_PARAMETER, value)),
        _ => bytes(&mut place, 4, &message(&PATH_PARAMETER, value)),
    }
    if kind.is_empty() {
        bytes(&mut kind, 2, &place);
    }
    bytes(&mut item, 1, &kind);
    item
}

/// Any JSON, as the text of it: JSON is YAML.
fn any(value: &Doc) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 2, &value.to_json());
    out
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, value);
    out
}

fn boolean(out: &mut Vec<u8>, number: u32, value: &Doc) {
    varint(out, u64::from(number) << 3);
    varint(out, u64::from(value.as_bool() == Some(true)));
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, (u64::from(number) << 3) | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    /// Reads a message back: numbers and what they hold.
    fn read(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let number = |bytes: &mut &[u8]| {
            let (mut value, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        };
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            let value = number(&mut bytes);
            match key & 7 {
                0 => found.push((key >> 3, vec![value as u8])),
                _ => {
                    let (taken, rest) = bytes.split_at(value as usize);
                    found.push((key >> 3, taken.to_vec()));
                    bytes = rest;
                }
            }
        }
        found
    }

    fn at(bytes: &[u8], path: &[u64]) -> Vec<u8> {
        path.iter().fold(bytes.to_vec(), |bytes, number| {
            let fields = read(&bytes);
            let found = fields.into_iter().find(|(found, _)| found == number);
            found.unwrap_or_else(|| panic!("{number} of {path:?}")).1
        })
    }

    #[test]
    fn every_part_of_a_document_stands_where_clients_look() {
        let document = doc!({
            "swagger": "2.0",
            "info": {"title": "T", "version": "v1"},
            "paths": {"/a": {"get": {
                "operationId": "listA",
                "parameters": [{"name": "q", "in": "query", "type": "string"}, {"name": "b", "in": "body", "schema": {"$ref": "#/d"}}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/d"}}},
                "x-kubernetes-action": "list"
            }}},
            "definitions": {"D": {
                "type": "object", "required": ["a"],
                "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                "additionalProperties": {"type": "integer"},
                "x-kubernetes-group-version-kind": [{"kind": "A"}]
            }}
        });
        let bytes = encode(&document);
        assert_eq!(at(&bytes, &[1]), b"2.0");
        assert_eq!(at(&bytes, &[2, 2]), b"v1");
        assert_eq!(at(&bytes, &[8, 2, 1]), b"/a");
        let get = at(&bytes, &[8, 2, 2, 2]);
        assert_eq!(at(&get, &[5]), b"listA");
        assert_eq!(at(&get, &[8, 1, 2, 3, 4]), b"q");
        let parameters: Vec<Vec<u8>> =
            read(&get).into_iter().filter(|(number, _)| *number == 8).map(|(_, value)| value).collect();
        assert_eq!(at(&parameters[1], &[1, 1, 5, 1]), b"#/d");
        assert_eq!(at(&get, &[9, 1, 1]), b"200");
        assert_eq!(at(&get, &[9, 1, 2, 1, 2, 1, 1]), b"#/d");
        assert_eq!(at(&get, &[13, 1]), b"x-kubernetes-action");
        assert_eq!(at(&get, &[13, 2, 2]), br#""list""#);
        let schema = at(&bytes, &[9, 1, 2]);
        assert_eq!(at(&schema, &[22, 1]), b"object");
        assert_eq!(at(&schema, &[19]), b"a");
        assert_eq!(at(&schema, &[25, 1, 2, 23, 1, 22, 1]), b"string");
        assert_eq!(at(&schema, &[21, 1, 22, 1]), b"integer");
        assert_eq!(at(&schema, &[31, 2, 2]), br#"[{"kind":"A"}]"#);
    }
}
