//! What programs do with the client.

pub mod controllers;
pub mod derived;
pub mod discovery;
pub mod objects;
pub mod pods;
pub mod watching;
