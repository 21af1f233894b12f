//! The seams between rooms: traits that one room calls and another gives.

pub mod grpc;
pub mod network;
pub mod node;
pub mod traffic;
pub mod transport;
pub mod webhook;
