//! Scheduling as a pure library, and the service around it.
//!
//! [`schedule_one`] decides where a pod goes from a [`Snapshot`] of the nodes: no server, no clock, no I/O. The
//! service (feature `service`, on by default) keeps a snapshot true from informers, queues pods and binds them.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod decide;
pub mod framework;
#[cfg(feature = "service")]
pub mod metrics;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
#[cfg(feature = "service")]
pub mod service;
pub mod snapshot;

pub use decide::{Decision, schedule_one};
pub use framework::Profile;
pub use pod::PodInfo;
pub use snapshot::Snapshot;
