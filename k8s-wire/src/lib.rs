//! What speaks HTTP for everyone: TLS, accept and drain, WebSocket and SPDY streams, health and metrics answers, the
//! network transport and client configuration.
//!
//! This is the runtime shell of the workspace: [`env::System`] is the one place that asks the operating system for
//! time and starts tasks. Nothing here knows what a Pod is.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod body;
pub mod client;
pub mod env;
pub mod health;
pub mod http1;
pub mod pki;
pub mod port_forward;
pub mod remote_command;
pub mod serve;
pub mod spdy;
pub mod tls;
pub mod websocket;
