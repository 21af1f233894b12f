//! Tables: the columns that people see, one row an object.

use std::sync::Arc;

use k8s_core::{
    custom::CustomKind,
    doc,
    doc::Doc,
    env::Env,
    object::Object,
    registry::ResourceInfo,
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
    cells: Cells,
    columns: Vec<u8>,
    include: Include,
}

/// Where the cells of a row come from.
enum Cells {
    BuiltIn(&'static Table),
    Custom(Arc<CustomKind>),
}

impl Rows {
    /// The rows as `query` asks for them. 400 for an unknown `includeObject`.
    pub fn new(query: &str, env: &Env, info: &ResourceInfo) -> ApiResult<Self> {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("includeObject=")).unwrap_or("");
        let include = match asked {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => return Err(ApiError::bad_request("includeObject: must be one of None, Metadata, Object")),
        };
        let table = table_for(&info.group, &info.kind);
        let (cells, definitions) = match &info.custom {
            Some(custom) => {
                let name = table.columns().first().map(definition);
                let own = custom.columns.iter().map(|column| column.definition.clone());
                (Cells::Custom(custom.clone()), name.into_iter().chain(own).collect())
            }
            None => (Cells::BuiltIn(table), table.columns().iter().map(definition).collect()),
        };
        let mut columns = br#""columnDefinitions":"#.to_vec();
        Doc::Array(definitions).write_json(&mut columns);
        Ok(Self { env: env.clone(), cells, columns, include })
    }

    /// Appends the field `columnDefinitions`.
    pub fn write_columns(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.columns);
    }

    fn cells(&self, object: &Object, doc: &Doc) -> Vec<Doc> {
        let now = self.env.now();
        match &self.cells {
            Cells::BuiltIn(table) => table.cells(doc, now),
            Cells::Custom(custom) => {
                let own = custom.columns.iter().map(|column| column.cell(doc, now));
                std::iter::once(object.meta.name.clone().into()).chain(own).collect()
            }
        }
    }

    /// Appends one row.
    pub fn write_row(&self, object: &Object, out: &mut Vec<u8>) {
        // What is stored was a document when it was written, so it reads as one again.
        let doc = Doc::parse(object.stored_json()).unwrap_or_default();
        out.extend_from_slice(br#"{"cells":"#);
        Doc::Array(self.cells(object, &doc)).write_json(out);
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
