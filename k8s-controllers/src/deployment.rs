//! The deployment controller: replica sets that roll from one template to the next.

pub mod history;
pub mod plan;
pub mod rolling;
#[cfg(feature = "service")]
mod shell;
pub mod status;
#[cfg(feature = "service")]
pub use shell::controller;

pub(crate) use rolling::resolve;
