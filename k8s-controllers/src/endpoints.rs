//! The endpoints controller: the older, single object that names the pods behind a service.
//!
//! Follows upstream's controller. New clients read EndpointSlices; this is for those that never learnt to.

pub mod plan;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::controller;
