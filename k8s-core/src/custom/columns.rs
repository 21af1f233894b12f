//! The columns in which people see a custom kind.

use super::JsonPath;
use crate::{
    doc,
    doc::{Doc, Text},
    env::Timestamp,
    table::human_duration,
};

/// One column: what it is called, and where its value is.
#[derive(Debug, Clone)]
pub struct CustomColumn {
    /// As discovery of tables has it.
    pub definition: Doc,
    kind: Text,
    path: Option<JsonPath>,
}

/// The columns of a version; the age alone if it names none.
pub(super) fn columns_of(version: &Doc) -> Vec<CustomColumn> {
    let listed = version.get("additionalPrinterColumns").map_or(&[][..], Doc::items);
    if listed.is_empty() {
        let age = doc!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "The time at which the object was created, as the time that has passed since."});
        return vec![CustomColumn::new(&age)];
    }
    listed.iter().map(CustomColumn::new).collect()
}

impl CustomColumn {
    fn new(column: &Doc) -> Self {
        let priority = column.get("priority").and_then(Doc::as_i64).unwrap_or(0);
        let text = |name: &str| column.str_at(&[name]);
        let description = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")),
            description => description.to_owned(),
        };
        Self {
            definition: doc!({"name": text("name"), "type": text("type"), "format": text("format"),
                "description": description, "priority": priority}),
            kind: text("type").into(),
            path: JsonPath::parse(text("jsonPath")).ok(),
        }
    }

    /// What stands in the column for an object; null if there is nothing of the column's type.
    pub fn cell(&self, doc: &Doc, now: Timestamp) -> Doc {
        let Some(value) = self.path.as_ref().and_then(|path| path.first(doc)) else { return Doc::Null };
        match (self.kind.as_str(), value) {
            (_, Doc::Null) => Doc::Null,
            ("string", Doc::String(text)) => text.clone().into(),
            ("string", other) => other.to_string().into(),
            ("integer", Doc::Number(number)) => {
                number.as_i64().or_else(|| Some(number.as_f64() as i64)).map_or(Doc::Null, Doc::from)
            }
            ("number", Doc::Number(_)) | ("boolean", Doc::Bool(_)) => value.clone(),
            ("date", Doc::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => human_duration(now.as_second() - time.as_second()).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Doc::Null,
        }
    }
}
