//! The pod network: connects a pod's network namespace to its node.
//!
//! [`Routed`] is the one implementation so far; [`AwaitedNetwork`] is it as soon as the Node says with which addresses. The work of upstream's CNI plugins `ptp`, `host-local` and `portmap`.

mod awaited;
mod leases;
mod links;
mod routed;
mod table;

pub use awaited::{AwaitedNetwork, pod_cidrs};
pub use leases::gateway;
pub use routed::{Routed, RoutedConfig};
