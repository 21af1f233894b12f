//! Pod garbage collection: pods that nobody else will ever take away.
//!
//! Follows upstream's controller, by changes instead of by rounds: the oldest of too many finished pods; pods bound to
//! a node that is gone; pods on their way out that never had a node; pods on their way out of a node that an operator
//! marked as out of service.

#[cfg(feature = "service")]
mod nodes;
pub mod plan;
#[cfg(feature = "service")]
mod pods;

#[cfg(feature = "service")]
pub use pods::{Terminated, terminated};

#[cfg(feature = "service")]
use k8s_reconcile::{Client, controller::Running};

/// Starts the three controllers that share the work.
#[cfg(feature = "service")]
pub fn start(client: &Client) -> [Running; 3] {
    [
        nodes::controller().start(client.clone()),
        pods::unscheduled().start(client.clone()),
        terminated(plan::FINISHED_LIMIT).start(client.clone()),
    ]
}
