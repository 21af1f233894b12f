//! Bodies in protobuf, as upstream's Go clients send built-in kinds: read into a document by the schema's numbers.
//!
//! Upstream's envelope is four magic bytes and a `runtime.Unknown` that names the kind. What Go's JSON would leave out
//! is left out here too, so that a document says the same whichever way it came.

#[cfg(test)]
mod tests;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{
    doc::{Doc, Map},
    env::Timestamp,
    schema::{FieldView, IntFormat, Kind, Node, Schema, Schemas, Struct},
};

const MAGIC: &[u8] = b"k8s\0";
/// The deepest nesting that is read; the deepest built-in kind stays far below.
const MAX_DEPTH: usize = 64;
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are no protobuf, or not what the schema says.
    Malformed(&'static str),
    /// The kind has no protobuf form (custom kinds have none).
    UnknownKind(String),
}

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

/// Reads the fields of a struct. `inside` is the path of messages that protobuf has and JSON has not.
fn message(of: Struct<'_>, inside: &[u32], bytes: &[u8], out: &mut Map, depth: usize) -> Result<(), Fault> {
    if depth == 0 {
        return Err(Fault::Malformed("nested too deeply"));
    }
    for record in Records(bytes) {
        let (number, value) = record?;
        if let Some(field) = of.fields().find(|field| field.proto() == number && field.proto_inside() == inside) {
            read_field(field, value, out, depth)?;
        } else if of.fields().any(|field| begins_with(field.proto_inside(), inside, number)) {
            let path = [inside, &[number]].concat();
            message(of, &path, value.bytes()?, out, depth - 1)?;
        }
    }
    Ok(())
}

fn begins_with(path: &[u32], inside: &[u32], number: u32) -> bool {
    path.strip_prefix(inside).and_then(|rest| rest.first()) == Some(&number)
}

fn read_field(field: FieldView<'_>, value: Value<'_>, out: &mut Map, depth: usize) -> Result<(), Fault> {
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
                (_, value) => items.push(read_value(item, value, depth)?.unwrap_or_default()),
            }
        }
        Kind::Map(of) => {
            let (key, entry) = map_entry(of, value.bytes()?, depth)?;
            let map = out.get_or_insert_with(name, Doc::object);
            if let Some(map) = map.as_object_mut() {
                map.insert(key, entry);
            }
        }
        Kind::Object(of) => {
            // A message that comes twice is one message.
            let object = out.get_or_insert_with(name, Doc::object);
            if let Some(object) = object.as_object_mut() {
                message(of, &[], value.bytes()?, object, depth - 1)?;
            }
        }
        _ => {
            if let Some(read) = read_value(node, value, depth)?
                && !(node.rules().zero_is_absent && is_zero(&read))
            {
                out.insert(name, read);
            }
        }
    }
    Ok(())
}

/// One value; `None` for a point in time that was not set.
fn read_value(node: Node<'_>, value: Value<'_>, depth: usize) -> Result<Option<Doc>, Fault> {
    Ok(Some(match node.kind() {
        Kind::Object(of) => {
            let mut fields = Map::new();
            message(of, &[], value.bytes()?, &mut fields, depth - 1)?;
            Doc::Object(fields)
        }
        Kind::String => Doc::from(utf8(value.bytes()?)?),
        Kind::Integer(format) => integer(value.number()?, format),
        Kind::Boolean => Doc::from(value.number()? != 0),
        Kind::Number => Doc::from(f64::from_bits(value.fixed()?)),
        Kind::Bytes => Doc::from(STANDARD.encode(value.bytes()?)),
        Kind::Quantity => Doc::from(utf8(inner(value.bytes()?, 1)?.unwrap_or_default())?),
        Kind::IntOrString => int_or_string(value.bytes()?)?,
        Kind::Time => return time(value.bytes()?, 0),
        Kind::MicroTime => return time(value.bytes()?, 6),
        Kind::AnyObject | Kind::Any => {
            let json = inner(value.bytes()?, 1)?.unwrap_or(b"null");
            Doc::parse(json).map_err(|_| Fault::Malformed("embedded JSON cannot be parsed"))?
        }
        // Upstream nests a list in a map as a message with the list as its first field.
        Kind::List(item) => {
            let mut items = Vec::new();
            for record in Records(value.bytes()?) {
                if let (1, value) = record? {
                    items.push(read_value(item, value, depth)?.unwrap_or_default());
                }
            }
            Doc::Array(items)
        }
        Kind::Map(_) => return Err(Fault::Malformed("a map where none can be")),
    }))
}

fn map_entry(of: Node<'_>, bytes: &[u8], depth: usize) -> Result<(String, Doc), Fault> {
    let (mut key, mut entry) = (String::new(), None);
    for record in Records(bytes) {
        match record? {
            (1, Value::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, value) => entry = read_value(of, value, depth - 1)?,
            _ => {}
        }
    }
    // A value that was left out is the empty one.
    let empty = || match of.kind() {
        Kind::Object(_) => Doc::object(),
        Kind::List(_) => Doc::Array(Vec::new()),
        Kind::Quantity => Doc::from("0"),
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

/// `seconds = 1, nanos = 2`; an empty message is a time that was not set.
fn time(bytes: &[u8], digits: u8) -> Result<Option<Doc>, Fault> {
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

/// What stands behind a tag.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Fault::Malformed("a number where a message or text must be")),
        }
    }

    fn number(self) -> Result<u64, Fault> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Fault::Malformed("a message or text where a number must be")),
        }
    }

    /// The bits of a double; a float is widened.
    fn fixed(self) -> Result<u64, Fault> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            Self::Fixed32(bits) => Ok(f64::from(f32::from_bits(bits)).to_bits()),
            _ => Err(Fault::Malformed("no fraction where one must be")),
        }
    }
}

/// The fields of a message as they stand: number and value.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u32, Value<'a>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.0 = &[];
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<(u32, Value<'a>), Fault> {
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| Fault::Malformed("a field number out of range"))?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
                let (bytes, rest) = self.0.split_at(length.ok_or(CUT)?);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take()?)),
            _ => return Err(Fault::Malformed("an unknown wire type")),
        };
        Ok((number, value))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

const CUT: Fault = Fault::Malformed("the message is cut off");

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Malformed("a number longer than 64 bits"))
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => f.write_str(why),
            Self::UnknownKind(kind) => write!(f, "{kind} has no protobuf form; send application/json"),
        }
    }
}
