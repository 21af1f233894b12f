//! The node: what turns a Pod bound to this machine into running containers.
//!
//! [`plan`] decides, [`agent`] does, [`runtime`] is the seam to what runs containers; [`native`] and [`hollow`] are given
//! here. [`image`] keeps images for `native`, and [`shim`] is the small process beside each of its containers.
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

#[cfg(feature = "service")]
pub mod agent;
pub mod environment;
pub mod hollow;
pub mod image;
pub mod logs;
pub mod native;
pub mod node;
pub mod plan;
pub mod probe;
pub mod runtime;
#[cfg(feature = "service")]
pub mod server;
pub mod shim;
pub mod status;
mod sys;
pub mod volume;
