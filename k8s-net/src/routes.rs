//! The ways to other nodes' pods: one route for each pod network of each other node.
//!
//! [`plan`] decides from the cluster's Nodes which network is reached through which machine; [`Routes`] brings the kernel
//! to that. A machine on a shared link is the gateway itself (what upstream's flannel calls `host-gw`); to any other,
//! packets go in UDP (VXLAN), since a router between them knows nothing of pods. [`follow`] keeps both true to a cluster.
//!
//! Invariant: a route that was not made here is never changed, replaced or removed. Ours carry a number of their own
//! ([`PROTOCOL`]), so that a restarted program knows them.

mod follow;
mod kernel;
mod overlay;
mod plan;

pub use follow::follow;
pub use kernel::{PROTOCOL, Routes, Unreached};
pub use overlay::OVERLAY;
pub use plan::{Peer, Plan, Refused, View, plan};
