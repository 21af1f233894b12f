//! The object model of the cluster: values and the pure functions over them.
//!
//! No I/O, no clock, no async runtime, no HTTP. What other rooms share is named here as traits ([`mod@env`], [`seam`]).
#![forbid(unsafe_code)]

/// The typed Kubernetes API: the ecosystem's own types, at the version this workspace serves.
pub use k8s_openapi as api;

pub mod admission_policy;
pub mod apply;
pub mod cel;
pub mod custom;
pub mod defaulting;
pub mod doc;
pub mod env;
pub mod go_duration;
pub mod metrics;
pub mod names;
pub mod object;
pub mod patch;
pub mod path;
pub mod quantity;
pub mod quota;
pub mod registry;
pub mod request;
pub mod resource;
pub mod schema;
pub mod seam;
pub mod selector;
pub mod signal;
pub mod status;
pub mod strategy;
pub mod structure;
pub mod table;
pub mod token_secret;
pub mod toleration;
