//! The one form of the write path: a compact JSON tree that keeps order, duplicates' whereabouts and exact numbers.
//!
//! A request body becomes a [`Doc`] once; defaulting, patches, apply, pruning, validation and admission work on it,
//! and its JSON is written once, at commit. Nothing here knows a schema.

mod de;
mod edit;
mod map;
mod number;
mod parse;
mod ser;
mod write;

pub use de::DecodeError;
pub use map::Map;
pub use number::Number;
pub use parse::{Duplicate, MAX_DEPTH, MAX_DUPLICATES, ParseError};
pub use ser::EncodeError;

/// The string of the tree: up to 24 bytes live inline.
pub type Text = compact_str::CompactString;

/// A JSON value.
///
/// Equality is semantic: the order of an object's fields does not matter, and numbers are equal when their values
/// are (`1`, `1.0` and `1e0` are). Array order matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Doc {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string.
    String(Text),
    /// An array.
    Array(Vec<Doc>),
    /// An object.
    Object(Map),
}

impl Doc {
    /// Parses JSON text (RFC 8259, strictly; see [`ParseError`]). Of duplicate keys the last one wins, in the place
    /// of the first.
    pub fn parse(json: &[u8]) -> Result<Self, ParseError> {
        parse::parse(json, None)
    }

    /// As [`Doc::parse`], also appending every duplicate key to `duplicates`, at most [`MAX_DUPLICATES`] of them.
    pub fn parse_with(json: &[u8], duplicates: &mut Vec<Duplicate>) -> Result<Self, ParseError> {
        parse::parse(json, Some(duplicates))
    }

    /// Appends the JSON text, without any white space and with every number as it was written.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        write::value(self, out);
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.write_json(&mut out);
        out
    }

    /// Any serializable value as a tree.
    pub fn from_serialize<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        value.serialize(ser::ToDoc)
    }

    /// A typed value out of the tree, without going through text.
    pub fn deserialize<T: serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        T::deserialize(self)
    }

    /// An empty object.
    pub fn object() -> Self {
        Self::Object(Map::new())
    }

    /// What a user calls the type of this value: `null`, `boolean`, `number`, `string`, `array` or `object`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

/// Shows the JSON text.
impl std::fmt::Display for Doc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_json()))
    }
}

/// A [`Doc`] in JSON's own notation; any expression that converts into a `Doc` may stand for a value.
///
/// ```
/// use k8s_core::doc;
/// let replicas = 3;
/// let deployment = doc!({"kind": "Deployment", "spec": {"replicas": replicas, "paused": false, "args": [null, -1]}});
/// assert_eq!(deployment.at(&["spec", "replicas"]).and_then(|r| r.as_i64()), Some(3));
/// ```
#[macro_export]
macro_rules! doc {
    (null) => { $crate::doc::Doc::Null };
    ([ $($items:tt)* ]) => {{
        #[allow(unused_mut)]
        let mut items = ::std::vec::Vec::<$crate::doc::Doc>::from([]);
        $crate::doc!(@array items $($items)*);
        $crate::doc::Doc::Array(items)
    }};
    ({ $($fields:tt)* }) => {{
        #[allow(unused_mut)]
        let mut fields = $crate::doc::Map::new();
        $crate::doc!(@object fields $($fields)*);
        $crate::doc::Doc::Object(fields)
    }};
    (@array $to:ident) => {};
    (@array $to:ident null $(, $($rest:tt)*)?) => {
        $to.push($crate::doc::Doc::Null); $crate::doc!(@array $to $($($rest)*)?);
    };
    (@array $to:ident [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $to.push($crate::doc!([ $($inner)* ])); $crate::doc!(@array $to $($($rest)*)?);
    };
    (@array $to:ident { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $to.push($crate::doc!({ $($inner)* })); $crate::doc!(@array $to $($($rest)*)?);
    };
    (@array $to:ident $value:expr $(, $($rest:tt)*)?) => {
        $to.push($crate::doc::Doc::from($value)); $crate::doc!(@array $to $($($rest)*)?);
    };
    (@object $to:ident) => {};
    (@object $to:ident $key:tt : null $(, $($rest:tt)*)?) => {
        $to.insert($key, $crate::doc::Doc::Null); $crate::doc!(@object $to $($($rest)*)?);
    };
    (@object $to:ident $key:tt : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $to.insert($key, $crate::doc!([ $($inner)* ])); $crate::doc!(@object $to $($($rest)*)?);
    };
    (@object $to:ident $key:tt : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $to.insert($key, $crate::doc!({ $($inner)* })); $crate::doc!(@object $to $($($rest)*)?);
    };
    (@object $to:ident $key:tt : $value:expr $(, $($rest:tt)*)?) => {
        $to.insert($key, $crate::doc::Doc::from($value)); $crate::doc!(@object $to $($($rest)*)?);
    };
    ($value:expr) => { $crate::doc::Doc::from($value) };
}

#[cfg(test)]
mod tests;
