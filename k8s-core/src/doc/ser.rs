//! serde's data model into the tree, and the tree into serde's.

use std::fmt;

use serde::ser::{self, Serialize, SerializeMap, SerializeSeq, Serializer};

use super::{Doc, Map, Number, Text};

/// Why a value has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EncodeError {}

impl ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Integers as such, the rest as the nearest `f64`; fails for numbers beyond it. [`Doc::write_json`] is exact.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(value) = self.as_i64() {
            to.serialize_i64(value)
        } else if let Some(value) = self.as_u64() {
            to.serialize_u64(value)
        } else if self.as_f64().is_finite() {
            to.serialize_f64(self.as_f64())
        } else {
            Err(ser::Error::custom(format_args!("number {self} is out of range")))
        }
    }
}

impl Serialize for Doc {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Doc::Null => to.serialize_unit(),
            Doc::Bool(value) => to.serialize_bool(*value),
            Doc::Number(number) => number.serialize(to),
            Doc::String(text) => to.serialize_str(text),
            Doc::Array(items) => {
                let mut seq = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Doc::Object(map) => {
                let mut fields = to.serialize_map(Some(map.len()))?;
                for (key, value) in map.iter() {
                    fields.serialize_entry(key, value)?;
                }
                fields.end()
            }
        }
    }
}

/// The serializer that builds a tree.
pub(super) struct ToDoc;

macro_rules! scalars {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<Doc, EncodeError> {
            Ok(Doc::from(value))
        }
    )*};
}

impl Serializer for ToDoc {
    type Ok = Doc;
    type Error = EncodeError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    scalars! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f64: f64,
        serialize_str: &str,
    }

    fn serialize_f32(self, value: f32) -> Result<Doc, EncodeError> {
        Ok(Doc::from(f64::from(value)))
    }

    fn serialize_char(self, value: char) -> Result<Doc, EncodeError> {
        Ok(Doc::from(String::from(value)))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Doc, EncodeError> {
        Ok(Doc::Array(value.iter().map(|&byte| Doc::from(byte)).collect()))
    }

    fn serialize_none(self) -> Result<Doc, EncodeError> {
        Ok(Doc::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Doc, EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Doc, EncodeError> {
        Ok(Doc::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Doc, EncodeError> {
        Ok(Doc::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Doc, EncodeError> {
        Ok(Doc::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Doc, EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Doc, EncodeError> {
        Ok(wrap(Some(variant), value.serialize(ToDoc)?))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items, EncodeError> {
        Ok(Items { items: Vec::with_capacity(length.unwrap_or(0).min(1024)), variant: None })
    }

    fn serialize_tuple(self, length: usize) -> Result<Items, EncodeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items, EncodeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items, EncodeError> {
        Ok(Items { items: Vec::new(), variant: Some(variant) })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, EncodeError> {
        Ok(Fields { map: Map::new(), key: Text::default(), variant: None })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, EncodeError> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, EncodeError> {
        Ok(Fields { map: Map::new(), key: Text::default(), variant: Some(variant) })
    }
}

/// A variant with content is an object with one field, as serde's JSON has it.
fn wrap(variant: Option<&'static str>, doc: Doc) -> Doc {
    match variant {
        Some(name) => Doc::Object(Map::from_iter([(name, doc)])),
        None => doc,
    }
}

/// An array in the making.
pub(super) struct Items {
    items: Vec<Doc>,
    variant: Option<&'static str>,
}

impl SerializeSeq for Items {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.items.push(value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, EncodeError> {
        Ok(wrap(self.variant, Doc::Array(self.items)))
    }
}

impl ser::SerializeTuple for Items {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Doc, EncodeError> {
        SerializeSeq::end(self)
    }
}

impl ser::SerializeTupleStruct for Items {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Doc, EncodeError> {
        SerializeSeq::end(self)
    }
}

impl ser::SerializeTupleVariant for Items {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Doc, EncodeError> {
        SerializeSeq::end(self)
    }
}

/// An object in the making.
pub(super) struct Fields {
    map: Map,
    key: Text,
    variant: Option<&'static str>,
}

impl SerializeMap for Fields {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.key = match key.serialize(ToDoc)? {
            Doc::String(text) => text,
            Doc::Number(number) => number.as_str().into(),
            Doc::Bool(value) => if value { "true" } else { "false" }.into(),
            other => return Err(EncodeError(format!("a field name must be a string, not {}", other.type_name()))),
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let key = std::mem::take(&mut self.key);
        self.map.insert(key, value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, EncodeError> {
        Ok(wrap(self.variant, Doc::Object(self.map)))
    }
}

impl ser::SerializeStruct for Fields {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), EncodeError> {
        self.map.insert(key, value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, EncodeError> {
        SerializeMap::end(self)
    }
}

impl ser::SerializeStructVariant for Fields {
    type Ok = Doc;
    type Error = EncodeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), EncodeError> {
        ser::SerializeStruct::serialize_field(self, key, value)
    }
    fn end(self) -> Result<Doc, EncodeError> {
        SerializeMap::end(self)
    }
}
