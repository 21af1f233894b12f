//! What lies between the API server and its store: values that are encrypted where they are kept.
//!
//! [`Encrypted`] is a store around a store. Above it everything is plain; below it, under the prefixes that
//! [`Encryption`] names, there are sealed values only. Guards, revisions, leases and attachments pass through, and
//! digests are of what is plain.

mod cipher;
mod configuration;
mod encrypted;
mod encryption;
mod envelope;
mod keys;
mod kms;

#[cfg(test)]
mod tests;

pub use self::{
    encrypted::Encrypted,
    encryption::{Encryption, SECRETS, ServiceError},
    keys::{EncryptionKey, KeyError, Keys},
    kms::{MAX_SEEDS, PROBE_AGAIN, PROBE_EVERY, WRITABLE_FOR},
};
pub(crate) use self::{
    encryption::without_key,
    envelope::{is_sealed, key_id},
};
