//! CBOR (RFC 8949), as upstream writes and reads it: self-described, strings as byte strings, keys in the order of their
//! bytes, so that equal documents are equal bytes.
//!
//! What has no counterpart in JSON is refused: other keys than strings, duplicate keys, numbers that are not finite,
//! `undefined`, tags that change a meaning. Nothing is set aside for a length before its bytes are there.

mod decode;
mod encode;

#[cfg(test)]
mod tests;

pub use self::{
    decode::decode,
    encode::{encode, event},
};

/// Says that CBOR follows: tag 55799.
const SELF_DESCRIBED: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// The major types.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
