//! The outer service over a door of our own: what goes in as HTTP, and what comes out.

mod answers;
mod bad_input;
mod connections;
mod fake;
mod insider;
mod kubectl;
mod protobuf;
mod transport;
