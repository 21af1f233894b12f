//! What is served: the documents by which clients find groups, versions and resources.
//!
//! Three forms of one list: `/api` and `/apis` with their per-version resource lists (legacy), and the aggregated
//! document that newer clients get in one round trip (`apidiscovery.k8s.io/v2`). Made anew only when the list
//! changes.

mod aggregated;
mod catalog;
mod legacy;

#[cfg(test)]
mod tests;

pub(crate) use self::catalog::{body_kind, verb_words};
pub use self::{
    aggregated::aggregated,
    catalog::Catalog,
    legacy::{core_versions, group, groups, resources},
};
