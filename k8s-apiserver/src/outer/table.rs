//! Tables: the columns that people see, one row an object.

use k8s_core::{
    doc,
    doc::Doc,
    env::Env,
    object::Object,
    status::{ApiError, ApiResult},
    table::{Column, Table, table_for},
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
    env: Env,
    table: &'static Table,
    columns: Vec<u8>,
    include: Include,
}

impl Rows {
    /// The rows as `query` asks for them. 400 for an unknown `includeObject`.
    pub fn new(query: &str, env: &Env, group: &str, kind: &str) -> ApiResult<Self> {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("includeObject=")).unwrap_or("");
        let include = match asked {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => return Err(ApiError::bad_request("includeObject: must be one of None, Metadata, Object")),
        };
        let table = table_for(group, kind);
        let mut columns = br#""columnDefinitions":"#.to_vec();
        Doc::Array(table.columns().iter().map(definition).collect()).write_json(&mut columns);
        Ok(Self { env: env.clone(), table, columns, include })
    }

    /// Appends the field `columnDefinitions`.
    pub fn write_columns(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.columns);
    }

    /// Appends one row.
    pub fn write_row(&self, object: &Object, out: &mut Vec<u8>) {
        // What is stored was a document when it was written, so it reads as one again.
        let doc = Doc::parse(object.stored_json()).unwrap_or_default();
        out.extend_from_slice(br#"{"cells":"#);
        Doc::Array(self.table.cells(&doc, self.env.now())).write_json(out);
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

fn definition(column: &Column) -> Doc {
    doc!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": i64::from(column.priority)
    })
}
