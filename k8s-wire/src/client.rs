//! Network clients: where a cluster is and who we are there, and the transports over it.

pub mod answer;
mod config;
mod dial;
mod documents;
mod grpc;
mod kubeconfig;
mod route;
mod transport;
mod watch;
pub mod webhook;

#[cfg(test)]
mod tests;

pub use self::{
    config::{Config, ConfigError, Token},
    dial::{Dialer, HttpNodeDialer, HttpPodDialer},
    documents::{Documents, MAX_DOCUMENT_BYTES},
    grpc::{MAX_GRPC_ANSWER_BYTES, UnixGrpcCaller},
    transport::HttpTransport,
    watch::events,
    webhook::HttpWebhookCaller,
};
