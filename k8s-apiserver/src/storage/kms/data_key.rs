//! The keys that a service's keys encrypt, and how values are sealed with them.

use aws_lc_rs::{
    aead::LessSafeKey,
    hkdf::{HKDF_SHA256, Prk},
    rand,
};

use super::message::Derives;
use crate::storage::cipher::{NotSealed, gcm, open_gcm, seal_gcm};

/// How many bytes a seed has, and what each value's key is derived with, and that key.
const SEED_BYTES: usize = 32;

/// A key, or a seed from which each value has a key of its own.
pub(super) enum DataKey {
    /// AES-GCM. Only what others wrote is opened with it.
    Itself(LessSafeKey),
    /// HKDF with SHA-256, its expanding half: 32 random bytes stand before each value and make its key.
    Seed(Prk),
}

/// A new seed, from the operating system's randomness.
pub(super) fn generate() -> Result<[u8; SEED_BYTES], NotSealed> {
    let mut seed = [0; SEED_BYTES];
    rand::fill(&mut seed).map_err(|_| NotSealed)?;
    Ok(seed)
}

impl DataKey {
    /// A key from what the service decrypted; `None` if it has a wrong number of bytes.
    pub fn new(derives: Derives, plain: &[u8]) -> Option<Self> {
        match derives {
            Derives::Itself => gcm(plain).map(Self::Itself),
            Derives::PerValue if plain.len() < SEED_BYTES => None,
            Derives::PerValue => Some(Self::Seed(Prk::new_less_safe(HKDF_SHA256, plain))),
        }
    }

    /// Appends the sealed value.
    pub fn seal(&self, context: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NotSealed> {
        match self {
            Self::Itself(key) => seal_gcm(key, context, plain, out),
            Self::Seed(seed) => {
                let info = generate()?;
                out.extend_from_slice(&info);
                seal_gcm(&derived(seed, &info).ok_or(NotSealed)?, context, plain, out)
            }
        }
    }

    /// What was sealed; `None` if another key or context sealed it, or if it was altered.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Itself(key) => open_gcm(key, context, sealed),
            Self::Seed(seed) => {
                let (info, sealed) = sealed.split_first_chunk::<SEED_BYTES>()?;
                open_gcm(&derived(seed, info)?, context, sealed)
            }
        }
    }
}

fn derived(seed: &Prk, info: &[u8]) -> Option<LessSafeKey> {
    let mut key = [0; SEED_BYTES];
    seed.expand(&[info], HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    gcm(&key)
}
