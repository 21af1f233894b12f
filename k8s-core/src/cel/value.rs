//! Values: what expressions are evaluated to. Documents are read where they lie, and only as far as they are asked.

mod compare;
mod export;
mod list;
mod map;

use std::{fmt, rc::Rc};

pub use list::List;
pub use map::{Key, Map, MapBuilder};

use super::{
    Budget, EvalError,
    authorizer::{Check, Decision},
    kubernetes::{cidr::Cidr, format::Format, semver::Semver, url::Url},
    time::{Span, Timestamp},
};
use crate::{
    doc::{Doc, Number, Text},
    quantity::Quantity,
    schema::{Kind, Node},
};

/// A value. Cheap to clone.
#[derive(Clone, Default)]
pub enum Value<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer without sign.
    Uint(u64),
    /// A float.
    Double(f64),
    /// Text.
    String(Str<'a>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Span),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// A type, by its name.
    Type(Text),
    /// A value or none.
    Optional(Option<Rc<Value<'a>>>),
    /// A structure made by the expression, such as `Object.spec{...}`.
    Made(Rc<Made<'a>>),
    /// An object that finds its fields when they are asked for.
    Fields(Rc<dyn Fields<'a> + 'a>),
    /// A value that only its functions know.
    Opaque(Opaque<'a>),
}

/// Text, borrowed where it can be.
#[derive(Clone)]
pub enum Str<'a> {
    /// Of a document or of the expression.
    Borrowed(&'a str),
    /// Made while evaluating.
    Shared(Rc<str>),
}

/// A structure made by the expression.
pub struct Made<'a> {
    /// Its type: `JSONPatch`, `Object.spec`, ...
    pub name: &'a str,
    /// Its fields in the order of the expression.
    pub fields: Vec<(&'a str, Value<'a>)>,
}

/// An object whose fields are computed when asked for, such as the `variables` of a policy.
pub trait Fields<'a> {
    /// The value of a field; `None` if there is no such field.
    fn field(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>>;

    /// What `type()` calls it.
    fn type_name(&self) -> &str;
}

/// Values that only their functions know.
#[derive(Clone)]
pub enum Opaque<'a> {
    /// `quantity("1Gi")`
    Quantity(Quantity),
    /// `url("https://...")`
    Url(Rc<Url>),
    /// `ip("10.0.0.1")`
    Ip(std::net::IpAddr),
    /// `cidr("10.0.0.0/8")`
    Cidr(Cidr),
    /// `semver("1.2.3")`
    Semver(Rc<Semver>),
    /// `format.dns1123Label()`
    Format(Format),
    /// `authorizer`, and what is said about a request before it is checked.
    Check(Rc<Check<'a>>),
    /// What the authorizer said.
    Decision(Rc<Decision>),
}

impl<'a> Value<'a> {
    /// A document without a schema.
    pub fn of(doc: &'a Doc) -> Self {
        Self::read(doc, None)
    }

    /// A document with the place of its schema, which says what it holds: times, bytes, numbers.
    pub fn of_node(doc: &'a Doc, node: Node<'a>) -> Self {
        Self::read(doc, Some(node))
    }

    pub(super) fn read(doc: &'a Doc, node: Option<Node<'a>>) -> Self {
        match doc {
            Doc::Null => Self::Null,
            Doc::Bool(value) => Self::Bool(*value),
            Doc::Number(number) => read_number(number, node),
            Doc::String(text) => match node {
                Some(node) => read_text(text, node),
                None => Self::String(Str::Borrowed(text)),
            },
            Doc::Array(items) => Self::List(List::of_docs(items, node)),
            Doc::Object(map) => Self::Map(Map::of_doc(map, node)),
        }
    }

    /// Text made while evaluating.
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Self::String(Str::Shared(text.into()))
    }

    /// A list made while evaluating.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::owned(items))
    }

    /// An optional that holds something.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// `true` or `false`, if it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// What `type(x)` calls it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Made(made) => made.name,
            Self::Fields(fields) => fields.type_name(),
            Self::Opaque(opaque) => opaque.type_name(),
        }
    }

    /// How large it is for the cost of walking over it: characters, bytes, items.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.as_str().len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(inner)) => inner.size(),
            _ => 1,
        }
    }
}

fn read_number<'a>(number: &Number, node: Option<Node<'a>>) -> Value<'a> {
    let wants_double = node.is_some_and(|node| matches!(node.kind(), Kind::Number));
    if wants_double {
        return Value::Double(number.as_f64());
    }
    if let Some(value) = number.as_i64() {
        return Value::Int(value);
    }
    let value = number.as_f64();
    let wants_int = node.is_some_and(|node| matches!(node.kind(), Kind::Integer(_)));
    if wants_int && value.fract() == 0.0 && value.abs() < 9.0e18 {
        return Value::Int(value as i64);
    }
    Value::Double(value)
}

fn read_text<'a>(text: &'a str, node: Node<'a>) -> Value<'a> {
    let read = match node.kind() {
        Kind::Time | Kind::MicroTime => Timestamp::parse(text).map(Value::Timestamp),
        Kind::Bytes => decode_base64(text),
        Kind::String => match node.rules().format.as_deref() {
            Some("date-time") => Timestamp::parse(text).map(Value::Timestamp),
            Some("date") => Timestamp::parse(&format!("{text}T00:00:00Z")).map(Value::Timestamp),
            Some("duration") => Span::parse(text).map(Value::Duration),
            Some("byte") => decode_base64(text),
            _ => None,
        },
        _ => None,
    };
    read.unwrap_or(Value::String(Str::Borrowed(text)))
}

fn decode_base64<'a>(text: &str) -> Option<Value<'a>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Some(Value::Bytes(bytes.into()))
}

impl Str<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl Opaque<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Check(check) => check.type_name(),
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Str::Borrowed(text))
    }
}

impl<'a> From<Opaque<'a>> for Value<'a> {
    fn from(opaque: Opaque<'a>) -> Self {
        Self::Opaque(opaque)
    }
}

/// As a message shows it.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}
