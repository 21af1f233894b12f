//! What is known of a value's size, and of what is in it.

use std::sync::Arc;

use crate::{
    cel::{escape, types::Type},
    schema::{Arena, NodeDef, Shape as Kind},
};

/// The greatest size of a request in bytes.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// How deep the least size of a value is asked for in schemas that refer to themselves.
const MAX_DEPTH: usize = 16;

/// The greatest size of a value, and of what is in it.
#[derive(Clone)]
pub(in crate::cel) enum Shape {
    /// So large, with nothing in it.
    Size(u64),
    /// A place in a schema.
    Node { arena: Arc<Arena>, def: Arc<NodeDef> },
    /// A list, or a map with its keys, of so many items.
    Items { count: u64, key: Option<Arc<Shape>>, item: Arc<Shape> },
    /// Anything that fits in a request.
    Unknown,
}

impl Shape {
    pub fn of_size(size: u64) -> Self {
        Self::Size(size)
    }

    pub fn unknown() -> Self {
        Self::Unknown
    }

    pub fn list(count: u64, item: Shape) -> Self {
        Self::Items { count, key: None, item: Arc::new(item) }
    }

    pub fn map(count: u64, key: Shape, item: Shape) -> Self {
        Self::Items { count, key: Some(Arc::new(key)), item: Arc::new(item) }
    }

    pub fn of_type(of: &Type) -> Self {
        match of {
            Type::Struct(object) => object.shape(),
            Type::Nullable(inner) => Self::of_type(inner),
            Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Null | Type::Timestamp | Type::Duration => {
                Self::Size(1)
            }
            _ => Self::Unknown,
        }
    }

    pub fn of_node(arena: &Arc<Arena>, def: &NodeDef) -> Self {
        Self::Node { arena: arena.clone(), def: Arc::new(def.clone()) }
    }

    /// Characters, items, or one.
    pub fn size(&self) -> u64 {
        match self {
            Self::Size(size) => *size,
            Self::Items { count, .. } => *count,
            Self::Unknown => MAX_REQUEST - 2,
            Self::Node { arena, def } => node_size(arena, def),
        }
    }

    pub fn field(&self, name: &str) -> Self {
        match self {
            Self::Node { arena, def } => match &def.shape {
                Kind::Struct(id) => {
                    let of = arena.get(*id);
                    let found = escape::unescape(name).and_then(|name| of.find(&name));
                    let node = found.map(|field| &field.node).or(of.additional.as_ref());
                    node.map_or(Self::Unknown, |node| Self::of_node(arena, node))
                }
                Kind::Map(value) => Self::of_node(arena, value),
                _ => Self::Unknown,
            },
            Self::Items { item, .. } => (**item).clone(),
            Self::Size(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// The value of `a[b]`.
    fn indexed(&self) -> Self {
        match self {
            Self::Node { arena, def } => match &def.shape {
                Kind::List(item) | Kind::Map(item) => Self::of_node(arena, item),
                _ => Self::Unknown,
            },
            Self::Items { item, .. } => (**item).clone(),
            Self::Size(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// What two variables over it are: indexes or keys, and values.
    pub fn entries(&self) -> (Self, Self) {
        let key = match self {
            Self::Items { key: Some(key), .. } => (**key).clone(),
            Self::Items { key: None, .. } => Self::Size(1),
            Self::Node { def, .. } if matches!(def.shape, Kind::List(_)) => Self::Size(1),
            _ => Self::Unknown,
        };
        (key, self.indexed())
    }

    /// What one variable over it is: items of lists, keys of maps.
    pub fn iterated(&self) -> Self {
        match self {
            Self::Items { key: None, item, .. } => (**item).clone(),
            Self::Node { def, .. } if matches!(def.shape, Kind::List(_)) => self.indexed(),
            _ => self.entries().0,
        }
    }

    pub fn larger(self, other: Self) -> Self {
        if self.size() >= other.size() { self } else { other }
    }

    pub fn times(self, count: u64) -> Self {
        let (key, item) = self.entries();
        Self::map(self.size().saturating_mul(count), key, item)
    }
}

/// The shape of what a function gives.
pub(super) fn of_call(name: &str, args: Vec<Shape>) -> Shape {
    let sizes: Vec<u64> = args.iter().map(Shape::size).collect();
    let first = || args.first().cloned().unwrap_or(Shape::Unknown);
    match name {
        "_+_" => match (&args[0], &args[1]) {
            (Shape::Size(a), Shape::Size(b)) => Shape::Size(a.saturating_add(*b)),
            (list, other) => {
                let total = list.size().saturating_add(other.size());
                let item = list.iterated().larger(other.iterated());
                Shape::list(total, item)
            }
        },
        "_[_]" | "_[?_]" | "first" | "last" | "min" | "max" => first().indexed(),
        "dyn" | "optional.of" | "optional.ofNonZeroValue" | "value" | "reverse" | "slice" | "unwrapOpt" => first(),
        "or" | "orValue" => first().larger(args.get(1).cloned().unwrap_or(Shape::Unknown)),
        "string" | "bytes" | "lowerAscii" | "upperAscii" | "trim" | "substring" | "charAt" | "find" => {
            Shape::Size(sizes[0].max(64))
        }
        "split" | "findAll" => Shape::list(sizes[0], Shape::Size(sizes[0])),
        "replace" => Shape::Size(sizes[0].saturating_mul(sizes.get(2).copied().unwrap_or(1).max(1))),
        "join" => {
            let each = first().iterated().size().saturating_add(sizes.get(1).copied().unwrap_or(0));
            Shape::Size(sizes[0].saturating_mul(each))
        }
        "format" | "strings.quote" | "getQuery" | "validate" => Shape::Unknown,
        _ => Shape::Size(1),
    }
}

/// How many items of so many bytes fit in a request, each with what surrounds it.
fn fitting(least: u64, around: u64) -> u64 {
    (MAX_REQUEST - 2) / (least + around)
}

fn node_size(arena: &Arc<Arena>, def: &NodeDef) -> u64 {
    let rules = def.rules();
    let fitting = match &def.shape {
        Kind::List(item) => fitting(least_size(arena, item, 0), 1),
        Kind::Map(value) => fitting(least_size(arena, value, 0), 6),
        Kind::String | Kind::Bytes => match rules.format.as_deref() {
            Some("date") => 10,
            Some("date-time") => 32,
            Some("duration") => 32,
            _ if !rules.allowed.is_empty() => {
                rules.allowed.iter().filter_map(|value| value.as_str()).map(str::len).max().unwrap_or(0) as u64
            }
            _ => MAX_REQUEST - 2,
        },
        Kind::AnyObject | Kind::Any | Kind::IntOrString | Kind::Quantity => MAX_REQUEST - 2,
        _ => 1,
    };
    rules.max_length.map_or(fitting, |most| most.min(fitting.max(most)))
}

/// The least number of bytes of a value in JSON.
fn least_size(arena: &Arc<Arena>, def: &NodeDef, depth: usize) -> u64 {
    match &def.shape {
        Kind::Struct(id) if depth < MAX_DEPTH => {
            let required =
                arena.get(*id).fields.iter().filter(|field| field.required && field.node.rules().default.is_none());
            2 + required
                .map(|field| field.name.len() as u64 + 4 + least_size(arena, &field.node, depth + 1))
                .sum::<u64>()
        }
        Kind::Boolean => 4,
        Kind::Integer(_) | Kind::Number => 1,
        _ => 2,
    }
}
