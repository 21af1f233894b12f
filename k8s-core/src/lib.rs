//! The object model of the cluster: values and the pure functions over them.
//!
//! No I/O, no clock, no async runtime, no HTTP. What other rooms share is named here as traits ([`env`], [`seam`]).
#![forbid(unsafe_code)]

pub mod env;
pub mod seam;
