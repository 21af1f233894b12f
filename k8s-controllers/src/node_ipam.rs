//! The node IPAM controller: gives each Node the networks that its pods have their addresses from.
//!
//! Follows upstream's `RangeAllocator`. Each Node gets one block of each configured range, once; what a Node already has
//! is kept. No two Nodes get the same block: a [`ledger`] remembers every block that was given or promised, before it is
//! written anywhere. Blocks that were given back are used again as late as possible.

pub mod ledger;
pub mod range;
#[cfg(feature = "service")]
mod shell;

pub use ledger::Ledger;
pub use range::{Range, RangeError};
#[cfg(feature = "service")]
pub use shell::controller;
