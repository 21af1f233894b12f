//! The node lifecycle controller: what a silent node is taken for, and which taints say so.
//!
//! Follows upstream's controller. A node is alive as long as its Lease is renewed or its status written. One that is
//! silent for longer than its grace ([`plan::Graces`]) has its conditions turned to `Unknown` and its pods to not ready;
//! taints keep new pods away, and hand the pods that are there to the taint eviction controller. How fast nodes are handed
//! over depends on how many of their zone are down ([`zones`]).

pub mod health;
pub mod plan;
#[cfg(feature = "service")]
mod shell;
pub mod taints;
pub mod zones;
#[cfg(feature = "service")]
pub use shell::controller;
