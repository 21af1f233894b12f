//! JSON written as messages by the schema's numbers, in one walk over the text.
//!
//! Go writes fields by number, maps by key, and what it holds by value even when it is empty; JSON has its fields in
//! any order. So the fields of a struct are written as they come, then put in order behind themselves, and then moved
//! to where the message begins: no tree is made, and no length is counted beforehand.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{
    env::Timestamp,
    schema::{FieldView, Kind, Node, SchemaOr, Struct},
};

use super::{
    Fault,
    json::Json,
    wire::{put_bytes, put_head, put_number, put_varint},
};

type Done = Result<(), Fault>;

/// Writes messages behind what it holds already.
#[derive(Default)]
pub struct Encoder {
    /// What is written.
    pub out: Vec<u8>,
    /// Where the fields of the structs that are being written stand, by their places; the innermost struct is last.
    spans: Vec<(usize, usize)>,
    /// Where tags and lengths are made before there is room for them.
    head: Vec<u8>,
}

impl Encoder {
    /// Writes a struct as field `number`; without JSON, an empty one.
    pub fn message(&mut self, number: u32, of: Struct<'_>, json: Option<&mut Json<'_>>) -> Done {
        let (start, first) = (self.out.len(), self.spans.len());
        self.spans.resize(first + of.field_count(), (0, 0));
        if let Some(json) = json {
            self.fields(of, first, json)?;
        }
        let body = self.out.len();
        self.gather(of, of.proto_order(), 0, first)?;
        self.spans.truncate(first);
        self.seal(number, start, body);
        Ok(())
    }

    /// Writes the fields as they come. A field without a number has no place in protobuf.
    fn fields(&mut self, of: Struct<'_>, first: usize, json: &mut Json<'_>) -> Done {
        json.begin(b'{')?;
        while let Some(name) = json.name()? {
            let Some(place) = of.position(&name).filter(|place| of.field_at(*place).proto() > 0) else {
                json.skip()?;
                continue;
            };
            if !json.null() {
                let start = self.out.len();
                self.field(of, of.field_at(place), json)?;
                self.spans[first + place] = (start, self.out.len());
            }
        }
        Ok(())
    }

    /// Copies the fields of `order` to the end, in that order, with what is written although it is not there. At each
    /// level, those inside of one message that JSON has not are wrapped in it.
    fn gather(&mut self, of: Struct<'_>, mut order: &[u16], level: usize, first: usize) -> Done {
        let field_at = |place: &u16| of.field_at(usize::from(*place));
        while let Some((place, rest)) = order.split_first() {
            let field = field_at(place);
            let Some(number) = field.proto_inside().get(level) else {
                let (start, end) = self.spans[first + usize::from(*place)];
                if start < end {
                    self.out.extend_from_within(start..end);
                } else if field.is_value() {
                    self.zero(field.proto(), field.node())?;
                }
                order = rest;
                continue;
            };
            let is_inside = |place: &&u16| field_at(place).proto_inside().get(level) == Some(number);
            let count = order.iter().take_while(is_inside).count();
            let start = self.out.len();
            self.gather(of, &order[..count], level + 1, first)?;
            self.seal(*number, start, start);
            order = &order[count..];
        }
        Ok(())
    }

    /// Makes what stands from `body` on the bytes of field `number`, which begins at `start`; what is between is gone.
    fn seal(&mut self, number: u32, start: usize, body: usize) {
        let length = self.out.len() - body;
        self.head.clear();
        put_head(&mut self.head, number, length);
        let from = start + self.head.len();
        let end = from + length;
        if end > self.out.len() {
            self.out.resize(end, 0);
        }
        self.out.copy_within(body..body + length, from);
        self.out[start..from].copy_from_slice(&self.head);
        self.out.truncate(end);
    }

    fn field(&mut self, of: Struct<'_>, field: FieldView<'_>, json: &mut Json<'_>) -> Done {
        match field.node().kind() {
            Kind::List(item) => self.list(field.proto(), of, item, json),
            Kind::Map(values) => self.map(field.proto(), of, values, json),
            _ => self.value(field.proto(), of, field.node(), json),
        }
    }

    fn list(&mut self, number: u32, of: Struct<'_>, item: Node<'_>, json: &mut Json<'_>) -> Done {
        json.begin(b'[')?;
        while json.item()? {
            self.value(number, of, item, json)?;
        }
        Ok(())
    }

    /// A map is a list of entries: key 1, value 2.
    fn map(&mut self, number: u32, of: Struct<'_>, values: Node<'_>, json: &mut Json<'_>) -> Done {
        json.begin(b'{')?;
        let start = self.out.len();
        let mut entries: Vec<(Cow<'_, str>, usize, usize)> = Vec::new();
        while let Some(key) = json.name()? {
            let from = self.out.len();
            put_bytes(&mut self.out, 1, key.as_bytes());
            self.value(2, of, values, json)?;
            self.seal(number, from, from);
            entries.push((key, from, self.out.len()));
        }
        if !entries.is_sorted() {
            entries.sort();
            let end = self.out.len();
            entries.iter().for_each(|(_, from, to)| self.out.extend_from_within(*from..*to));
            self.out.drain(start..end);
        }
        Ok(())
    }

    /// One value in a struct. A `null` is the empty value: it is an item, or the value of a map.
    fn value(&mut self, number: u32, of: Struct<'_>, node: Node<'_>, json: &mut Json<'_>) -> Done {
        if json.null() {
            return self.zero(number, node);
        }
        if let Some(other) = node.rules().schema_or {
            return self.schema_or(number, of, other, json);
        }
        match node.kind() {
            Kind::Object(inner) => return self.message(number, inner, Some(json)),
            Kind::String => put_bytes(&mut self.out, number, json.string()?.as_bytes()),
            Kind::Integer(_) => put_number(&mut self.out, number, integer(json)? as u64),
            Kind::Boolean => put_number(&mut self.out, number, u64::from(boolean(json)?)),
            Kind::Number => {
                let value: f64 = json.scalar().parse().map_err(|_| Fault::Malformed("a value is no number"))?;
                put_varint(&mut self.out, u64::from(number) << 3 | 1);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Bytes => {
                let bytes = STANDARD.decode(json.string()?.as_bytes());
                put_bytes(&mut self.out, number, &bytes.map_err(|_| Fault::Malformed("a value is no base64"))?);
            }
            Kind::Quantity => {
                let text = if json.peek() == b'"' { json.string()? } else { json.scalar().into() };
                self.wrapped(number, text.as_bytes());
            }
            Kind::IntOrString => self.int_or_string(number, json)?,
            Kind::Time => self.time(number, &json.string()?, 1_000_000_000)?,
            Kind::MicroTime => self.time(number, &json.string()?, 1_000)?,
            Kind::AnyObject | Kind::Any => self.wrapped(number, json.skip()?.as_bytes()),
            // A list in a map is a message with the items as its first field.
            Kind::List(item) => {
                let start = self.out.len();
                self.list(1, of, item, json)?;
                self.seal(number, start, start);
            }
            Kind::Map(_) => return Err(Fault::Malformed("a map where none can be")),
        }
        Ok(())
    }

    /// What Go writes for an empty value.
    fn zero(&mut self, number: u32, node: Node<'_>) -> Done {
        match node.kind() {
            Kind::Object(of) => return self.message(number, of, None),
            Kind::Integer(_) | Kind::Boolean => put_number(&mut self.out, number, 0),
            Kind::Number => {
                put_varint(&mut self.out, u64::from(number) << 3 | 1);
                self.out.extend_from_slice(&[0; 8]);
            }
            Kind::Quantity => self.wrapped(number, b"0"),
            Kind::IntOrString => put_bytes(&mut self.out, number, &[1 << 3, 0, 2 << 3, 0, 3 << 3 | 2, 0]),
            _ => put_bytes(&mut self.out, number, b""),
        }
        Ok(())
    }

    /// A message whose first field is all it has.
    fn wrapped(&mut self, number: u32, bytes: &[u8]) {
        let start = self.out.len();
        put_bytes(&mut self.out, 1, bytes);
        self.seal(number, start, start);
    }

    /// `type = 1, intVal = 2, strVal = 3`, all written.
    fn int_or_string(&mut self, number: u32, json: &mut Json<'_>) -> Done {
        let (is_text, value, text) = match json.peek() {
            b'"' => (1, 0, json.string()?),
            _ => (0, integer(json)?, Cow::Borrowed("")),
        };
        let start = self.out.len();
        put_number(&mut self.out, 1, is_text);
        put_number(&mut self.out, 2, value as u64);
        put_bytes(&mut self.out, 3, text.as_bytes());
        self.seal(number, start, start);
        Ok(())
    }

    /// `seconds = 1, nanos = 2` in whole `unit`s of nanoseconds; the first instant of year 1 is no time at all.
    fn time(&mut self, number: u32, text: &str, unit: i128) -> Done {
        let start = self.out.len();
        if !text.starts_with("0001-01-01T00:00:00") {
            let at: Timestamp = text.parse().map_err(|_| Fault::Malformed("a value is no time"))?;
            let nanos = at.as_nanosecond();
            let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
            put_number(&mut self.out, 1, seconds as i64 as u64);
            put_number(&mut self.out, 2, (rest - rest % unit) as u64);
        }
        self.seal(number, start, start);
        Ok(())
    }

    /// A schema like the one that it stands in, or what stands for one.
    fn schema_or(&mut self, number: u32, of: Struct<'_>, other: SchemaOr, json: &mut Json<'_>) -> Done {
        let (start, is_schema) = (self.out.len(), json.peek() == b'{');
        match other {
            SchemaOr::Bool => {
                let allows = is_schema || boolean(json)?;
                put_number(&mut self.out, 1, u64::from(allows));
                if is_schema {
                    self.message(2, of, Some(json))?;
                }
            }
            SchemaOr::Schemas | SchemaOr::Names if is_schema => self.message(1, of, Some(json))?,
            SchemaOr::Schemas | SchemaOr::Names => {
                json.begin(b'[')?;
                while json.item()? {
                    match other {
                        SchemaOr::Names => put_bytes(&mut self.out, 2, json.string()?.as_bytes()),
                        _ => self.message(2, of, Some(json))?,
                    }
                }
            }
        }
        self.seal(number, start, start);
        Ok(())
    }
}

fn integer(json: &mut Json<'_>) -> Result<i64, Fault> {
    json.scalar().parse().map_err(|_| Fault::Malformed("a value is no integer"))
}

fn boolean(json: &mut Json<'_>) -> Result<bool, Fault> {
    json.scalar().parse().map_err(|_| Fault::Malformed("a value is neither true nor false"))
}
