//! What is encrypted in the store, and with which keys.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    envelope,
    keys::{KeyError, Keys},
};

/// Where Secrets are kept.
pub const SECRETS: &str = "/registry/secrets/";

/// What is encrypted, and with which keys. Cloning shares.
///
/// A plain value under a prefix that is to be encrypted is read as it is, and is encrypted when it is written next.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The first place that a key belongs to counts.
    pub(super) places: Arc<[Place]>,
}

/// Some prefixes, and what is done with values under them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Each ends in `/`.
    pub prefixes: Vec<String>,
    /// What opens values; empty if nothing does.
    pub keys: Keys,
    /// What is done with values that are written.
    pub writes: Writes,
}

/// What is done with values that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// The first key seals them.
    Sealed,
    /// Nothing: what is sealed becomes plain at its next write.
    Plain,
}

impl Encryption {
    /// Encrypts Secrets.
    pub fn of_secrets(keys: Keys) -> Self {
        let place = Place { prefixes: vec![SECRETS.into()], keys, writes: Writes::Sealed };
        Self { places: Arc::new([place]) }
    }

    fn place(&self, key: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())))
    }

    /// The form in which a value is stored: sealed, or `None` to store it as it is.
    pub(super) fn seal(&self, key: &str, plain: &[u8]) -> Result<Option<Bytes>, KeyError> {
        match self.place(key) {
            Some(Place { keys, writes: Writes::Sealed, .. }) => {
                keys.first().map(|first| envelope::seal(first, key, plain)).transpose()
            }
            _ => Ok(None),
        }
    }

    /// What a stored value says: `None` if it is plain already. The error says why it cannot be told.
    pub(super) fn open(&self, key: &str, stored: &[u8]) -> Result<Option<Bytes>, String> {
        if !envelope::is_sealed(stored) {
            return Ok(None);
        }
        match self.place(key) {
            Some(place) => envelope::open(&place.keys, key, stored).map(Some),
            None => Err(without_key(stored)),
        }
    }

    /// Whether a value would be stored in another form if it were written now.
    pub(super) fn is_stale(&self, key: &str, stored: &[u8]) -> bool {
        match self.place(key) {
            Some(Place { keys, writes: Writes::Sealed, .. }) => {
                keys.first().is_some_and(|first| !envelope::is_sealed_by(stored, first))
            }
            Some(_) => envelope::is_sealed(stored),
            None => false,
        }
    }
}

/// Why a sealed value that no key was given for cannot be read.
pub(crate) fn without_key(sealed: &[u8]) -> String {
    let id = envelope::key_id(sealed).unwrap_or_default();
    format!("it is encrypted with {id}, and this server was given no key for it")
}
