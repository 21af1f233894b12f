//! The built-in controllers: each a pure plan and a thin shell.
//!
//! A plan is a function of what is wanted and what is there; it says what to do and never does it. The shells
//! (feature `service`, on by default) run the plans as reconcilers.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "service")]
pub mod cluster_role_aggregation;
#[cfg(feature = "service")]
pub mod custom_kinds;
pub mod deployment;
pub mod disruption;
#[cfg(feature = "service")]
mod disruption_target;
pub mod endpoint_slice;
pub mod endpoints;
#[cfg(feature = "service")]
pub mod garbage;
pub mod legacy_token_cleaner;
#[cfg(feature = "service")]
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod ownership;
pub mod pod_gc;
pub mod pod_state;
pub mod policy_status;
#[cfg(feature = "service")]
pub mod protection;
pub mod replica_set;
#[cfg(feature = "service")]
pub mod replication_controller;
#[cfg(feature = "service")]
pub mod resource_quota;
#[cfg(feature = "service")]
pub mod root_ca;
#[cfg(feature = "service")]
pub mod service_account;
pub mod service_account_tokens;
#[cfg(feature = "service")]
pub mod service_cidr;
mod service_pods;
#[cfg(feature = "service")]
pub mod start;
pub mod taint_eviction;
