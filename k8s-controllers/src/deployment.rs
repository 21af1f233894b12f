//! The deployment controller: replica sets that roll from one template to the next.

pub mod plan;
pub mod rolling;
pub mod history;
pub mod status;
#[cfg(feature = "service")]
mod shell;
#[cfg(feature = "service")]
pub use shell::controller;
