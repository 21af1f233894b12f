//! Encryption keys, and the file that they are kept in.

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::cipher::{Cipher, NotSealed, Provider};

/// The longest name of a key.
const MAX_NAME_BYTES: usize = 63;

/// A named key. Of AES-GCM its nonces are random: it is good for 2^32 values, so rotate it long before.
pub struct EncryptionKey {
    name: String,
    provider: Provider,
    bytes: Vec<u8>,
    cipher: Cipher,
}

/// Keys in an order: the first one writes, all of them read. Cloning shares.
///
/// To rotate, put a new key first, and take an old one out when nothing is sealed with it any more.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<[EncryptionKey]>);

/// What is wrong with keys.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct KeyError {
    /// Where: a line, a field.
    pub place: String,
    /// What is wrong there, and what is expected.
    pub why: String,
}

impl EncryptionKey {
    /// A key for AES-GCM of 16, 24 or 32 bytes. The name is 1 to 63 letters, digits, `-`, `_` and `.`: stored values
    /// say it.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self, KeyError> {
        Self::of(Provider::AesGcm, name, bytes)
    }

    /// The same for any provider.
    pub(super) fn of(provider: Provider, name: &str, bytes: &[u8]) -> Result<Self, KeyError> {
        let error = |why: &str| KeyError { place: format!("encryption key {name:?}"), why: why.into() };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
            return Err(error("its name must be 1 to 63 letters, digits, '-', '_' and '.'"));
        }
        let lengths = || format!("it has {} bytes; {} are expected", bytes.len(), provider.lengths());
        let cipher = provider.cipher(bytes).ok_or_else(|| error(&lengths()))?;
        Ok(Self { name: name.into(), provider, bytes: bytes.into(), cipher })
    }

    /// A new key of 32 bytes with a name of its own, from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let (mut bytes, mut id) = ([0; 32], [0; 4]);
        let filled = rand::fill(&mut bytes).and_then(|()| rand::fill(&mut id));
        filled.map_err(|_| no_randomness("a new encryption key"))?;
        Self::new(&format!("key-{:08x}", u32::from_be_bytes(id)), &bytes)
    }

    /// What stored values call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stored values call its sort.
    pub(super) fn provider(&self) -> Provider {
        self.provider
    }

    /// Appends what is stored of `plain`. Where the provider heeds it, it opens under the same `context` only.
    pub(super) fn seal(&self, context: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let sealed = self.cipher.seal(context, plain, out);
        sealed.map_err(|NotSealed| KeyError { place: self.name.clone(), why: "the value cannot be encrypted".into() })
    }

    /// What [`Self::seal`] was given; `None` if another key or context sealed it, or if it was altered.
    pub(super) fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.cipher.open(context, sealed)
    }
}

fn no_randomness(what: &str) -> KeyError {
    KeyError { place: what.into(), why: "the operating system gives no randomness".into() }
}

impl Keys {
    /// These keys, the first of which writes. At least one, and no two of a provider with one name.
    pub fn new(keys: Vec<EncryptionKey>) -> Result<Self, KeyError> {
        let error = |why: String| KeyError { place: "encryption keys".into(), why };
        for (place, key) in keys.iter().enumerate() {
            if keys[..place].iter().any(|other| other.name == key.name && other.provider == key.provider) {
                return Err(error(format!("two are called {:?}; stored values would not say which", key.name)));
            }
        }
        if keys.is_empty() {
            return Err(error("there is none; at least one is expected".into()));
        }
        Ok(Self(keys.into()))
    }

    /// One new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(vec![EncryptionKey::generate()?])
    }

    /// Reads a key file: a key per line, as its name and its bytes in base64, the one that writes first. Empty lines
    /// and lines that begin with `#` are passed over.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // What is wrong is told without what the line says: it may be a key.
            let error = |why: String| KeyError { place: format!("line {}", number + 1), why };
            let expected = || error("a name and 16, 24 or 32 bytes in base64 are expected".into());
            let (name, secret) = line.split_once(char::is_whitespace).ok_or_else(expected)?;
            let bytes = STANDARD.decode(secret.trim()).map_err(|_| expected())?;
            keys.push(EncryptionKey::new(name, &bytes).map_err(|why| error(why.to_string()))?);
        }
        Self::new(keys)
    }

    /// The text of a key file that holds them. Secret.
    pub fn to_text(&self) -> String {
        let mut text =
            String::from("# The first key encrypts, all of them decrypt. Losing a key loses what it encrypts.\n");
        for key in self.0.iter() {
            text.push_str(&format!("{} {}\n", key.name, STANDARD.encode(&key.bytes)));
        }
        text
    }

    /// The key that writes.
    pub fn first(&self) -> Option<&EncryptionKey> {
        self.0.first()
    }

    /// The key of a provider and a name.
    pub(super) fn find(&self, provider: Provider, name: &str) -> Option<&EncryptionKey> {
        self.0.iter().find(|key| key.provider == provider && key.name == name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(EncryptionKey::name)
    }
}

/// Only the name: the rest is secret.
impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EncryptionKey").field(&self.name).finish()
    }
}
