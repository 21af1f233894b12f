//! The form of a sealed value: `k8s:enc:PROVIDER:v1:NAME:`, then what the provider's cipher writes.
//!
//! The forms and the context (the key of the store) are upstream's. The name says which key opens the value. What a
//! key management service seals has a form of its own, after `k8s:enc:kms:v2:NAME:` (see [`super::kms`]).

use bytes::Bytes;

use super::{
    cipher::Provider,
    keys::{EncryptionKey, KeyError, Keys},
};

/// What every sealed value begins with, whoever sealed it. No JSON does.
const SEALED: &[u8] = b"k8s:enc:";
/// How much of what should be a key id is shown.
const MAX_SHOWN_BYTES: usize = 120;

/// Which key a value is sealed with, for people: `aesgcm:v1:NAME`. `None` if it is plain.
pub(crate) fn key_id(value: &[u8]) -> Option<String> {
    let rest = value.strip_prefix(SEALED)?;
    // PROVIDER:VERSION:NAME: and then bytes of any kind.
    let mut colons = rest.iter().take(MAX_SHOWN_BYTES).enumerate().filter(|(_, byte)| **byte == b':');
    let end = colons.nth(2).map_or(rest.len().min(MAX_SHOWN_BYTES), |(at, _)| at);
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Whether a value is sealed, by whomever.
pub(crate) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(SEALED)
}

/// What stands before a value that this key has sealed.
fn prefix(key: &EncryptionKey) -> String {
    format!("k8s:enc:{}:v1:{}:", key.provider().name(), key.name())
}

/// Whether this key has sealed a value.
pub(super) fn is_sealed_by(value: &[u8], key: &EncryptionKey) -> bool {
    value.starts_with(prefix(key).as_bytes())
}

/// Seals a value that is kept under `context`.
pub(super) fn seal(key: &EncryptionKey, context: &str, plain: &[u8]) -> Result<Bytes, KeyError> {
    let mut out = prefix(key).into_bytes();
    key.seal(context, plain, &mut out)?;
    Ok(out.into())
}

/// Opens a sealed value, or says why that cannot be.
pub(super) fn open(keys: &Keys, context: &str, sealed: &[u8]) -> Result<Bytes, String> {
    let id = key_id(sealed).unwrap_or_default();
    let foreign = || format!("it is encrypted as {id}, which this server does not read");
    let rest = sealed.strip_prefix(SEALED).ok_or_else(foreign)?;
    let parts = Provider::ALL.into_iter().find_map(|provider| {
        let rest = rest.strip_prefix(provider.name().as_bytes())?.strip_prefix(b":v1:")?;
        let end = rest.iter().position(|byte| *byte == b':')?;
        Some((provider, str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
    });
    let (provider, name, rest) = parts.ok_or_else(foreign)?;
    let Some(key) = keys.find(provider, name) else {
        let there: Vec<&str> = keys.names().collect();
        let there = if there.is_empty() { "none".into() } else { there.join(", ") };
        return Err(format!("it is encrypted with {id}, and the keys given are {there}"));
    };
    let plain = key.open(context, rest);
    plain.map(Bytes::from).ok_or_else(|| {
        format!("{id} does not open it: the key is another one of that name, or the value was altered or moved here")
    })
}
