//! The replica set controller: as many pods as asked for, no more and no less.

pub mod plan;
pub mod replicated;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::{Replicas, controller};
