//! Tables: the columns that people see, one row an object.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    env::Timestamp,
    object::Object,
    status::{ApiError, ApiResult},
};

use crate::discovery::Tabulate;

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
    tabulate: Arc<dyn Tabulate>,
    include: Include,
    now: Timestamp,
}

impl Rows {
    /// The rows as `query` asks for them; ages are as of `now`. 400 for an unknown `includeObject`.
    pub fn new(tabulate: Arc<dyn Tabulate>, query: &str, now: Timestamp) -> ApiResult<Self> {
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("includeObject=")).unwrap_or("");
        let include = match asked {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => {
                let message = "includeObject: must be one of None, Metadata, Object";
                return Err(ApiError::bad_request(message));
            }
        };
        let mut columns = br#""columnDefinitions":"#.to_vec();
        tabulate.columns().write_json(&mut columns);
        Ok(Self { columns, tabulate, include, now })
    }

    /// Appends the field `columnDefinitions`.
    pub fn write_columns(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.columns);
    }

    /// Appends one row. An object that cannot be read has its name alone.
    pub fn write_row(&self, object: &Object, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"cells":"#);
        Doc::Array(self.tabulate.cells(object, self.now)).write_json(out);
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
