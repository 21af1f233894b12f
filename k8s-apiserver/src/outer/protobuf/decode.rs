//! Bodies in protobuf, read into a document by the schema's numbers.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{
    doc::{Doc, Map},
    env::Timestamp,
    schema::{FieldView, IntFormat, Kind, Node, Schema, SchemaOr, Schemas, Struct},
};

use super::{
    Fault, MAGIC,
    wire::{Records, Value, varint},
};

/// The deepest nesting that is read; the deepest built-in kind stays far below.
const MAX_DEPTH: usize = 64;
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Reads an enveloped object.
pub fn decode(bytes: &[u8], schemas: &Schemas) -> Result<Doc, Fault> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Fault::Malformed("the body does not begin with \"k8s\\0\""))?;
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    for record in Records(body) {
        match record? {
            (1, Value::Bytes(type_meta)) => {
                for record in Records(type_meta) {
                    match record? {
                        (1, Value::Bytes(text)) => api_version = utf8(text)?,
                        (2, Value::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Value::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = schema(schemas, api_version, kind)?;
    let mut fields = Map::new();
    fields.insert("apiVersion", Doc::from(api_version));
    fields.insert("kind", Doc::from(kind));
    let root = schema.root().as_struct().ok_or(Fault::Malformed("the kind is no object"))?;
    message(root, &[], raw, &mut fields, MAX_DEPTH)?;
    Ok(Doc::Object(fields))
}

fn schema(schemas: &Schemas, api_version: &str, kind: &str) -> Result<Schema, Fault> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let found = match kind {
        // Every group registers it.
        "DeleteOptions" => schemas.named(DELETE_OPTIONS),
        _ => schemas.schema(group, version, kind),
    };
    found.ok_or_else(|| Fault::UnknownKind(format!("{kind:?} of {api_version:?}").chars().take(200).collect()))
}

/// Reads the fields of a struct. `inside` is the path of messages that protobuf has and JSON has not. Every nesting comes
/// through here, which alone counts the depth that is left.
fn message(of: Struct<'_>, inside: &[u32], bytes: &[u8], out: &mut Map, depth: usize) -> Result<(), Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::Malformed("nested too deeply"))?;
    for record in Records(bytes) {
        let (number, value) = record?;
        if let Some(field) = of.fields().find(|field| field.proto() == number && field.proto_inside() == inside) {
            read_field(of, field, value, out, depth)?;
        } else if of.fields().any(|field| begins_with(field.proto_inside(), inside, number)) {
            let path = [inside, &[number]].concat();
            message(of, &path, value.bytes()?, out, depth)?;
        }
    }
    Ok(())
}

fn begins_with(path: &[u32], inside: &[u32], number: u32) -> bool {
    path.strip_prefix(inside).and_then(|rest| rest.first()) == Some(&number)
}

fn read_field(
    of: Struct<'_>,
    field: FieldView<'_>,
    value: Value<'_>,
    out: &mut Map,
    depth: usize,
) -> Result<(), Fault> {
    let (name, node) = (field.name(), field.node());
    match node.kind() {
        Kind::List(item) => {
            let list = out.get_or_insert_with(name, || Doc::Array(Vec::new()));
            let Some(items) = list.as_array_mut() else { return Ok(()) };
            match (item.kind(), value) {
                (Kind::Integer(format), Value::Bytes(packed)) => {
                    let mut rest = packed;
                    while !rest.is_empty() {
                        items.push(integer(varint(&mut rest)?, format));
                    }
                }
                (_, value) => items.push(read_value(of, item, value, depth)?.unwrap_or_default()),
            }
        }
        Kind::Map(values) => {
            let (key, entry) = map_entry(of, values, value.bytes()?, depth)?;
            let map = out.get_or_insert_with(name, Doc::object);
            if let Some(map) = map.as_object_mut() {
                map.insert(key, entry);
            }
        }
        Kind::Object(inner) => {
            // A message that comes twice is one message.
            let object = out.get_or_insert_with(name, Doc::object);
            if let Some(object) = object.as_object_mut() {
                message(inner, &[], value.bytes()?, object, depth)?;
            }
        }
        _ => {
            if let Some(read) = read_value(of, node, value, depth)?
                && !(node.rules().zero_is_absent && is_zero(&read))
            {
                out.insert(name, read);
            }
        }
    }
    Ok(())
}

/// One value in a struct; `None` for a point in time that was not set.
fn read_value(of: Struct<'_>, node: Node<'_>, value: Value<'_>, depth: usize) -> Result<Option<Doc>, Fault> {
    if let Some(other) = node.rules().schema_or {
        return schema_or(of, other, value.bytes()?, depth).map(Some);
    }
    Ok(Some(match node.kind() {
        Kind::Object(inner) => object(inner, value, depth)?,
        Kind::String => Doc::from(utf8(value.bytes()?)?),
        Kind::Integer(format) => integer(value.number()?, format),
        Kind::Boolean => Doc::from(value.number()? != 0),
        Kind::Number => Doc::from(f64::from_bits(value.fixed()?)),
        Kind::Bytes => Doc::from(STANDARD.encode(value.bytes()?)),
        Kind::Quantity => Doc::from(utf8(inner(value.bytes()?, 1)?.unwrap_or_default())?),
        Kind::IntOrString => int_or_string(value.bytes()?)?,
        Kind::Time => return time(value.bytes()?, Precision::Seconds),
        Kind::MicroTime => return time(value.bytes()?, Precision::Micros),
        Kind::AnyObject | Kind::Any => {
            let json = inner(value.bytes()?, 1)?.unwrap_or(b"null");
            Doc::parse(json).map_err(|_| Fault::Malformed("embedded JSON cannot be parsed"))?
        }
        // Upstream nests a list in a map as a message with the list as its first field.
        Kind::List(item) => {
            let mut items = Vec::new();
            for record in Records(value.bytes()?) {
                if let (1, value) = record? {
                    items.push(read_value(of, item, value, depth)?.unwrap_or_default());
                }
            }
            Doc::Array(items)
        }
        Kind::Map(_) => return Err(Fault::Malformed("a map where none can be")),
    }))
}

fn object(of: Struct<'_>, value: Value<'_>, depth: usize) -> Result<Doc, Fault> {
    let mut fields = Map::new();
    message(of, &[], value.bytes()?, &mut fields, depth)?;
    Ok(Doc::Object(fields))
}

/// A schema like the one that it stands in, or what stands for one.
fn schema_or(of: Struct<'_>, other: SchemaOr, bytes: &[u8], depth: usize) -> Result<Doc, Fault> {
    let (mut schema, mut allows, mut listed) = (None, false, Vec::new());
    for record in Records(bytes) {
        match (other, record?) {
            (SchemaOr::Bool, (1, value)) => allows = value.number()? != 0,
            (SchemaOr::Bool, (2, value)) | (SchemaOr::Schemas | SchemaOr::Names, (1, value)) => {
                schema = Some(object(of, value, depth)?);
            }
            (SchemaOr::Schemas, (2, value)) => listed.push(object(of, value, depth)?),
            (SchemaOr::Names, (2, value)) => listed.push(Doc::from(utf8(value.bytes()?)?)),
            _ => {}
        }
    }
    Ok(match (schema, other) {
        (Some(schema), _) => schema,
        (None, SchemaOr::Bool) => Doc::from(allows),
        (None, SchemaOr::Schemas | SchemaOr::Names) => Doc::Array(listed),
    })
}

fn map_entry(of: Struct<'_>, values: Node<'_>, bytes: &[u8], depth: usize) -> Result<(String, Doc), Fault> {
    let (mut key, mut entry) = (String::new(), None);
    for record in Records(bytes) {
        match record? {
            (1, Value::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, value) => entry = read_value(of, values, value, depth)?,
            _ => {}
        }
    }
    // A value that was left out is the empty one.
    let empty = || match values.kind() {
        Kind::Object(_) => Doc::object(),
        Kind::List(_) => Doc::Array(Vec::new()),
        Kind::Quantity => Doc::from("0"),
        Kind::Time | Kind::MicroTime | Kind::Any | Kind::AnyObject => Doc::Null,
        _ => Doc::from(""),
    };
    Ok((key, entry.unwrap_or_else(empty)))
}

fn is_zero(value: &Doc) -> bool {
    match value {
        Doc::Null => true,
        Doc::Bool(value) => !value,
        Doc::Number(number) => number.as_f64() == 0.0,
        Doc::String(text) => text.is_empty(),
        Doc::Array(_) | Doc::Object(_) => false,
    }
}

fn integer(value: u64, format: IntFormat) -> Doc {
    match format {
        IntFormat::Int32 => Doc::from(i64::from(value as u32 as i32)),
        IntFormat::Int64 | IntFormat::Whole => Doc::from(value as i64),
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Doc, Fault> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for record in Records(bytes) {
        match record? {
            (1, value) => is_text = value.number()? == 1,
            (2, value) => number = value.number()?,
            (3, Value::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { Doc::from(text) } else { integer(number, IntFormat::Int32) })
}

/// How much of a time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Micros,
}

/// `seconds = 1, nanos = 2`; an empty message is a time that was not set.
fn time(bytes: &[u8], precision: Precision) -> Result<Option<Doc>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for record in Records(bytes) {
        match record? {
            (1, value) => seconds = value.number()? as i64,
            (2, value) => nanos = value.number()? as u32 as i32,
            _ => {}
        }
    }
    let (nanos, digits) = match precision {
        Precision::Seconds => (0, 0),
        Precision::Micros => (nanos, 6),
    };
    let at = Timestamp::new(seconds, nanos).map_err(|_| Fault::Malformed("a time out of range"))?;
    let whole = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(digits));
    Ok(Some(Doc::from(whole.timestamp_to_string(&at))))
}

/// The last length-delimited field of a number.
fn inner(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>, Fault> {
    let mut found = None;
    for record in Records(bytes) {
        match record? {
            (number, Value::Bytes(bytes)) if number == wanted => found = Some(bytes),
            _ => {}
        }
    }
    Ok(found)
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Malformed("a string is no UTF-8"))
}
