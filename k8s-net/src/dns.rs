//! Cluster DNS: names for Services, their endpoints and pods, and everybody else's names by way of the machine's resolvers.
//!
//! Follows the Kubernetes specification of DNS-based service discovery, version 1.1. [`answer`] decides from an [`Index`]
//! of the cluster's objects and never asks anybody; [`Dns`] joins it to informers, to sockets and to a [`Forwarder`] for
//! names outside of the zone. [`publish`] gives the server its well-known address, a Service that the proxies lead to it.
//!
//! Where the specification leaves room: pod names (`10-1-0-2.ns.pod`) exist in every namespace that exists, whether or
//! not a pod has the address; endpoints have names behind cluster IPs as well as behind headless Services; an endpoint
//! without a host name is called by its address with dashes; there are no zone transfers and no signatures.

mod answer;
mod cache;
mod follow;
mod forward;
mod index;
mod publish;
mod request;
mod serve;
mod upstream;
mod zone;

pub use answer::{Answer, Outcome, answer};
pub use forward::{Forwarder, Unresolved};
pub use index::Index;
pub use publish::{Published, publish};
pub use serve::{Dns, Sockets};
pub use upstream::upstreams;
pub use zone::{Zone, ZoneError};

/// The message format that questions and answers are made of.
pub use hickory_proto as proto;
