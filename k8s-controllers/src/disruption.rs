//! The disruption controller: how many pods of each PodDisruptionBudget may be evicted right now.
//!
//! Follows upstream's controller. The API server takes one from the budget for every eviction; this controller counts
//! anew whenever a pod changes. An eviction whose pod does not go within [`plan::DELETION_LIMIT`] is given back.

pub mod plan;
#[cfg(feature = "service")]
mod scale;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::controller;
