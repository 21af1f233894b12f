//! What an overlay line (or a custom kind's schema) says about a place beyond its shape.

use crate::doc::{Doc, Text};

/// The rules about one place. All absent by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// What stands here when nothing was said.
    pub default: Option<Doc>,
    /// The permitted values; empty means any.
    pub allowed: Vec<Doc>,
    /// The least number.
    pub min: Option<f64>,
    /// The greatest number.
    pub max: Option<f64>,
    /// Whether `min` itself is excluded.
    pub exclusive_min: bool,
    /// Whether `max` itself is excluded.
    pub exclusive_max: bool,
    /// What numbers must be a multiple of.
    pub multiple_of: Option<f64>,
    /// The least length of a string (in characters), list or map.
    pub min_length: Option<u64>,
    /// The greatest length of a string (in characters), list or map.
    pub max_length: Option<u64>,
    /// The regular expression (as written) that a string must match.
    pub pattern: Option<Text>,
    /// The named format of a string, such as `date-time`.
    pub format: Option<Text>,
    /// Whether updates may not change it.
    pub immutable: bool,
    /// Whether the zero value (`""`, `0`, `false`) is the same as absence, and is dropped.
    pub zero_is_absent: bool,
    /// Whether an empty list or map is written out; others are the same as absence, and are dropped.
    pub keeps_empty: bool,
    /// Whether `null` is a value of its own, not the same as absence.
    pub nullable: bool,
    /// Whether a map or object is owned as a whole by server-side apply.
    pub atomic: bool,
    /// Whether an object is owned field by field although its struct is owned as a whole elsewhere.
    pub granular: bool,
    /// How a list is identified and merged by server-side apply.
    pub list: ListType,
    /// The fields that identify an item of a `Map` list.
    pub keys: Vec<Text>,
    /// How strategic merge patch treats this place.
    pub patch: PatchStrategy,
    /// The field by which strategic merge patch identifies an item.
    pub merge_key: Option<Text>,
    /// Whether Go holds it by value: protobuf then writes it even where JSON leaves it out. Text and numbers whose
    /// zero value is dropped or kept are held by value without this; see [`super::FieldView::is_value`].
    pub by_value: bool,
    /// What may stand here instead of a schema, where protobuf tells the two apart and JSON does not.
    pub schema_or: Option<SchemaOr>,
}

impl Rules {
    /// No rule at all.
    pub(super) const NONE: &'static Self = &Self {
        default: None,
        allowed: Vec::new(),
        min: None,
        max: None,
        exclusive_min: false,
        exclusive_max: false,
        multiple_of: None,
        min_length: None,
        max_length: None,
        pattern: None,
        format: None,
        immutable: false,
        zero_is_absent: false,
        keeps_empty: false,
        nullable: false,
        atomic: false,
        granular: false,
        list: ListType::Atomic,
        keys: Vec::new(),
        patch: PatchStrategy { merge: false, replace: false, retain_keys: false },
        merge_key: None,
        by_value: false,
        schema_or: None,
    };
}

/// The places of a custom kind's schema that hold a schema or something else: in JSON any value, in protobuf a message
/// of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOr {
    /// Or `true` or `false`: `additionalProperties`.
    Bool,
    /// Or a list of schemas: `items`.
    Schemas,
    /// Or a list of names: `dependencies`.
    Names,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Owned and replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects identified by key fields.
    Map,
}

/// `x-kubernetes-patch-strategy`: how strategic merge patch treats a list or an object.
///
/// Without any flag a list is replaced and an object merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// A list's items are merged by the merge key (or as a set of scalars without one).
    pub merge: bool,
    /// An object is replaced, not merged.
    pub replace: bool,
    /// Fields that the patch does not name are cleared (of an object, or of a merged item).
    pub retain_keys: bool,
}
