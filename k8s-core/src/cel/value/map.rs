//! Maps: an object of a document, or entries made while evaluating.

use std::{cmp::Ordering, rc::Rc};

use super::{Node, Str, Value};
use crate::{
    cel::{EvalError, escape},
    doc,
    schema::Kind,
};

/// A map. Cheap to clone.
#[derive(Clone)]
pub struct Map<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Doc { map: &'a doc::Map, node: Option<Node<'a>> },
    Owned(Rc<Vec<(Key<'a>, Value<'a>)>>),
}

/// What may be a key. An `int` and a `uint` of one value are the same key.
#[derive(Clone)]
#[allow(missing_docs)] // As `Value`.
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Str<'a>),
}

impl<'a> Key<'a> {
    /// A value as a key; whole floats are keys too when looking up.
    pub(in crate::cel) fn of(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Int(value) => Some(Self::Int(*value)),
            Value::Uint(value) => Some(Self::Uint(*value)),
            Value::String(text) => Some(Self::String(text.clone())),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e18 => Some(Self::Int(*value as i64)),
            _ => None,
        }
    }

    /// The key as a value.
    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(text.clone()),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(value) => (0, i128::from(*value), ""),
            Self::Int(value) => (1, i128::from(*value), ""),
            Self::Uint(value) => (1, i128::from(*value), ""),
            Self::String(text) => (2, 0, text.as_str()),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }

    /// As messages show it.
    pub(in crate::cel) fn show(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::String(text) => text.as_str().to_owned(),
        }
    }
}

/// Collects the entries of a map.
#[derive(Default)]
pub struct MapBuilder<'a>(Vec<(Key<'a>, Value<'a>)>);

impl<'a> MapBuilder<'a> {
    /// Adds an entry.
    pub fn add(&mut self, key: &Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
        let key = match key {
            Value::Double(_) => None,
            other => Key::of(other),
        };
        let key = key.ok_or_else(|| EvalError::new("unsupported key type"))?;
        self.0.push((key, value));
        Ok(())
    }

    /// The map; no two keys may be equal.
    pub fn build(mut self) -> Result<Value<'a>, EvalError> {
        self.0.sort_by(|a, b| a.0.order(&b.0));
        for pair in self.0.windows(2) {
            if pair[0].0.order(&pair[1].0) == Ordering::Equal {
                return Err(EvalError::new(format!("Failed with repeated key: {}", pair[0].0.show())));
            }
        }
        Ok(Value::Map(Map(Repr::Owned(Rc::new(self.0)))))
    }
}

impl<'a> Map<'a> {
    pub(super) fn of_doc(map: &'a doc::Map, node: Option<Node<'a>>) -> Self {
        Self(Repr::Doc { map, node })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Doc { map, .. } => map.len(),
            Repr::Owned(entries) => entries.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the schema says its fields; their names are then escaped where they are no identifiers.
    fn fields(&self) -> Option<Node<'a>> {
        match &self.0 {
            Repr::Doc { node: Some(node), .. } if matches!(node.kind(), Kind::Object(_)) => Some(*node),
            _ => None,
        }
    }

    /// The value of a field as `a.b` names it.
    pub(in crate::cel) fn select(&self, name: &str) -> Option<Value<'a>> {
        if name.contains("__") && self.fields().is_some() {
            return self.get_text(&escape::unescape(name)?);
        }
        self.get_text(name)
    }

    /// The value of a key that is text.
    pub fn get_text(&self, key: &str) -> Option<Value<'a>> {
        match &self.0 {
            Repr::Doc { map, node } => {
                let value = map.get(key)?;
                let node = node.and_then(|node| node.field(key).or_else(|| node.as_struct()?.additional()));
                // In an object `null` is absence, but where the schema gives it a meaning.
                if value.is_null() && self.fields().is_some() && !node.is_some_and(|node| node.rules().nullable) {
                    return None;
                }
                Some(Value::read(value, node))
            }
            Repr::Owned(_) => self.get(&Key::String(Str::Shared(key.into()))),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (&self.0, key) {
            (Repr::Doc { .. }, Key::String(text)) => self.get_text(text.as_str()),
            (Repr::Doc { .. }, _) => None,
            (Repr::Owned(entries), key) => {
                let at = entries.binary_search_by(|(found, _)| found.order(key)).ok()?;
                Some(entries[at].1.clone())
            }
        }
    }

    /// The entry at a place in the order of iteration.
    pub fn at(&self, place: usize) -> Option<(Value<'a>, Value<'a>)> {
        match &self.0 {
            Repr::Doc { map, node } => {
                let (key, value) = map.at(place)?;
                let node = node.and_then(|node| node.field(key));
                Some((Value::String(Str::Borrowed(key)), Value::read(value, node)))
            }
            Repr::Owned(entries) => entries.get(place).map(|(key, value)| (key.value(), value.clone())),
        }
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> + use<'_, 'a> {
        (0..self.len()).filter_map(|place| self.at(place))
    }
}
