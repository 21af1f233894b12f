//! The status of an object that nobody has looked at yet.

use crate::{
    doc::{Doc, Map},
    schema::{FieldView, Kind, Schema, Struct},
};

/// The empty status that a new object of a built-in kind has. Clients may count on it: a Go server holds it by value, so
/// that it is never left out. Custom kinds have none before somebody writes it.
pub fn empty_status(schema: &Schema) -> Option<Doc> {
    let status = schema.root().as_struct()?.field("status").filter(|field| field.is_value())?;
    Some(empty(status.node().as_struct()?))
}

/// Go writes a field by value even if it says nothing, unless it is told to leave that out.
fn is_always_there(field: FieldView<'_>) -> bool {
    let rules = field.node().rules();
    (rules.keeps_empty || rules.by_value) && !rules.zero_is_absent
}

fn empty(fields: Struct<'_>) -> Doc {
    let mut map = Map::new();
    for field in fields.fields() {
        let zero = match field.node().kind() {
            Kind::Object(inner) if field.is_value() => empty(inner),
            Kind::Integer(_) if is_always_there(field) => Doc::from(0),
            Kind::Boolean if is_always_there(field) => Doc::from(false),
            Kind::String if is_always_there(field) => Doc::from(""),
            _ => continue,
        };
        map.insert(field.name(), zero);
    }
    Doc::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schemas;

    #[test]
    fn a_status_is_what_go_writes_of_an_empty_one() {
        let status = |group: &str, kind: &str| {
            let schema = Schemas::builtin().schema(group, "v1", kind).expect("a built-in kind");
            empty_status(&schema).map(|status| String::from_utf8(status.to_json()).expect("text"))
        };
        assert_eq!(status("apps", "Deployment").as_deref(), Some("{}"));
        assert_eq!(status("apps", "ReplicaSet").as_deref(), Some(r#"{"replicas":0}"#));
        assert_eq!(status("", "Service").as_deref(), Some(r#"{"loadBalancer":{}}"#));
        let budget = r#"{"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}"#;
        assert_eq!(status("policy", "PodDisruptionBudget").as_deref(), Some(budget));
        assert_eq!(status("", "ConfigMap"), None);
    }
}
