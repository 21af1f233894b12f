//! The types of the language, and those that stand for objects with known fields.

use std::{fmt, sync::Arc};

use super::estimate::Shape as Size;
use crate::{
    doc::Text,
    schema::{Arena, IntFormat, NodeDef, Schema, Shape, StructDef, StructId},
};

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// 64 bits, signed.
    Int,
    /// 64 bits, unsigned.
    Uint,
    /// A float.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of items of one type.
    List(Arc<Type>),
    /// A map: type of keys, type of values.
    Map(Arc<(Type, Type)>),
    /// A value that may be none.
    Optional(Arc<Type>),
    /// A type itself.
    Type(Arc<Type>),
    /// A scalar that may be `null`.
    Nullable(Arc<Type>),
    /// An object whose fields a schema says.
    Struct(StructType),
    /// An object whose fields were declared one by one.
    Record(Arc<Record>),
    /// A type without fields that only its functions know, by its name.
    Opaque(&'static str),
    /// A structure of a mutation, such as `Object.spec`: any fields.
    Mutation(Text),
    /// A type not yet found, while checking.
    #[doc(hidden)]
    Param(u32),
}

/// An object with declared fields, such as `request`.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// Its name, as messages show it.
    pub name: Text,
    /// Names and types.
    pub fields: Vec<(Text, Type)>,
}

/// The type of the objects of one struct of a schema.
#[derive(Clone)]
pub struct StructType {
    arena: Arc<Arena>,
    id: StructId,
}

impl StructType {
    pub(super) fn def(&self) -> &StructDef {
        self.arena.get(self.id)
    }

    /// What is known of its size.
    pub(super) fn shape(&self) -> Size {
        Size::of_node(&self.arena, &NodeDef::from(Shape::Struct(self.id)))
    }

    /// The type of a field by its name in the object.
    pub(super) fn field(&self, name: &str) -> Option<Type> {
        let def = self.def();
        match def.find(name) {
            Some(field) => Some(Type::of(&self.arena, &field.node)),
            None if def.preserve_unknown => Some(Type::Dyn),
            None => def.additional.as_ref().map(|node| Type::of(&self.arena, node)),
        }
    }
}

/// Equal are those of one place in one schema.
impl PartialEq for StructType {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.arena, &other.arena) && self.id == other.id
    }
}

impl fmt::Debug for StructType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.def().name)
    }
}

impl Type {
    /// A list.
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// An optional.
    pub fn optional(inner: Type) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// An object with declared fields.
    pub fn record<N: Into<Text>>(name: &str, fields: impl IntoIterator<Item = (N, Type)>) -> Self {
        let fields = fields.into_iter().map(|(name, declared)| (name.into(), declared)).collect();
        Self::Record(Arc::new(Record { name: name.into(), fields }))
    }

    /// The type of the objects of a schema.
    pub fn of_schema(schema: &Schema) -> Self {
        Self::of(schema.arena(), schema.root().def())
    }

    /// The type of what stands at a place in a schema.
    pub fn of(arena: &Arc<Arena>, node: &NodeDef) -> Self {
        let rules = node.rules();
        let plain = match &node.shape {
            Shape::Struct(id) => return Self::Struct(StructType { arena: arena.clone(), id: *id }),
            Shape::Map(value) => return Self::map(Self::String, Self::of(arena, value)),
            Shape::List(item) => return Self::list(Self::of(arena, item)),
            Shape::String => match rules.format.as_deref() {
                Some("date" | "date-time") => Self::Timestamp,
                Some("duration") => Self::Duration,
                Some("byte") => Self::Bytes,
                _ => Self::String,
            },
            Shape::Integer(IntFormat::Int32 | IntFormat::Int64 | IntFormat::Whole) => Self::Int,
            Shape::Number => Self::Double,
            Shape::Boolean => Self::Bool,
            Shape::Time | Shape::MicroTime => Self::Timestamp,
            Shape::Bytes => Self::Bytes,
            Shape::IntOrString | Shape::Quantity | Shape::AnyObject | Shape::Any => return Self::Dyn,
        };
        if rules.nullable { Self::Nullable(Arc::new(plain)) } else { plain }
    }

    /// What `type(x)` calls it, without parameters.
    pub(super) fn bare_name(&self) -> Text {
        match self {
            Self::List(_) => "list".into(),
            Self::Map(_) => "map".into(),
            Self::Optional(_) => "optional_type".into(),
            Self::Type(_) => "type".into(),
            Self::Null => "null_type".into(),
            Self::Timestamp => "google.protobuf.Timestamp".into(),
            Self::Duration => "google.protobuf.Duration".into(),
            other => other.to_string().into(),
        }
    }
}

/// As cel-go writes types: `list(int)`, `map(string, dyn)`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn | Self::Param(_) => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type(inner) if **inner == Self::Dyn => f.write_str("type"),
            Self::Type(inner) => write!(f, "type({inner})"),
            Self::Nullable(inner) => write!(f, "wrapper({inner})"),
            Self::Struct(of) if of.def().name.is_empty() => f.write_str("object"),
            Self::Struct(of) => f.write_str(&of.def().name),
            Self::Record(record) => f.write_str(&record.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Mutation(name) => f.write_str(name),
        }
    }
}
