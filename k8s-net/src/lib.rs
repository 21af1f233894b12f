//! The network of one node: what makes a Service's address lead to its pods, and what connects a pod at all.
//!
//! * [`proxy`] turns Services and EndpointSlices into [`proxy::Rules`] (a pure function) and lets a backend bring
//!   the kernel to them.
//! * [`pod`] gives pods an address: [`pod::Routed`] implements [`k8s_core::seam::network::PodNetwork`].
//!
//! Each works without the other, and both leave alone whatever tables, links and addresses they did not make.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod pod;
pub mod proxy;

mod conntrack;
mod netfilter;
mod nft;

pub use nft::NftError;
