//! The inner server in process, over the memory store, under a paused clock.

mod admission;
mod aggregation;
mod bad_input;
mod bad_kinds;
pub(crate) mod clock;
mod crud;
mod definitions;
mod deletion;
mod events;
pub mod fixture;
mod identity;
mod limits;
pub(crate) mod matrix;
mod node_matrix;
mod nodes;
mod pages;
pub(crate) mod samples;
mod secret_tokens;
mod services;
mod watches;
mod wire;
mod witnesses;
