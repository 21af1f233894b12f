//! The pod network: connects a pod's network namespace to its node.
//!
//! [`Routed`] is the one implementation so far. The work of upstream's CNI plugins `ptp`, `host-local` and `portmap`.

mod leases;
mod links;
mod routed;
mod table;

pub use leases::gateway;
pub use routed::{Routed, RoutedConfig};
