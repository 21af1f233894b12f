//! Reading and changing the tree by name and by path.

use super::{Doc, Map, Number, Text};

impl Doc {
    /// The field `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Doc> {
        self.as_object()?.get(key)
    }

    /// The field `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Doc> {
        self.as_object_mut()?.get_mut(key)
    }

    /// The value at `path`; a step into an array is a decimal index.
    pub fn at(&self, path: &[&str]) -> Option<&Doc> {
        path.iter().try_fold(self, |doc, step| match doc {
            Doc::Array(items) => items.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        })
    }

    /// The value at `path`, to change.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Doc> {
        path.iter().try_fold(self, |doc, step| match doc {
            Doc::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            other => other.get_mut(step),
        })
    }

    /// The text at `path`; empty when there is none.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Doc::as_str).unwrap_or("")
    }

    /// Sets the value at `path`, creating objects on the way; a scalar or a missing array index in the way becomes
    /// an object.
    pub fn set_at(&mut self, path: &[&str], value: Doc) {
        *self.entry_at(path) = value;
    }

    /// The value at `path`, which is created as `null`, with objects on the way, if it is not there.
    pub fn entry_at(&mut self, path: &[&str]) -> &mut Doc {
        let Some((step, rest)) = path.split_first() else { return self };
        let reachable = matches!(self, Doc::Array(items) if step.parse::<usize>().is_ok_and(|at| at < items.len()));
        if reachable {
            return match self {
                // Invariant: `reachable` says that the step is an index within the array.
                Doc::Array(items) => items[step.parse::<usize>().unwrap_or(0)].entry_at(rest),
                other => other,
            };
        }
        self.make_object().get_or_insert_with(step, || Doc::Null).entry_at(rest)
    }

    /// Removes the value at `path` and returns it.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Doc> {
        let (last, parents) = path.split_last()?;
        match self.at_mut(parents)? {
            Doc::Object(map) => map.remove(last),
            Doc::Array(items) => {
                let place: usize = last.parse().ok()?;
                (place < items.len()).then(|| items.remove(place))
            }
            _ => None,
        }
    }

    /// This object's fields; anything else first becomes an empty object.
    pub fn make_object(&mut self) -> &mut Map {
        if !matches!(self, Doc::Object(_)) {
            *self = Doc::object();
        }
        match self {
            Doc::Object(map) => map,
            // Invariant: the line above made it an object.
            _ => unreachable!("just made an object"),
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Doc::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value, if this is an integer in the range of `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The value, if this is an integer in the range of `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The nearest float, if this is a number.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number().map(Number::as_f64)
    }

    /// The number, if this is one.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Doc::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Doc::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&Vec<Doc>> {
        match self {
            Doc::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The items, to change.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Doc>> {
        match self {
            Doc::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The fields, if this is an object.
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Doc::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The fields, to change.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Doc::Object(map) => Some(map),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Doc::Null)
    }

    /// The items, or none if this is no array.
    pub fn items(&self) -> &[Doc] {
        self.as_array().map_or(&[], Vec::as_slice)
    }

    /// The items to change, or none if this is no array.
    pub fn items_mut(&mut self) -> &mut [Doc] {
        self.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
    }

    /// Takes the value out, leaving `null`.
    pub fn take(&mut self) -> Doc {
        std::mem::take(self)
    }
}

impl From<()> for Doc {
    fn from((): ()) -> Self {
        Doc::Null
    }
}

impl From<bool> for Doc {
    fn from(value: bool) -> Self {
        Doc::Bool(value)
    }
}

macro_rules! from_integers {
    ($wide:ty: $($narrow:ty)*) => {$(
        impl From<$narrow> for Doc {
            fn from(value: $narrow) -> Self {
                Doc::Number(<$wide>::from(value).into())
            }
        }
    )*};
}
from_integers!(i64: i8 i16 i32 i64);
from_integers!(u64: u8 u16 u32 u64);

/// The number; `null` if it is not finite, which JSON cannot say.
impl From<f64> for Doc {
    fn from(value: f64) -> Self {
        Number::from_f64(value).map_or(Doc::Null, Doc::Number)
    }
}

impl From<Number> for Doc {
    fn from(value: Number) -> Self {
        Doc::Number(value)
    }
}

impl From<&str> for Doc {
    fn from(value: &str) -> Self {
        Doc::String(value.into())
    }
}

impl From<String> for Doc {
    fn from(value: String) -> Self {
        Doc::String(value.into())
    }
}

impl From<Text> for Doc {
    fn from(value: Text) -> Self {
        Doc::String(value)
    }
}

impl From<Map> for Doc {
    fn from(value: Map) -> Self {
        Doc::Object(value)
    }
}

impl<T: Into<Doc>> From<Vec<T>> for Doc {
    fn from(items: Vec<T>) -> Self {
        Doc::Array(items.into_iter().map(Into::into).collect())
    }
}

/// The value, or `null`.
impl<T: Into<Doc>> From<Option<T>> for Doc {
    fn from(value: Option<T>) -> Self {
        value.map_or(Doc::Null, Into::into)
    }
}
