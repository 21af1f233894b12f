//! The taint eviction controller: pods leave nodes whose `NoExecute` taints they do not tolerate.
//!
//! Follows upstream's controller of the same name: a pod without a toleration goes at once, one whose toleration is
//! limited goes when its time is up, and stays if the taint goes before.

pub mod plan;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::controller;
