//! Encryption: its forms, the store's promises with it, and a server over it.

mod forms;
mod kms;
mod plugin;
mod promises;
mod server;

use super::{Encryption, EncryptionKey, Keys};

/// A key whose bytes are all the same.
fn key(name: &str, byte: u8) -> EncryptionKey {
    EncryptionKey::new(name, &[byte; 32]).unwrap()
}

fn keys(all: &[(&str, u8)]) -> Keys {
    Keys::new(all.iter().map(|(name, byte)| key(name, *byte)).collect()).unwrap()
}

fn secrets(all: &[(&str, u8)]) -> Encryption {
    Encryption::of_secrets(keys(all))
}
