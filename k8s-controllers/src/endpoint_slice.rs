//! The endpoint slice controller: which pods stand behind a service.

pub mod plan;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::controller;
