//! Requests that nobody thought of: made from the server's own OpenAPI documents, and then spoiled.
//!
//! A *round* is some thousands of them, under a seed, by an administrator, to a server of their own in this process. Half
//! of them ought to succeed, so that there is something to ask about and every operation is reached; the others are wild.
//! What the server answers is its matter, but it answers, soon, and never with 500. Of watches the beginning is read.
//! Left out is only what leads on to others: connections.

mod documents;
mod forms;
mod known;
mod maker;
mod round;
#[path = "../../src/server/tests/samples.rs"]
mod samples;
mod seeds;
mod sound;
mod wild;
mod words;

pub use round::round;
