//! The object model of the cluster: values and the pure functions over them.
//!
//! No I/O, no clock, no async runtime, no HTTP. What other rooms share is named here as traits ([`mod@env`], [`seam`]).
#![forbid(unsafe_code)]

/// The typed Kubernetes API: the ecosystem's own types, at the version this workspace serves.
pub use k8s_openapi as api;

pub mod env;
pub mod doc;
pub mod schema;
pub mod quantity;
pub mod structure;
pub mod strategy;
pub mod defaulting;
pub mod seam;
pub mod status;
pub mod names;
pub mod object;
pub mod apply;
pub mod patch;
pub mod path;
pub mod request;
pub mod registry;
pub mod resource;
pub mod selector;
pub mod table;
