//! The node: what turns a Pod bound to this machine into running containers.
//!
//! [`plan`] decides, [`agent`] does, [`runtime`] is the seam to what runs containers; [`native`] and [`hollow`] are given
//! here. [`image`] keeps images for `native`, and [`shim`] is the small process beside each of its containers.
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod plan;
pub mod status;
pub mod environment;
pub mod probe;
pub mod volume;
pub mod node;
#[cfg(feature = "service")]
pub mod agent;
#[cfg(feature = "service")]
pub mod server;
pub mod runtime;
pub mod image;
pub mod logs;
pub mod hollow;
pub mod native;
pub mod shim;
mod sys;
