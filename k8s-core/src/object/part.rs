//! One field of an object in flight, decoded out of its JSON without building the rest.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Object;

impl Object {
    /// The field at the end of `path`; `None` if it is absent, `null`, or of another type.
    ///
    /// For those who need one thing of many objects: [`Object::typed`] builds all of it.
    pub fn part<'a, T: Deserialize<'a>>(&'a self, path: &[&str]) -> Option<T> {
        let mut deserializer = serde_json::Deserializer::from_slice(self.stored_json());
        Step { path, found: PhantomData }.deserialize(&mut deserializer).ok().flatten()
    }
}

/// Follows the first step of a path and ignores everything else.
struct Step<'p, T> {
    path: &'p [&'p str],
    found: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Step<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path {
            [] => Option::<T>::deserialize(deserializer),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Step<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Is(is_next)) = map.next_key_seed(Key(self.path[0]))? {
            if is_next {
                found = map.next_value_seed(Step { path: &self.path[1..], found: PhantomData })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a key without keeping it.
struct Key<'p>(&'p str);

/// Whether a key is the one that is looked for.
struct Is(bool);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Is;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Is, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Is;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Is, E> {
        Ok(Is(name == self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_part_is_read_where_it_stands() {
        let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"selector":{"not":"this"},
            "spec":{"ports":[{"selector":1}],"selector":{"app":"w\u0065b"},"type":"ClusterIP","x":null},"y":[1]}"#;
        let object = Object::from_json(json.into(), Some(1)).unwrap();
        let selector: Option<BTreeMap<String, String>> = object.part(&["spec", "selector"]);
        assert_eq!(selector, Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])));
        assert_eq!(object.part::<String>(&["spec", "type"]).as_deref(), Some("ClusterIP"));
        assert_eq!(object.part::<String>(&["spec", "x"]), None);
        assert_eq!(object.part::<String>(&["spec", "z"]), None);
        assert_eq!(object.part::<String>(&["spec", "ports"]), None, "another type");
        assert_eq!(object.part::<String>(&["y", "z"]), None, "not below an array");
    }
}
