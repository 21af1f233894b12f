//! One field of an object in flight, read out of its JSON without building the rest.

use std::{borrow::Cow, fmt};

use k8s_core::object::{Object, is_routed_by_node};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The text of a selectable field. What upstream's selectors read as a zero value is answered as such.
pub fn field<'a>(object: &'a Object, path: &str) -> Option<Cow<'a, str>> {
    match path {
        "metadata.name" => return Some(Cow::Borrowed(&object.meta.name)),
        "metadata.namespace" => return Some(Cow::Borrowed(&object.meta.namespace)),
        "spec.nodeName" if is_routed_by_node(&object.meta.kind) => {
            return Some(Cow::Borrowed(&object.meta.node_name));
        }
        "status.successful" => return Some(read(object.stored_json(), "status.succeeded").unwrap_or("0".into())),
        _ => {}
    }
    let found = read(object.stored_json(), path).filter(|text| !text.is_empty());
    found.or_else(|| fallback(object, path))
}

/// What an absent field reads as: the zero value of its type, or the field that stands in for it.
fn fallback<'a>(object: &'a Object, path: &str) -> Option<Cow<'a, str>> {
    match path {
        "spec.unschedulable" | "spec.hostNetwork" => Some("false".into()),
        "status.replicas" => Some("0".into()),
        "source" => {
            read(object.stored_json(), "source.component").or_else(|| read(object.stored_json(), "reportingComponent"))
        }
        _ => None,
    }
}

fn read<'a>(json: &'a [u8], path: &str) -> Option<Cow<'a, str>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Step { path }.deserialize(&mut deserializer).ok().flatten()
}

/// Follows the first step of a path and ignores everything else.
struct Step<'p> {
    path: &'p str,
}

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (step, rest) = self.path.split_once('.').unwrap_or((self.path, ""));
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == step && !step.is_empty() {
                found = map.next_value_seed(Step { path: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.path.is_empty().then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.path.is_empty().then(|| Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.path.is_empty().then(|| value.to_string().into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.path.is_empty().then(|| value.to_string().into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.path.is_empty().then(|| value.to_string().into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_where_they_stand() {
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n"},
            "spec":{"nodeName":"one","x":[{"phase":"no"}],"hostNetwork":true},"status":{"phase":"Run\u006eing","n":3}}"#;
        let object = Object::from_json(json.into(), Some(1)).unwrap();
        let cases = [
            ("metadata.name", Some("a")),
            ("spec.nodeName", Some("one")),
            ("status.phase", Some("Running")),
            ("status.n", Some("3")),
            ("spec.hostNetwork", Some("true")),
            ("spec.unschedulable", Some("false")),
            ("spec.x.phase", None),
            ("status", None),
            ("kind", Some("Pod")),
        ];
        for (path, expected) in cases {
            assert_eq!(field(&object, path).as_deref(), expected, "{path}");
        }
    }
}
