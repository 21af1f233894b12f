//! A Kubernetes to embed: [`Cluster`] is a whole control plane in this process, [`Sim`] one under a simulated clock.
//!
//! This crate joins the rooms and holds no logic of its own. Each room is re-exported under its short name, so that
//! one dependency is enough.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use k8s_apiserver as apiserver;
pub use k8s_controllers as controllers;
pub use k8s_core as core;
pub use k8s_net as net;
pub use k8s_node as node;
pub use k8s_reconcile as reconcile;
pub use k8s_sched as sched;
pub use k8s_store as store;
pub use k8s_wire as wire;

pub mod cluster;
pub mod cluster_dns;
pub mod control_plane;
pub mod credentials;
mod custom_kind;
mod inert;
pub mod machine;
pub mod reviews;
pub mod service_account;
pub mod sim;

pub use cluster::{Cluster, ClusterBuilder, ClusterError};
pub use credentials::Credentials;
pub use custom_kind::{kind_of, split_api_version};
pub use inert::INERT;
pub use sim::Sim;

/// What most programs that embed a cluster or write a controller name.
pub mod prelude {
    /// The typed Kubernetes API, by group and version.
    pub use crate::core::api::api as types;
    pub use crate::{
        Cluster, Sim,
        core::{
            api::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            env::{Env, Environment},
            object::ObjectKey,
            request::Options,
            resource::{Draft, Resource, Stored},
            status::{ApiError, ApiResult},
        },
        reconcile::{Client, Controller, Cx, InformerScope, Next, Reconciler, children::controller_reference},
    };
}
