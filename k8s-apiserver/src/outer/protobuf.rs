//! Protobuf, as upstream's Go programs speak it of built-in kinds: by the numbers that the schema has.
//!
//! Upstream's envelope is four magic bytes and a `runtime.Unknown` that names the kind. What Go's JSON would leave out
//! is left out of what is read, and what Go writes although it is empty is written, so that a document says the same
//! whichever way it came, and Go reads from our bytes what it reads from its own.

mod answer;
mod decode;
mod encode;
mod json;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub use self::{
    answer::{Message, status, watch_frame},
    decode::decode,
};

const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read or written.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are no protobuf (or no JSON), or not what the schema says.
    Malformed(&'static str),
    /// The kind has no protobuf form (custom kinds have none).
    UnknownKind(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => f.write_str(why),
            Self::UnknownKind(kind) => write!(f, "{kind} has no protobuf form; send application/json"),
        }
    }
}
