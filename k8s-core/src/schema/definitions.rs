//! The definitions with their descriptions, for OpenAPI and `explain` alone: unpacked on demand, kept nowhere.

use crate::doc::Doc;

/// Group, version and kind; the group is empty for the core.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// Such as `apps`.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Deployment`.
    pub kind: String,
}

/// One definition of the OpenAPI document.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Such as `io.k8s.api.apps.v1.Deployment`.
    pub name: String,
    /// The kind, if the definition is of one.
    pub gvk: Option<Gvk>,
    /// `type`, `description`, `properties`, `required`, ... as upstream publishes them; references are
    /// `{"$ref": "#/definitions/NAME"}`.
    pub schema: Doc,
}

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions.json.gz"));

/// Reads all definitions.
pub(super) fn unpack() -> Vec<Definition> {
    let mut text = Vec::new();
    let mut unzip = flate2::read::GzDecoder::new(PACKED);
    // Invariant: the build script packed it; the test of this module unpacks it.
    std::io::Read::read_to_end(&mut unzip, &mut text).unwrap_or_else(|why| unreachable!("packed definitions: {why}"));
    let rows = Doc::parse(&text).unwrap_or_else(|why| unreachable!("packed definitions: {why}"));
    let Doc::Array(rows) = rows else { return Vec::new() };
    rows.into_iter().map(definition).collect()
}

fn definition(mut row: Doc) -> Definition {
    let gvk = row.get("gvk").filter(|gvk| !gvk.is_null()).map(|gvk| Gvk {
        group: gvk.str_at(&["0"]).into(),
        version: gvk.str_at(&["1"]).into(),
        kind: gvk.str_at(&["2"]).into(),
    });
    let schema = row.get_mut("schema").map(Doc::take).unwrap_or_default();
    Definition { name: row.str_at(&["name"]).into(), gvk, schema }
}
