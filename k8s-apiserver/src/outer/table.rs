//! Tables: the columns that people see, one row an object.

use k8s_core::{
    doc,
    doc::Doc,
    object::Object,
    status::{ApiError, ApiResult},
};

/// What each row carries beside its cells: `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// Writes the columns and rows of one table.
pub struct Rows {
    columns: Vec<u8>,
    include: Include,
}

impl Rows {
    /// The rows as `query` asks for them. 400 for an unknown `includeObject`.
    pub fn new(query: &str) -> ApiResult<Self> {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("includeObject=")).unwrap_or("");
        let include = match asked {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => return Err(ApiError::bad_request("includeObject: must be one of None, Metadata, Object")),
        };
        let mut columns = br#""columnDefinitions":"#.to_vec();
        columns_of_any_kind().write_json(&mut columns);
        Ok(Self { columns, include })
    }

    /// Appends the field `columnDefinitions`.
    pub fn write_columns(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.columns);
    }

    /// Appends one row.
    pub fn write_row(&self, object: &Object, out: &mut Vec<u8>) {
        let created = object.meta.created.map_or(Doc::Null, |created| Doc::from(created.to_string()));
        out.extend_from_slice(br#"{"cells":"#);
        Doc::Array(vec![Doc::from(object.meta.name.as_str()), created]).write_json(out);
        match self.include {
            Include::Nothing => out.extend_from_slice(br#","object":null"#),
            Include::Metadata => {
                out.extend_from_slice(br#","object":"#);
                super::encode::write_partial(object, out);
            }
            Include::Object => {
                out.extend_from_slice(br#","object":"#);
                object.write_json(out);
            }
        }
        out.push(b'}');
    }
}

/// What every kind has: its name, and since when.
fn columns_of_any_kind() -> Doc {
    doc!([
        {"name": "Name", "type": "string", "format": "name", "description": "The name.", "priority": 0},
        {"name": "Created At", "type": "date", "format": "", "description": "Since when it exists.", "priority": 0}
    ])
}
