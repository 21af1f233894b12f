//! Reconcile loops for everyone: a client, shared informers, a work queue, the controller runtime, leader election.
//!
//! The same code runs against the API server in this process, one across the network, or any other Kubernetes:
//! all it sees is a [`Client`] over a transport.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod children;
pub mod client;
pub mod controller;
pub mod cx;
pub mod event;
pub mod informer;
pub mod leader;
pub mod metrics;
pub mod queue;

pub use client::{Api, Client};
pub use controller::{Controller, Next, Reconciler, Retry, RetryAdvice};
pub use cx::Cx;
pub use informer::{Informer, InformerScope};
