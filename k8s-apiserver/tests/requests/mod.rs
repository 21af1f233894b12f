//! Requests that nobody thought of: made from the server's own OpenAPI documents, and then spoiled.
//!
//! A *round* is some thousands of them, under a seed, by an administrator, to a server of their own in this process. What
//! the server answers is its matter, but it answers, soon, and never with 500. Left out is only what does not end by
//! itself: watches and connections.

mod documents;
mod making;
mod round;
mod words;

pub use round::round;
