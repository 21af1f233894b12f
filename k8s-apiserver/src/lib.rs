//! Placeholder.
#![forbid(unsafe_code)]
pub mod auth;
pub mod discovery;
mod openapi;
pub mod outer;
