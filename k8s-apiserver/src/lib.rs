//! The API server, as a library: the only door to the store.
//!
//! The **inner** service ([`ApiServer`]) takes requests of established callers and runs authorization, admission and
//! the registry over a watch cache. The **outer** service ([`outer`]) is HTTP around it: TLS identity, authentication,
//! negotiation, encoding, discovery. Components in the same process call the inner one under identities of their own.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod admission;
mod aggregator;
pub mod audit;
pub mod auth;
pub mod cache;
mod conversion;
mod definitions;
pub mod discovery;
pub mod fairness;
mod openapi;
pub mod outer;
mod registry;
mod server;
pub mod storage;
pub mod webhook;

pub use self::{
    registry::{MAX_OBJECT_BYTES, fence_key},
    server::{Aggregation, ApiServer, ApiServerBuilder},
};
