//! The network of one node: what makes a Service's address lead to its pods, what connects a pod at all, and the names
//! that pods find each other by.
//!
//! * [`proxy`] turns Services and EndpointSlices into [`proxy::Rules`] (a pure function) and lets a backend bring
//!   the kernel to them.
//! * [`pod`] gives pods an address: [`pod::Routed`] implements [`k8s_core::seam::network::PodNetwork`].
//! * [`routes`] leads to the pods of other nodes.
//! * [`dns`] answers questions about the cluster's names, and passes on all others.
//!
//! Each works without the others, and all leave alone whatever tables, links and addresses they did not make.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod dns;
pub mod pod;
pub mod proxy;
pub mod routes;

mod conntrack;
mod netfilter;
mod netlink;
mod nft;

pub use nft::NftError;
